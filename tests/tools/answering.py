"""Servers in this process, for the probes of `tcp`, `unix` and `http`: each does with a connection what a test says."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import DEADLINE

Does = Callable[[socket.socket], None]
"""What is done with a connection whose request was read; it is closed afterwards."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def sends(*pieces: bytes) -> Does:
    """Send these, one after the other."""

    def does(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return does


class Httpd:
    """Reads requests, and answers them."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Listen at a port that is free; the answer is OK."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family)
        self.port: int = self._listening.getsockname()[1]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.does: Does = sends(OK)
        self.requests: list[bytes] = []
        self.ends: list[bytes] = []
        """What the other side has sent after its request until it has closed."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        with connection, suppress(OSError):
            request = b""
            while not request.endswith(b"\r\n\r\n") and (more := connection.recv(1 << 16)):
                request += more
            self.requests.append(request)
            self.does(connection)

    def wait_for_its_end(self, connection: socket.socket) -> None:
        """What is done with a connection that is the other side's to close."""
        with suppress(OSError):
            self.ends.append(connection.recv(1 << 16))

    def close(self) -> None:
        """Listen no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def httpd() -> Iterator[Httpd]:
    """A server at 127.0.0.1."""
    server = Httpd()
    yield server
    server.close()


@pytest.fixture
def httpd6() -> Iterator[Httpd]:
    """A server at ::1."""
    server = Httpd("::1")
    yield server
    server.close()


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """A socket that listens at a port of 127.0.0.1; nobody need accept its connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 that nobody listens at, and that the kernel gives to nobody who asks for any."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lowest - 1, 1024, -1):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
