"""What run.warmup does, with many services: what the static build runs before it takes the snapshot."""

import os
import select
import stat
from collections.abc import Callable
from typing import Any

from run.services import control, main, sockets
from run.signals import TERM
from run.warmup import END, ROUNDS, Kernel, Lives, live

FILE = b"""
# Three services, of which one has all keys that are often given.
stop_grace_period = 9

[services.web]
command = ["web", "--port", "8080"]
depends_on = ["cache", "migrate"]
user = "nobody"
environment = { MODE = "production" }
restart = "on-failure:5"

[services.migrate]
command = "migrate"
oneshot = true

[services.cache]
command = "cache 'some words'"
"""

FILES = {
    b"services.toml": FILE,
    b"/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    b"/etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}

SIGNAL_FD, FIRST_FD = 100, 102

real_epoll = select.epoll

LIVES: Lives = (
    (["run", "-qf", "services.toml"], (END, TERM, END, END)),
    (["run", "-f", "services.toml"], (END, TERM, END, END)),
    (["run", "-qf", "services.toml", "cache"], (END,)),
    (["run", "-qm", "cache --size 1", "web"], (END, END)),
)
"""Command lines, and what happens from then on: the oldest process that lives ends, or a signal comes."""


class Epoll:
    """Tells of what happens next."""

    def __init__(self, kernel: "Services") -> None:
        """Take the kernel that knows."""
        real_epoll().close()
        self._kernel = kernel
        self._reads: list[int] = []

    def register(self, fd: int, events: int) -> None:
        """Wait for it, too."""
        self._reads.append(fd)

    def modify(self, fd: int, events: int) -> None:
        """All are ready whenever they are."""

    def unregister(self, fd: int) -> None:
        """Wait for it no more."""
        self._reads.remove(fd)

    def poll(self, timeout: float | None = None, most: int = -1) -> list[tuple[int, int]]:
        """A signal has come; a service has written something."""
        ready = [fd for fd in self._reads if self._kernel.is_written(fd)]
        if not ready and timeout != 0:
            self._kernel.happen()
            ready.append(SIGNAL_FD)
        return [(fd, select.EPOLLIN) for fd in ready]

    def close(self) -> None:
        """Wait for nothing."""


class Socket:
    """The socket of `run -c`, where nobody asks."""

    def __init__(self, family: int, kind: int) -> None:
        """What is real is made, too, as that writes to the memory of its class."""
        sockets.Socket(family, kind).close()

    def bind(self, address: bytes) -> None:
        """It has a name."""

    def listen(self, backlog: int) -> None:
        """Nobody comes."""

    def fileno(self) -> int:
        """A number that is never ready."""
        return SIGNAL_FD - 1


class Services(Kernel):
    """What `run` calls with many services: each of them writes a line when it is started."""

    def __init__(self, events: tuple[int, ...]) -> None:
        """Take what happens, in order."""
        super().__init__(events)
        self._next_pid = 2000
        self._next_fd = FIRST_FD
        self._written: list[int] = []
        self._has_happened = False
        self._regular: dict[int, list[bytes]] = {}

    def is_written(self, fd: int) -> bool:
        """Whether a service has written something that can be read there."""
        return fd in self._written

    def happen(self) -> None:
        """The next event comes, whenever the program would sleep."""
        self._has_happened = True

    def spawn(self, *_: object, **options: Any) -> int:
        """A service runs, and has written something to its stdout: to the pipe that this end belongs to."""
        self._next_pid += 1
        self._alive.append(self._next_pid)
        self._written.append(options["files"][1] - 1)
        return self._next_pid

    def wait_signal(self, mask: int, timeout: float | None) -> tuple[int, int, int, int, int] | None:
        """What the epoll has told of."""
        if not self._has_happened:
            return None
        self._has_happened = False
        return super().wait_signal(mask, None)

    def make_pipe(self, *_: int) -> tuple[int, int]:
        """Two numbers."""
        self._next_fd += 2
        return self._next_fd - 2, self._next_fd - 1

    def open(self, path: str | bytes, flags: int) -> int:
        """A regular file, the log's, or a file of /proc."""
        if path not in FILES:
            return super().open(path, flags)
        self._next_fd += 1
        self._regular[self._next_fd - 1] = [FILES[path], b""]
        return self._next_fd - 1

    def fstat(self, fd: int) -> os.stat_result:
        """All others are pipes."""
        return os.stat_result(((stat.S_IFREG if fd in self._regular else stat.S_IFIFO) | 0o600, *range(9)))

    def read(self, fd: int, most: int) -> bytes:
        """Of a file, or what a service has written."""
        if fd in self._regular:
            return self._regular[fd].pop(0)
        self._written.remove(fd)
        return b"It is listening.\n"

    def writev(self, fd: int, pieces: list[bytes]) -> int:
        """It takes all."""
        self.write(fd, b"".join(pieces))
        return sum(map(len, pieces))

    def killpg(self, group: int, signum: int) -> None:
        """Send a signal, or ask whether somebody is left in a group."""
        if group not in self._alive + self._ended:
            raise ProcessLookupError

    def readlink(self, path: str) -> str:
        """Our number, or the mount namespace."""
        return "mnt:[4026531841]" if path.endswith("mnt") else super().readlink(path)

    def plays(self) -> dict[str, Callable[..., Any]]:
        """All functions by their names."""
        own: dict[str, Callable[..., Any]] = {name: getattr(self, name) for name in OWN_FUNCTIONS}
        return (
            super().plays()
            | own
            | {
                "epoll": lambda: Epoll(self),
                "Socket": Socket,
                "signal_fd": lambda _: SIGNAL_FD,
                "keep_freed_memory": lambda _: None,
                "unread": lambda fd: fd in self._written,
                "set_blocking": lambda *_: None,
                "isatty": lambda _: False,
                **dict.fromkeys(("getuid", "geteuid", "getgid", "getegid"), lambda: 0),
                "dup": lambda _: FIRST_FD - 1,
                "capabilities": lambda: -1,
                "environment": lambda: [b"PATH=/bin", b"HOME=/"],
            }
        )

    def places(self) -> tuple[object, ...]:
        """The modules that have these functions."""
        return (*super().places(), select, control)


OWN_FUNCTIONS = ("spawn", "wait_signal", "make_pipe", "open", "fstat", "read", "writev", "killpg", "readlink")


def rehearse() -> None:
    """Live each of the lives with many services."""
    live(Services, LIVES)
    main.to_the_end.clear()


def warm_up() -> None:
    """Do it as often as it takes."""
    for _ in range(ROUNDS):
        rehearse()
