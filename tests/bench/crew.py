"""A crew: a manager with the services that it has started, looked at under /proc, and ended for certain."""

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from managers import Manager, Service
from processes import DEADLINE, ENVIRONMENT, MeasureError, children, context_switches, cpu_ns, private_dirty, read, tree

PROGRAM_NAME = "bench-service"
READY, GATE = "{ready}", "{gate}"
"""What stands for the two FIFOs in a service's words."""

SHARED_MEMORY = "/dev/shm"
LONGEST_IDLE = 2.0


def many(program: str, count: int, *words: str) -> list[Service]:
    """So many services with the same command."""
    return [Service(f"web{number}", (program, *words)) for number in range(count)]


class Crew:
    """A manager, and its services."""

    def __init__(self, manager: Manager, services: Sequence[Service], stdout: int, stderr: int) -> None:
        """Start it; -1 is /dev/null."""
        self.manager = manager
        self.name = manager.name
        self.pids: list[int] = []
        """The services that have said that they are there."""
        self.seconds = 0.0
        """From the start until all were executed."""
        self.folder = Path(tempfile.mkdtemp(dir=ENVIRONMENT.get("TMPDIR")))
        self._logs = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else self.folder))
        paths = {READY: str(self.folder / "ready"), GATE: str(self.folder / "gate")}
        for path in paths.values():
            os.mkfifo(path)
        placed = [Service(s.name, tuple(paths.get(word, word) for word in s.words)) for s in services]
        words = manager.write(self.folder, self._logs, placed)
        self._count = len(services)
        self._ready = os.open(paths[READY], os.O_RDWR | os.O_NONBLOCK)
        self._text = b""
        self._gate = -1
        actions = [
            (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) if given < 0 else (os.POSIX_SPAWN_DUP2, given, fd)
            for fd, given in ((0, -1), (1, stdout), (2, stderr))
        ]
        self._begin = time.perf_counter()
        self.pid = os.posix_spawnp(words[0], words, ENVIRONMENT, file_actions=actions)

    def next_line(self) -> bytes:
        """What a service says next. Raises MeasureError after the deadline."""
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        end = time.monotonic() + DEADLINE
        while b"\n" not in self._text:
            left = end - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise MeasureError(f"not within {DEADLINE} s: a word from a service of {self.name}")
            with suppress(BlockingIOError):
                self._text += os.read(self._ready, 65536)
        line, _, self._text = self._text.partition(b"\n")
        return line

    def wait_ready(self) -> None:
        """Wait until all services are executed."""
        while len(self.pids) < self._count:
            self.pids.append(int(self.next_line()))
        self.seconds = time.perf_counter() - self._begin

    def open_gate(self) -> float:
        """Let those services go on that wait for it; the time."""
        self._gate = os.open(self.folder / "gate", os.O_RDWR)
        return time.perf_counter()

    def processes(self) -> list[int]:
        """The processes that the manager itself consists of: all but the services."""
        return [pid for pid in tree(self.pid) if read(f"/proc/{pid}/comm").strip() != PROGRAM_NAME]

    def cpu_ns(self) -> int:
        """Nanoseconds on a CPU, of all of them."""
        return sum(map(cpu_ns, self.processes()))

    def memory(self) -> int:
        """Bytes of private memory, of all of them."""
        return sum(map(private_dirty, self.processes()))

    def switches(self) -> int:
        """Context switches, of all of them."""
        return sum(map(context_switches, self.processes()))

    def wait_idle(self) -> None:
        """Wait until the manager does nothing any more, or what it always does."""
        end = time.monotonic() + LONGEST_IDLE
        seen = -1
        while seen != (seen := self.cpu_ns()) and time.monotonic() < end:
            time.sleep(0.3)

    def replace(self, pid: int) -> None:
        """Wait until a service that was killed runs again."""
        new = int(self.next_line())
        self.pids = [new if old == pid else old for old in self.pids]

    def stop(self) -> float:
        """Tell the manager to stop; seconds until all are gone. Raises MeasureError after the deadline."""
        left = [os.pidfd_open(pid) for pid in tree(self.pid)]
        poll = select.poll()
        for fd in left:
            poll.register(fd, select.POLLIN)
        begin = time.perf_counter()
        try:
            self.manager.stop(self.pid, self.folder)
            while left:
                ended = poll.poll(DEADLINE * 1000)
                if not ended:
                    raise MeasureError(f"not within {DEADLINE} s: the end of {self.name}")
                for fd, _ in ended:
                    poll.unregister(fd)
                    os.close(fd)
                    left.remove(fd)
            return time.perf_counter() - begin
        finally:
            for fd in left:
                os.close(fd)

    def end(self) -> None:
        """Kill whatever is left, also of a manager that died before its services, and remove the files."""
        left = _stopped(self.pid)
        left += [pid for pid in self.pids if pid not in left and read(f"/proc/{pid}/comm").strip() == PROGRAM_NAME]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for fd in (self._ready, self._gate):
            if fd >= 0:
                os.close(fd)
        shutil.rmtree(self._logs, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _stopped(pid: int) -> list[int]:
    """A process and all that descend from it, each stopped before its children are listed: nothing new comes then."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    return [pid, *(found for child in children(pid) for found in _stopped(child))]


@contextmanager
def at_work(manager: Manager, services: Sequence[Service], stdout: int = -1, stderr: int = -1) -> Iterator[Crew]:
    """A manager whose services are all executed, killed at the end of the block if it is still there."""
    crew = Crew(manager, services, stdout, stderr)
    try:
        crew.wait_ready()
        yield crew
    finally:
        crew.end()
