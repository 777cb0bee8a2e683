"""What starts many services: a manager is a name, and how its files are written for a list of services.

Each gets the same job: start all at once, take what they write, start anew what has ended, as soon as it can.
"""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import FOLDER, debian_version, pinned_versions

REQUIREMENTS = FOLDER / "requirements.txt"
BARE = "bare"
FILES = "into files, on a tmpfs: it has no other way"
PIECES = "as it comes: lines of several services may be mixed"
AFTER_A_SECOND = "after a life of more than a second: else it waits until a second is over"
CHECK_DELAY = 0.01
LEAST = 0.001
CHPST = ("chpst", "-u")


@dataclass(frozen=True)
class Service:
    """A service: a name, and the words of its command."""

    name: str
    words: tuple[str, ...]
    restart: bool = True
    user: str = ""
    """Who it runs as, if that is not the manager's user."""
    after: str = ""
    """The service that it depends on, one before it."""


Write = Callable[[Path, Path, Sequence[Service]], list[str]]
"""Writes what a manager needs into a folder, with another one for logs, and returns the words that start it."""


@dataclass(frozen=True)
class Manager:
    """What starts many services, as the benchmark sees it."""

    name: str
    program: str
    """Its file; empty if it is not there."""
    write: Write
    package: str = ""
    """The package of Debian that it comes from; empty for what is from elsewhere."""
    signal: int = signal.SIGTERM
    """What tells it to stop."""
    before: Callable[[Path], None] | None = None
    """What is to be done before that, with the folder of its files."""
    has_users: bool = True
    """Whether it can start services as other users."""
    share: float = 1.0
    """How much of the output it is given to relay: what is slow gets less."""
    to_files: bool = False
    """Whether it writes that into files, and cannot pass it on."""
    restarts: bool = True
    direct: Write | None = None
    """How it is written so that its services write to its own stdout, where that is something else."""
    tools: tuple[str, ...] = ()
    """The programs that it is made of, beside its own."""
    eager: Write | None = None
    """How it is written to restart as soon as it can, where that is not what it does anyway."""
    notes: dict[str, str] = field(default_factory=dict)
    """What there is to say about its value in a row, by the row's key."""

    def stop(self, pid: int, folder: Path) -> None:
        """Tell it to stop, with all of its services."""
        if self.before:
            self.before(folder)
        os.kill(pid, self.signal)


def _script(path: Path, *words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexec {' '.join(words)}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_manager(name: str, binary: str, *options: str, output: str = "named") -> Manager:
    """One of our own builds, with the least delay."""
    path = str(Path(binary).absolute())

    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        file = folder / "services.toml"
        file.write_text("\n".join(_table(service) + f"output = {output!r}\n" for service in services))
        return [path, *options, "-f", str(file)]

    return Manager(name, path, write)


def _table(service: Service) -> str:
    """A service, in TOML: a list of strings without special characters is the same there as in Python."""
    keys: dict[str, object] = {"command": list(service.words)}
    if service.restart:
        keys |= {"restart": "always", "restart_delay": LEAST, "restart_max_delay": LEAST}
    keys |= {"user": service.user} if service.user else {}
    keys |= {"depends_on": [service.after]} if service.after else {}
    return f"[services.{service.name}]\n" + "".join(f"{key} = {value!r}\n" for key, value in keys.items())


def bare_manager(program: str) -> Manager:
    """What does nothing but the thing itself: it executes the same command for each service, and waits."""

    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        return [program, "start", str(len(services)), *services[0].words]

    return Manager(BARE, program, write, restarts=False)


def cat_manager() -> Manager:
    """What does nothing but pass on what services write: cat(1)."""

    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        writers = " & ".join(" ".join(service.words) for service in services)
        return ["sh", "-c", f"({writers} & wait) | exec cat"]

    return Manager(BARE, "cat", write, restarts=False)


def _supervisord(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
    head = f"[supervisord]\nnodaemon=true\nsilent=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={folder}/pid\n"
    pairs = ((1, "stdout"), (2, "stderr"))
    streams = "".join(f"{name}_logfile=/proc/self/fd/{fd}\n{name}_logfile_maxbytes=0\n" for fd, name in pairs)
    tables = [
        f"[program:{service.name}]\ncommand={' '.join(service.words)}\n"
        f"autorestart={str(service.restart).lower()}\nstartsecs=0\n{streams}"
        + (f"user={service.user}\n" if service.user else "")
        + (f"priority={number}\n" if _have_order(services) else "")
        for number, service in enumerate(services, 1)
    ]
    file = folder / "supervisord.conf"
    file.write_text("\n".join([head, *tables]))
    return [shutil.which("supervisord") or "", "-c", str(file)]


def _have_order(services: Sequence[Service]) -> bool:
    return any(service.after for service in services)


def _honcho(program: str) -> Write:
    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        file = folder / "Procfile"
        file.write_text("".join(f"{service.name}: {' '.join(service.words)}\n" for service in services))
        return [program, "-f", str(file), "start"]

    return write


def _circus(program: str, *settings: str) -> Write:
    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        ends = [f"{name} = ipc://{folder}/{name}" for name in ("endpoint", "pubsub_endpoint")]
        tables = [
            f"[watcher:{service.name}]\ncmd = {' '.join(service.words)}\ncopy_env = True\n"
            "stdout_stream.class = StdoutStream\nstderr_stream.class = StdoutStream\n"
            + ("" if service.restart else "respawn = False\n")
            + (f"uid = {service.user}\n" if service.user else "")
            + (f"priority = {len(services) - number}\n" if _have_order(services) else "")
            for number, service in enumerate(services)
        ]
        file = folder / "circus.ini"
        file.write_text("\n".join(["[circus]", *ends, *settings, "", *tables]))
        return [program, "--log-output", os.devnull, str(file)]

    return write


Logger = Callable[[str, Path], Sequence[str]]
"""The words of what takes a service's output, by its name, and a folder for it."""


def _scanned(log: Logger | None, switch: Sequence[str], *words: str) -> Write:
    """For what looks through a folder of services, each with a program `run`, and one in `log` for its output.

    The words of switch come before a user, and the command that is to be executed as that one.
    """

    def write(folder: Path, logs: Path, services: Sequence[Service]) -> list[str]:
        for service in services:
            place = folder / "services" / service.name
            _script(place / "run", *((*switch, service.user) if service.user else ()), *service.words, "2>&1")
            if log:
                _script(place / "log" / "run", *log(service.name, logs / service.name))
        # Of a folder that was changed in this very second runsvdir thinks that it may change again, and waits.
        os.utime(folder / "services", (0, 0))
        return [*words, str(folder / "services")]

    return write


def _svlogd(name: str, logs: Path) -> Sequence[str]:
    logs.mkdir()
    return ("svlogd", str(logs))


def _multilog(name: str, logs: Path) -> Sequence[str]:
    return ("multilog", "s1000000", "n10", str(logs))  # what svlogd does unless told otherwise


def _s6_log(name: str, logs: Path) -> Sequence[str]:
    return ("s6-log", f"'p{name}:'", "1")


def _svc(folder: Path) -> None:
    services = sorted(map(str, (folder / "services").iterdir()))
    subprocess.run(["svc", "-dx", *services, *(f"{name}/log" for name in services)], check=True)


def other_managers(venv: Path) -> list[Manager]:
    """What is compared, as far as it is there: packages of Debian, and those of PyPI in a virtual environment."""
    honcho, circus = str(venv / "bin" / "honcho"), str(venv / "bin" / "circusd")
    found = [
        Manager("supervisord", _path("supervisord"), _supervisord, "supervisor", notes={"flow": PIECES}),
        Manager(
            *("runit", _path("runsvdir"), _scanned(_svlogd, CHPST, "runsvdir"), "runit"),
            signal=signal.SIGHUP,
            to_files=True,
            direct=_scanned(None, CHPST, "runsvdir"),
            tools=("runsv", "chpst"),
            notes={"crash": AFTER_A_SECOND, "flow": FILES, "stop": "by HUP: TERM leaves the services running"},
        ),
        Manager(
            *("s6", _path("s6-svscan"), _scanned(_s6_log, ("s6-setuidgid",), "s6-svscan", "-c", "1000"), "s6"),
            tools=("s6-supervise", "s6-log", "s6-setuidgid"),
        ),
        Manager(
            *("daemontools", _path("svscan"), _scanned(_multilog, ("setuidgid",), "svscan"), "daemontools"),
            before=_svc,
            to_files=True,
            direct=_scanned(None, ("setuidgid",), "svscan"),
            tools=("supervise", "setuidgid"),
            notes={"crash": AFTER_A_SECOND, "flow": FILES, "stop": "by `svc -dx`: TERM leaves the services running"},
        ),
        Manager(
            *("honcho", _path(honcho), _honcho(honcho)),
            share=0.01,
            restarts=False,
            has_users=False,
            notes={"crash": "it restarts nothing"},
        ),
        Manager(
            *("circus", _path(circus), _circus(circus)),
            share=0.05,
            eager=_circus(circus, f"check_delay = {CHECK_DELAY}"),
            notes={"crash": f"with `check_delay = {CHECK_DELAY}`; unless told so it looks every 5 s", "flow": PIECES},
        ),
    ]
    return [manager for manager in found if manager.program]


def versions(managers: Sequence[Manager]) -> str:
    """Their versions, for a reader."""
    pinned = pinned_versions([REQUIREMENTS])
    return ", ".join(f"{m.name} {debian_version(m.package) if m.package else pinned[m.name]}" for m in managers)


def _path(program: str) -> str:
    return shutil.which(program) or ""
