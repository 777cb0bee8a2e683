"""Every stderr that does not take a line: closed on the other side, full, stopped, or nothing to write to."""

import os
import pty
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Kind = Callable[[], AbstractContextManager[int]]


def fill(fd: int) -> None:
    """Write until not a byte more is taken, then let the file block again."""
    os.set_blocking(fd, False)
    for size in (65536, 1):
        try:
            while True:
                os.write(fd, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(fd, True)


@contextmanager
def broken_pipe() -> Iterator[int]:
    """A pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def dev_full() -> Iterator[int]:
    """The device that is always full."""
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@contextmanager
def full_pipe() -> Iterator[int]:
    """A full pipe that nobody reads."""
    reader, writer = os.pipe()
    fill(writer)
    yield writer
    os.close(reader)
    os.close(writer)


@contextmanager
def unread_socket(kind: socket.SocketKind) -> Iterator[int]:
    """A full socket that nobody reads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    fill(theirs.fileno())
    yield theirs.fileno()
    ours.close()
    theirs.close()


@contextmanager
def full_stream() -> Iterator[int]:
    """A full stream socket."""
    with unread_socket(socket.SOCK_STREAM) as fd:
        yield fd


@contextmanager
def full_datagrams() -> Iterator[int]:
    """A full datagram socket."""
    with unread_socket(socket.SOCK_DGRAM) as fd:
        yield fd


@contextmanager
def full_tcp() -> Iterator[int]:
    """A full TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted = server.accept()[0]
        fill(client.fileno())
        yield client.fileno()
        accepted.close()


@contextmanager
def broken_socket() -> Iterator[int]:
    """A socket whose other end is closed."""
    ours, theirs = socket.socketpair()
    ours.close()
    yield theirs.fileno()
    theirs.close()


@contextmanager
def terminal(prepare: Callable[[int, int], object]) -> Iterator[int]:
    """A terminal, prepared by a function that takes its master and its slave."""
    master, slave = pty.openpty()
    prepare(master, slave)
    yield slave
    os.close(slave)
    os.close(master)


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """As after Ctrl-S."""
    with terminal(lambda _, slave: termios.tcflow(slave, termios.TCOOFF)) as fd:
        yield fd


@contextmanager
def ctrl_s_terminal() -> Iterator[int]:
    """After Ctrl-S itself."""
    with terminal(lambda master, _: os.write(master, b"\x13")) as fd:
        yield fd


@contextmanager
def unread_terminal() -> Iterator[int]:
    """A full terminal that nobody reads."""

    def prepare(_: int, slave: int) -> None:
        tty.setraw(slave)
        fill(slave)

    with terminal(prepare) as fd:
        yield fd


@contextmanager
def hung_up_terminal() -> Iterator[int]:
    """A terminal that was hung up."""
    master, slave = pty.openpty()
    os.close(master)
    yield slave
    os.close(slave)


@contextmanager
def read_only() -> Iterator[int]:
    """A file that is not open for writing."""
    fd = os.open("/dev/null", os.O_RDONLY)
    yield fd
    os.close(fd)


@contextmanager
def directory() -> Iterator[int]:
    """A directory."""
    fd = os.open("/", os.O_RDONLY)
    yield fd
    os.close(fd)


@contextmanager
def path_only() -> Iterator[int]:
    """A file that is not open at all but as a place: O_PATH of open(2)."""
    fd = os.open("/dev/null", os.O_PATH)
    yield fd
    os.close(fd)


BAD: list[Kind] = [
    broken_pipe,
    dev_full,
    full_pipe,
    full_stream,
    full_datagrams,
    full_tcp,
    broken_socket,
    stopped_terminal,
    ctrl_s_terminal,
    unread_terminal,
    hung_up_terminal,
    read_only,
    directory,
    path_only,
]
