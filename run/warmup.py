"""What the static build runs before it takes the snapshot, so that each start finds code that has run before.

CPython specializes code that has run a few times, and fills caches; both are then part of the file. The build also
looks which memory this writes to, and puts that together. The kernel is played, since nothing here may leave a state
behind, or depend on where, when and by whom the program is built.
"""

import errno
import os
import posix
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from stat import S_IFIFO
from typing import Any

from run import __main__ as program
from run import _kernel, children
from run.cli import UsageError
from run.signals import CHLD, INT, TERM

ROUNDS = 20
"""How often each is done: more often than CPython waits before it specializes code."""

OWN_PID, MAIN, ORPHAN, SENDER = range(1000, 1004)
"""Numbers as they are in most containers but for the first processes: above those that CPython keeps as objects."""

END = 0
"""In the place of a signal: the oldest child that lives ends, and CHLD comes."""

Lives = tuple[tuple[list[str], tuple[int, ...]], ...]

LIVES: Lives = (
    (["run", "-q", "cmd", "word"], (INT, END)),
    (["run", "-q", "cmd"], (END,)),
    (["run", "-qds", "TERM", "-t", "1", "--", "cmd"], (TERM, END, END)),
    (["run", "cmd"], (INT, END)),
)
"""Command lines, and what happens from then on."""

MISTAKES = (["run", "-x"], ["run", "-s"])


class PlayOverError(BaseException):
    """The program does what it was not to do. Not an Exception, which it would survive."""


class Kernel:
    """What the program calls, with one command that has left an orphan, and a pipe as stderr."""

    def __init__(self, events: tuple[int, ...]) -> None:
        """Take what happens, in order."""
        self._events = list(events)
        self._alive: list[int] = []
        self._ended: list[int] = []
        self._files: dict[int, list[bytes]] = {}

    def spawn(self, *_: object, **__: object) -> int:
        """The command runs, and leaves an orphan if its end is not the last."""
        self._alive = [MAIN] if self._events.count(END) == 1 else [MAIN, ORPHAN]
        return MAIN

    def wait_signal(self, _: int, timeout: float | None) -> tuple[int, int, int, int, int] | None:
        """The next event comes at once, whenever the program would sleep."""
        if timeout == 0:
            return None
        if not self._events:
            raise PlayOverError("it waits for what will never come")
        event = self._events.pop(0)
        if event == END:
            self._ended.append(self._alive.pop(0))
            return CHLD, posix.CLD_EXITED, self._ended[-1], 0, 0
        return event, 0, SENDER, 0, 0

    def waitid(self, kind: int, pid: int, options: int) -> posix.waitid_result | None:
        """A child that has ended."""
        self._check()
        return posix.waitid_result((self._ended[0], 0, CHLD, 0, posix.CLD_EXITED)) if self._ended else None

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        """Reap it."""
        self._check()
        return (self._ended.pop(0), 0) if self._ended else (0, 0)

    def _check(self) -> None:
        if not (self._alive or self._ended):
            raise ChildProcessError(errno.ECHILD, "No child processes")

    def open(self, path: str | bytes, flags: int) -> int:
        """A file of /proc, or the log's."""
        name = os.fsdecode(path).rpartition("/")[2]
        status = b"Name:\trun\nNSpid:\t%d\n" % OWN_PID
        stat = b"%d (run) S 1 1" % OWN_PID
        ids = dict.fromkeys(("uid_map", "gid_map"), b"         0          0 4294967295\n")
        fd = 3 + len(self._files)
        self._files[fd] = [{"status": status, "stat": stat, **ids}.get(name, b""), b""]
        return fd

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """What is read next is the list of children by now."""
        self._files[fd] = [b"".join(b"%d " % pid for pid in self._alive + self._ended), b""]
        return offset

    def readv(self, fd: int, buffers: list[bytearray]) -> int:
        """Read one, in one part."""
        content = self._files[fd].pop(0)
        buffers[0][: len(content)] = content
        return len(content)

    def write(self, fd: int, line: bytes) -> int:
        """A line of the log."""
        if b"[error]" in line:
            raise PlayOverError(line)
        return len(line)

    def readlink(self, path: str) -> str:
        """/proc/self."""
        return str(OWN_PID)

    def tcgetpgrp(self, fd: int) -> int:
        """There is no terminal."""
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    def end(self) -> None:
        """All that was to happen has happened."""
        if self._events:
            raise PlayOverError("it has ended too soon")

    def places(self) -> tuple[object, ...]:
        """The modules that have the functions that are played."""
        return _kernel, posix, os

    def plays(self) -> dict[str, Callable[..., Any]]:
        """All functions by their names."""
        nothing = dict.fromkeys(("set_ignored", "set_child_subreaper", "close_fds", "close", "kill"), lambda *_: None)
        own: dict[str, Callable[..., Any]] = {name: getattr(self, name) for name in OWN_FUNCTIONS}
        return (
            nothing
            | own
            | {
                "started_with": lambda: (0, 0),
                "environment": lambda: [b"PATH=/bin"],
                "set_mask": lambda _: 0,
                "monotonic": lambda: 0.0,
                "cpu_time": lambda: 0.0,
                "getpid": lambda: OWN_PID,
                "getpgrp": lambda: OWN_PID,
                "getpgid": lambda pid: pid,
                "getsid": lambda pid: pid or OWN_PID,
                "fstat": lambda _: os.stat_result((S_IFIFO | 0o600, *range(9))),
            }
        )


OWN_FUNCTIONS = (
    "spawn",
    "wait_signal",
    "waitid",
    "waitpid",
    "open",
    "lseek",
    "readv",
    "write",
    "readlink",
    "tcgetpgrp",
)


@contextmanager
def playing(kernel: Kernel) -> Iterator[None]:
    """Let the program call this instead of the real one."""
    replaced = []
    for module in kernel.places():
        for name, function in kernel.plays().items():
            if hasattr(module, name):
                replaced.append((module, name, getattr(module, name)))
                setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, function in replaced:
            setattr(module, name, function)


def live(kernel: type[Kernel], lives: Lives) -> None:
    """Live each of these lives where the kernel is played."""
    for words, events in lives:
        played = kernel(events)
        with playing(played):
            program.run(list(words))
            children.begin()  # what it keeps open is not there in a process to come
        played.end()


def rehearse() -> None:
    """Live each of the lives with one command, and make each of the mistakes."""
    live(Kernel, LIVES)
    for words in MISTAKES:
        try:
            program.run(list(words))
        except UsageError:
            pass


def warm_up() -> None:
    """Do it as often as it takes."""
    for _ in range(ROUNDS):
        rehearse()
