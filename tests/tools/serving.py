"""What the tests of services share: a file of services is written, `run -f` started, and its log read by service."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import Started, Starter, children, compile_c, status, wait_until

Keys = Mapping[str, Any]
"""The keys of a service. A `command` that is a string is a script for a shell, to the letter, unless it is a `Line`."""

Services = Mapping[str, Any]
"""The services of a file: the keys of each."""

FOREVER = "exec sleep 1000"
"""What a service does that is not to end by itself."""

PID_1 = pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
"""Both ways to be the reaper: `Server` starts `run` so."""

FAST = {"restart_delay": 0.01, "restart_max_delay": 0.01}
"""Keys of a service that is started again nearly at once."""

HOUR = "-t3600"
"""An option: the grace is never over."""

NO_PROC = ("unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /proc; exec "$@"', "sh")
"""What starts a `run` that finds nothing under /proc."""

AWAKE = "while :; do sleep 0.05; done"
"""The same for a shell that is to run its traps, and whose children are never in the way of its group's end."""


class Line(str):
    """A command line that `run` itself is to split."""

    __slots__ = ()


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {toml(content)}" for name, content in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def file_of(services: Services, **top: object) -> str:
    """The text of a file with these services, and these keys of the file itself."""
    lines = [f"{key} = {toml(value)}" for key, value in top.items()]
    for name, keys in services.items():
        lines.append(f"[services.{json.dumps(name)}]")
        lines += [f"{key} = {toml(script(value) if key == 'command' else value)}" for key, value in keys.items()]
    return "\n".join([*lines, ""])


def script(command: object) -> object:
    """The words that give a shell a script, whose `$` are not for `run`; any other command as it is."""
    if isinstance(command, str) and not isinstance(command, Line):
        return ["/bin/sh", "-c", command.replace("$", "$$")]
    return command


class Server:
    """Starts `run -f` with a file of services."""

    def __init__(self, starter: Starter, folder: Path) -> None:
        """Take what starts the binary, and a folder for the files."""
        self._start = starter
        self._folder = folder
        self._count = 0

    def file(self, services: Services, **top: object) -> Path:
        """Write a file."""
        self._count += 1
        path = self._folder / f"services-{self._count}.toml"
        path.write_text(file_of(services, **top))
        path.chmod(0o644)
        return path

    def __call__(
        self,
        services: Services,
        *options: str,
        names: Sequence[str] = (),
        top: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Started:
        """Start these services; options of `run`, names of services behind the file, and options of Starter."""
        return self._start(*options, "-f", str(self.file(services, **(top or {}))), *names, **more)

    def result(self, services: Services, *options: str, **more: Any) -> tuple[int, str, str]:
        """Start them and wait for the end: exit code, stdout, log."""
        started = self(services, *options, **more)
        code = started.wait()
        return code, started.out(), started.log()


@pytest.fixture
def serve(start: Starter, tmp_path: Path) -> Server:
    """Start services that a dictionary describes."""
    return Server(start, tmp_path)


@pytest.fixture(scope="session")
def catcher() -> Iterator[str]:
    """A program that says which signals it gets: catcher.c. Any user may execute it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield str(compile_c(Path(__file__).with_name("catcher.c").read_text(), Path(folder) / "catcher", "-static"))


class Journal:
    """A file to which services append lines: what happened, in one order for all of them."""

    def __init__(self, path: Path) -> None:
        """Take the path of a file that is not there yet."""
        self.path = path
        path.touch()
        path.chmod(0o666)

    def note(self, text: str) -> str:
        """A command of a shell, without quotes, that notes these words; the shell puts variables in."""
        return f"echo {text} >>{self.path}"

    def told(self, name: str, then: str = "exit 0", by: str = "TERM") -> str:
        """A script that notes "NAME ready", and "NAME told" when the signal comes, and does something then."""
        return f"trap '{self.note(f'{name} told')}; {then}' {by}; {self.note(f'{name} ready')}; {AWAKE}"

    def lines(self) -> list[str]:
        """What was noted so far, in whole lines."""
        return self.path.read_text().rpartition("\n")[0].splitlines()

    def wait(self, line: str, count: int = 1) -> None:
        """Wait until this was noted so many times."""
        wait_until(lambda: self.lines().count(line) >= count, f"{line!r} noted {count} times: {self.lines()}")


@pytest.fixture
def journal(public: Path) -> Journal:
    """A journal, which any user may write to."""
    return Journal(public / "journal")


def events(started: Started, name: str) -> list[str]:
    """What the log says of a service so far, in whole lines without its name and pid."""
    begin = re.compile(rf"run: \[\w+\] {re.escape(name)}(?: \(pid \d+\))?: (.*)")
    return [match[1] for line in whole_lines(started.log()) if (match := begin.fullmatch(line))]


def log_lines(started: Started) -> list[str]:
    """The lines of the log so far, without `run: ` and the level."""
    return [match[1] for line in whole_lines(started.log()) if (match := re.fullmatch(r"run: \[\w+\] (.*)", line))]


def whole_lines(text: str) -> list[str]:
    """The lines that have an end."""
    return text.rpartition("\n")[0].split("\n") if "\n" in text else []


def pids(started: Started, name: str) -> list[int]:
    """The pids that the log says a service was started with, as `run` itself sees them."""
    line = re.compile(rf"^run: \[info\] {re.escape(name)} \(pid (\d+)\): started ", re.MULTILINE)
    return [int(pid) for pid in line.findall(started.log())]


def wait_pid(started: Started, name: str, life: int = 1) -> int:
    """Wait until the log says that a service has begun this life; return its pid, as it is seen from here."""

    def found() -> list[int]:
        return pids(started, name) if started.process.poll() is None or len(pids(started, name)) >= life else [0] * life

    wait_until(lambda: len(found()) >= life, f"life {life} of {name}")
    pid = pids(started, name)[life - 1 : life]
    assert pid, f"run has ended before life {life} of {name}:\n{started.log()}"
    return seen_from_here(started, pid[0])


def seen_from_here(started: Started, pid: int) -> int:
    """The pid here of a descendant of `run`, which has this one in the namespace of `run`: NSpid of proc(5)."""
    run = started.pid
    if status(run).get("NSpid", "").split()[-1:] == [str(run)]:
        return pid
    for child in descendants(run):
        if status(child).get("NSpid", "").split()[-1:] == [str(pid)]:
            return child
    raise AssertionError(f"no process {pid} descends from run:\n{started.log()}")


def descendants(pid: int) -> list[int]:
    """All that descends from a process."""
    found = children(pid)
    for child in found[:]:
        found += descendants(child)
    return found


PYTHON = [sys.executable, "-I", "-S", "-c"]
"""The words before a program in Python."""


def send_until(started: Started, signum: int, condition: Callable[[], object], what: str) -> None:
    """Send `run` a signal again and again until a condition comes true: its receiver may not be ready at first."""

    def is_true() -> bool:
        if started.process.poll() is None:
            started.send(signum)
        return bool(condition()) or started.process.poll() is not None

    wait_until(is_true, what)
    assert condition(), f"run has ended: {what}\n{started.log()}"


def environment_without(*names: str, **more: str) -> dict[str, str]:
    """Our own environment without these variables, and with others."""
    return {name: value for name, value in os.environ.items() if name not in names} | more
