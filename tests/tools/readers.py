"""Where the output of services goes to in tests: pipes, sockets, terminals and files, and who reads them."""

import os
import pty
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import DEADLINE

Ends = tuple[int, int]
"""What a test reads from, and what `run` is given."""


def pipe(_: Path) -> Ends:
    """A pipe."""
    return os.pipe()


def fifo(folder: Path) -> Ends:
    """A pipe with a name."""
    os.mkfifo(folder / "fifo")
    reads = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reads, True)
    return reads, os.open(folder / "fifo", os.O_WRONLY)


def stream(_: Path) -> Ends:
    """A stream socket, as of an inetd or a journal."""
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def tcp(_: Path) -> Ends:
    """A TCP connection that keeps little: what it keeps by itself grows for a while."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = socket.create_connection(server.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours, _ = server.accept()
    return ours.detach(), client.detach()


def terminal(_: Path) -> Ends:
    """A terminal that shows bytes as they are."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave


def file(folder: Path) -> Ends:
    """A file."""
    path = folder / "file"
    writes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    return os.open(path, os.O_RDONLY), writes


def appended(folder: Path) -> Ends:
    """A file that is appended to."""
    path = folder / "appended"
    writes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return os.open(path, os.O_RDONLY), writes


KINDS: dict[str, Callable[[Path], Ends]] = {
    made.__name__: made for made in (pipe, fifo, stream, tcp, terminal, file, appended)
}


class Reader:
    """Reads in a thread what is written to a file, and keeps it."""

    def __init__(self, fd: int) -> None:
        """Take a descriptor, which is closed at the end; begin() reads."""
        self.fd = fd
        self.slow: Callable[[], float] = lambda: 0.0
        """How many seconds to wait after each piece."""
        self.size = 65536
        """Bytes of a piece."""
        self.parts: list[bytes] = []
        """What has come so far."""
        self._thread = threading.Thread(target=self._read, daemon=True)

    @property
    def text(self) -> str:
        """What has come so far."""
        return b"".join(self.parts).decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The whole lines that have come so far."""
        return self.text.split("\n")[:-1]

    def begin(self) -> "Reader":
        """Begin to read."""
        self._thread.start()
        return self

    def end(self) -> "Reader":
        """Wait for end-of-file."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "there is no end-of-file"
        return self

    def _read(self) -> None:
        try:
            while part := os.read(self.fd, self.size):
                self.parts.append(part)
                if seconds := self.slow():
                    time.sleep(seconds)
        except OSError:
            pass  # EIO: nobody has the terminal open any more


@contextmanager
def reader(made: Callable[[Path], Ends], folder: Path) -> Iterator[tuple[Reader, int]]:
    """A reader that has not begun, and the descriptor for `run`; both are closed at the end."""
    ours, theirs = made(folder)
    try:
        yield Reader(ours), theirs
    finally:
        for fd in (ours, theirs):
            try:
                os.close(fd)
            except OSError:
                pass  # the test has done that
