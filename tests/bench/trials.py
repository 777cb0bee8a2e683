"""What works where: each cell of the table is tried in a container, with the init as its PID 1."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine import unique_name
from peers import Peer, is_program
from places import NOWHERE, SETPRIV, USER, Conditions, Docker, Files, Namespaces, libraries, place

SECONDS = 30.0
"""What a trial may take on a slow machine; an init that hangs takes so long too."""

AT_ONCE = 4
WORKS = "it works"
BUSYBOX = "/bin/busybox"
ECHO = (BUSYBOX, "echo", WORKS)
COMMAND = "/bin/bench-command"
CATCHABLE = set(range(1, 65)) - {9, 19, 17, 13, 11, 7, 8, 4, 5, 31, 6, 20, 21, 22}
"""All but KILL, STOP, CHLD, PIPE, the faults (SEGV, BUS, FPE, ILL, TRAP, SYS, ABRT), TSTP, TTIN and TTOU."""


@dataclass(frozen=True)
class Cell:
    """What came of one trial: whether it works (None: there is nothing to try), and what there is to say about it."""

    works: bool | None
    note: str = ""


@dataclass
class Trials:
    """A place with two roots for each init: one that holds what it needs, and one that holds it alone."""

    where: Docker | Namespaces
    whole: str
    alone: dict[str, str] = field(default_factory=dict)

    def run(self, root: str, conditions: Conditions, peer: Peer, *command: str, **more: bool) -> tuple[bool, str]:
        """Start an init with a command; whether it ended in time and with 0, or need not end, and the output.

        With term, TERM is sent to it when the command is ready. With full, nobody reads its stderr, which is full.
        """
        name = unique_name()
        full = [COMMAND, "full"] if more.get("full") else []
        words = [*full, *peer.words(*command)]
        argv = [*self.where.words(root, name, conditions, peer.environment(*command)), *words]
        reader, writer = os.pipe()
        if conditions.user:
            os.fchown(writer, USER, USER)  # as the engine does: /proc/self/fd/1 can be opened
        client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)
        output = ""
        end = time.monotonic() + SECONDS
        try:
            while select.select([reader], [], [], max(end - time.monotonic(), 0))[0]:
                text = os.read(reader, 4096).decode()
                if not text:
                    return client.wait(SECONDS) == 0, output
                if "ready" in text and more.get("term"):
                    self.where.terminate(name, client)
                output += text
                if WORKS in output and not peer.ends:
                    return True, output
            return False, output
        except subprocess.TimeoutExpired:
            return False, output
        finally:
            self.where.end(name, client)
            client.wait()
            os.close(reader)

    def echo(self, conditions: Conditions) -> Callable[[Peer], Cell]:
        """Whether a command is started and its end is noticed, under these conditions."""

        def trial(peer: Peer, conditions: Conditions = conditions) -> Cell:
            fine, output = self.run(self.whole, conditions, peer, *ECHO)
            if fine and WORKS in output:
                return Cell(True)
            if not conditions.tmp and trial(peer, replace(conditions, tmp=True)).works:
                return Cell(False, "it does with `--tmpfs /tmp:exec`")
            return Cell(False)

        return trial

    def scratch(self, peer: Peer) -> Cell:
        """Whether it needs nothing but its own file."""
        static = replace(peer, prefix=(_inside(peer.alone or peer.file), *peer.prefix[1:]))
        fine, output = self.run(self.alone[peer.name], Conditions(tmp=False), static, *ECHO)
        if fine and WORKS in output:
            return Cell(True, f"`{Path(peer.alone).name}` of the same package" if peer.alone else "")
        if self.run(self.alone[peer.name], Conditions(), static, *ECHO)[0]:
            return Cell(False, "it does with `--tmpfs /tmp:exec`")
        return Cell(False, "it needs Python" if peer.from_file else "Debian links it dynamically")

    def signals(self, peer: Peer) -> Cell:
        """Whether every signal that can be caught comes back from PID 1."""
        _, output = self.run(self.whole, Conditions(), peer, COMMAND, "signals")
        missing = CATCHABLE - {int(line) for line in output.split() if line.isdigit()}
        if not peer.forwards:
            return Cell(False, "it forwards none, by design")
        kept = ", which the C library keeps for itself" if missing == {32, 33} else ""
        return Cell(not missing, f"all but {numbers(missing)}{kept}" if missing else "")

    def daemons(self, peer: Peer) -> Cell:
        """Whether a daemon in a session of its own gets TERM too, and the time to end by itself."""
        _, output = self.run(self.whole, Conditions(), peer, COMMAND, "daemon", term=True)
        return Cell("ended by itself" in output)

    def full_stderr(self, peer: Peer) -> Cell:
        """Whether a full stderr that nobody reads is no trouble."""
        fine, output = self.run(self.whole, Conditions(), peer, *ECHO, full=True)
        return Cell(fine and WORKS in output)

    def full_log(self, peer: Peer) -> Cell:
        """The same, with its log turned on."""
        if not peer.loud:
            return Cell(None, "it has no log, or writes it elsewhere")
        return self.full_stderr(replace(peer, prefix=peer.loud))

    def all(self) -> dict[str, Callable[[Peer], Cell]]:
        """The trials by their titles."""
        return {
            "from scratch: an image with nothing else": self.scratch,
            "read-only root": self.echo(Conditions(read_only=True, tmp=False)),
            "not root": self.echo(Conditions(user=True)),
            "no capabilities": self.echo(Conditions(no_capabilities=True)),
            "no /tmp": self.echo(Conditions(tmp=False)),
            "not root, and nothing can be written": self.echo(
                Conditions(user=True, read_only=True, tmp=False, shm=False)
            ),
            "every catchable signal forwarded": self.signals,
            "daemons stopped too, in their own time": self.daemons,
            "full stderr survived": self.full_stderr,
            "full stderr survived, log turned on": self.full_log,
        }


def numbers(found: set[int]) -> str:
    """Numbers for a reader: 1, 3-5."""
    runs: list[list[int]] = []
    for number in sorted(found):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _inside(path: str) -> str:
    return f"/bin/{Path(path).name}"


def _peer_inside(peer: Peer) -> Peer:
    def moved(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(_inside(word) if word.startswith("/") else word for word in words)

    return replace(peer, prefix=moved(peer.prefix), loud=moved(peer.loud))


def python_files() -> Files:
    """What a script of Debian needs: /usr/bin/python3, its library, and the packages."""
    python = os.path.realpath("/usr/bin/python3")
    library = Path("/usr/lib") / Path(python).name
    packages = Path("/usr/lib/python3/dist-packages")
    programs = [python, *map(str, library.glob("lib-dynload/*.so"))]
    files = libraries(programs) | {python: Path(python), "/usr/bin/python3": Path(python).name}
    left_out = {"test", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}
    for folder in [library, packages / "pkg_resources", *packages.glob("supervisor*")]:
        for path in folder.rglob("*"):
            parts = set(path.relative_to(folder).parts)
            if path.is_file() and not parts & left_out and not any(part.startswith("config-") for part in parts):
                files[str(path)] = path
    return files


def _prepared(where: Docker | Namespaces, peers: Sequence[Peer], command: str) -> Trials:
    common: Files = {COMMAND: Path(command), BUSYBOX: Path(shutil.which("busybox") or BUSYBOX), "/bin/sh": "busybox"}
    programs = [peer.file for peer in peers if is_program(peer.file)]
    whole = common | {SETPRIV: Path(SETPRIV)} | libraries([SETPRIV, *programs])
    for peer in peers:
        whole |= {_inside(word): Path(word) for word in peer.prefix if word.startswith("/")}
        whole |= python_files() if peer.from_file else {}
    trials = Trials(where, where.make(whole))
    for peer in peers:
        file = peer.alone or peer.file
        trials.alone[peer.name] = where.make(common | {_inside(file): Path(file)})
    return trials


def try_all(peers: Sequence[Peer], command: str, folder: Path) -> tuple[str, dict[str, dict[str, Cell]]]:
    """Where it was tried, and each trial of each peer; nothing where nothing can be tried."""
    where = place(folder)
    if where is None:
        return NOWHERE, {}
    try:
        trials = _prepared(where, peers, command)
        inside = [_peer_inside(peer) for peer in peers]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            cells = {title: [pool.submit(trial, peer) for peer in inside] for title, trial in trials.all().items()}
        return where.name, {
            title: {peer.name: cell.result() for peer, cell in zip(peers, row, strict=True)}
            for title, row in cells.items()
        }
    finally:
        where.remove()
