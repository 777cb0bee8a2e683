"""Processes as the benchmark needs them: started by an init, looked at under /proc, and ended for certain."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import Peer

DEADLINE = 120.0
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}
COMMAND_NAME = "bench-command"


class MeasureError(Exception):
    """A measurement that could not be made: a message for the user."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises MeasureError after the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise MeasureError(f"not within {DEADLINE} s: {what}")
        time.sleep(0.002)


def compile_command(folder: Path) -> str:
    """Build command.c with the C compiler of the system; return the path of the program."""
    target = folder / COMMAND_NAME
    source = Path(__file__).with_name("command.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", target, source], check=True)
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _tree(pid: int) -> list[int]:
    found = [pid]
    for child in _read(f"/proc/{pid}/task/{pid}/children").split():
        found += _tree(int(child))
    return found


def _is_command(pid: int) -> bool:
    return _read(f"/proc/{pid}/comm").strip() == COMMAND_NAME


class Init:
    """An init that has started a command."""

    def __init__(self, peer: Peer, words: Sequence[str]) -> None:
        """Start it, with pipes for the command's input and output."""
        self.peer = peer
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([*peer.prefix, *words], env=ENVIRONMENT, **options)
        self.pid = self._process.pid

    def processes(self) -> list[int]:
        """The processes that the init itself consists of: all but the command and what descends from it."""
        return [pid for pid in _tree(self.pid) if not _is_command(pid)]

    def cpu_ns(self) -> int:
        """Nanoseconds on a CPU, of all of them."""
        return sum(cpu_ns(pid) for pid in self.processes())

    def wait_idle(self) -> None:
        """Wait until the command is there, and the init has done all that it does to start it."""
        wait_until(lambda: any(map(_is_command, _tree(self.pid))), f"{self.peer.name} has started the command")
        if not self.peer.ends:  # a supervisor that is never quite idle
            time.sleep(2)
            return
        seen = -1
        while seen != (seen := self.cpu_ns()):
            time.sleep(0.3)

    def read_byte(self) -> bool:
        """Wait for a byte from the command; False at the end of its output."""
        assert self._process.stdout is not None
        return bool(os.read(self._process.stdout.fileno(), 1))

    def end_input(self) -> None:
        """Let a command that waits for the end of its input end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def become_zombie(self) -> None:
        """Wait until the init has ended; its clock can still be read then. Raises MeasureError after the deadline."""
        poll = select.poll()
        fd = os.pidfd_open(self.pid)
        try:
            poll.register(fd, select.POLLIN)
            if not poll.poll(DEADLINE * 1000):
                raise MeasureError(f"not within {DEADLINE} s: the end of {self.peer.name}")
        finally:
            os.close(fd)

    def wait(self) -> int:
        """Wait for the end of the init; its exit code."""
        return self._process.wait(DEADLINE)

    def end(self) -> None:
        """Kill whatever is left."""
        if self._process.poll() is None:
            for pid in _tree(self.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.wait(DEADLINE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


@contextmanager
def started(peer: Peer, *words: str) -> Iterator[Init]:
    """An init with a command, killed at the end of the block if it is still there."""
    init = Init(peer, words)
    try:
        yield init
    finally:
        init.end()
