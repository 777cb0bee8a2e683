"""Processes as the benchmark needs them: started by an init, looked at under /proc, and ended for certain."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import AS_PID_1
from peers import Peer

DEADLINE = 120.0
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}
COMMAND_NAME = "bench-command"


class MeasureError(Exception):
    """A measurement that could not be made: a message for the user."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition. Raises MeasureError after the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise MeasureError(f"not within {DEADLINE} s: {what}")
        time.sleep(0.002)


def compile_program(folder: Path, source: str, name: str = COMMAND_NAME) -> str:
    """Build a file of this folder, statically; return the path of the program."""
    target = folder / name
    subprocess.run(
        ["gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", target, Path(__file__).with_name(source)],
        check=True,
    )
    return str(target)


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU, of a live process or a zombie: its clock, as of clock_getcpuclockid(3).

    /proc/PID/stat counts in hundredths of a second, which resolves nothing here.
    """
    return time.clock_gettime_ns(~pid << 3 | 2)


def _number(path: str, field: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise MeasureError(f"{path} has no {field}")


def private_dirty(pid: int) -> int:
    """Bytes of memory that no other process shares, and that would not be there without this one."""
    return _number(f"/proc/{pid}/smaps_rollup", "Private_Dirty") * 1024


def context_switches(pid: int) -> int:
    """How often a process was switched away from, of its own will or not."""
    path = f"/proc/{pid}/status"
    return _number(path, "voluntary_ctxt_switches") + _number(path, "nonvoluntary_ctxt_switches")


def read(path: str) -> str:
    """The text of a file of /proc; empty when the process is gone."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]


def tree(pid: int) -> list[int]:
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


def _name(pid: int) -> str:
    return read(f"/proc/{pid}/comm").strip()


def _is_command(pid: int) -> bool:
    return _name(pid) == COMMAND_NAME


class Init:
    """An init that has started a command."""

    def __init__(self, peer: Peer, words: Sequence[str], copies: int, pid_1: bool, prefix: Sequence[str]) -> None:
        """Start it, with pipes for the command's input and output."""
        self.peer = peer
        self._copies = copies
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        argv = [*(AS_PID_1 if pid_1 else ()), *prefix, *peer.words(*words)]
        env = ENVIRONMENT | peer.environment(*words, copies=copies)
        self._process = subprocess.Popen(argv, env=env, **options)
        self._pid_1 = pid_1
        self._names: dict[int, str] = {}

    @property
    def pid(self) -> int:
        """The pid of the init, as seen from here."""
        return children(self._process.pid)[0] if self._pid_1 else self._process.pid

    def processes(self) -> list[int]:
        """The processes that the init itself consists of: all but the command and what descends from it."""
        return [pid for pid in tree(self.pid) if not _is_command(pid)]

    def cpu_ns(self) -> int:
        """Nanoseconds on a CPU, of all of them."""
        return sum(cpu_ns(pid) for pid in self.processes())

    def wait_ready(self) -> None:
        """Wait until the command says that it is there, each copy of it."""
        for _ in range(self._copies):
            if not self.read_byte():
                raise MeasureError(f"{self.peer.name} did not start the command")
        self._names = {pid: _name(pid) for pid in tree(self._process.pid)}

    def wait_idle(self) -> None:
        """Wait until the init has done all that it does to start the command."""
        if not self.peer.ends:  # a supervisor that is never quite idle
            time.sleep(2)
            return
        seen = -1
        while seen != (seen := self.cpu_ns()):
            time.sleep(0.3)

    def read_byte(self) -> bool:
        """Wait for a byte from the command; False at the end of its output. Raises MeasureError after the deadline."""
        assert self._process.stdout is not None
        self._poll(self._process.stdout.fileno(), "an answer of the command of")
        return bool(os.read(self._process.stdout.fileno(), 1))

    def write_byte(self) -> None:
        """Send a byte to the command."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), b"+")

    def end_input(self) -> None:
        """Let a command that waits for the end of its input end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def become_zombie(self) -> None:
        """Wait until the init has ended; its clock can still be read then. Raises MeasureError after the deadline."""
        fd = os.pidfd_open(self.pid)
        try:
            self._poll(fd, "the end of")
        finally:
            os.close(fd)

    def _poll(self, fd: int, what: str) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(DEADLINE * 1000):
            raise MeasureError(f"not within {DEADLINE} s: {what} {self.peer.name}")

    def wait(self) -> int:
        """Wait for the end of the init; its exit code."""
        return self._process.wait(DEADLINE)

    def end(self) -> None:
        """Kill whatever is left, also of an init that died before what it started."""
        left = set(tree(self._process.pid)) if self._process.poll() is None else set()
        for pid in left | {pid for pid, name in self._names.items() if name and _name(pid) == name}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait(DEADLINE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


@contextmanager
def started(
    peer: Peer, *words: str, copies: int = 1, pid_1: bool = False, prefix: Sequence[str] = ()
) -> Iterator[Init]:
    """An init with a command that is ready, killed at the end of the block if it is still there."""
    init = Init(peer, words, copies, pid_1, prefix)
    try:
        init.wait_ready()
        yield init
    finally:
        init.end()


@contextmanager
def all_started(peers: Sequence[Peer], *words: str) -> Iterator[list[Init]]:
    """All inits at once, each with such a command, and idle."""
    with ExitStack() as stack:
        inits = [stack.enter_context(started(peer, *words)) for peer in peers]
        for init in inits:
            init.wait_idle()
        yield inits
