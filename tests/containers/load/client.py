"""A client that keeps book: which responses were complete, which keys were acknowledged, until the service is gone.

client.py pages PORT PATH CONNECTIONS    read PATH slowly, again and again, over each connection
client.py keys PORT CONNECTIONS          SET key:CONNECTION:1, key:CONNECTION:2 and so on, over each connection

Each prints "loaded" once every connection has had answers, and its book as JSON at the end.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Sequence

HOST = "127.0.0.1"

PAUSE = 0.01
"""Seconds between two parts of a page, for the first connection; the others are slower, and so end one by one."""

CHUNK = 65536

RECEIVE_BUFFER = 65536
"""So small that most of a page waits in the service rather than in the kernel's buffers."""


def run(threads: Sequence[threading.Thread], seen: Sequence[threading.Event]) -> None:
    """Start the threads, say when every connection has had answers, and wait for the end."""
    for thread in threads:
        thread.start()
    for event in seen:
        event.wait()
    print("loaded", flush=True)
    for thread in threads:
        thread.join()


class Pages:
    """The book of one that reads pages."""

    def __init__(self, port: int, path: str, connections: int) -> None:
        """Nothing has been read yet."""
        self._port = port
        self._path = path
        self._lock = threading.Lock()
        self._refused = threading.Event()
        self._seen = [threading.Event() for _ in range(connections)]
        self.complete = 0
        self.late = 0
        """Responses that were still being read when the service took no new connection any more."""
        self.cut: list[str] = []

    def run(self) -> None:
        """Read until the service is gone."""
        threads = [threading.Thread(target=self._read_pages, args=[number]) for number in range(len(self._seen))]
        run([*threads, threading.Thread(target=self._watch)], self._seen)
        print(json.dumps({"complete": self.complete, "late": self.late, "cut": self.cut}), flush=True)

    def _watch(self) -> None:
        """Note when the service takes no new connection any more."""
        try:
            while True:
                socket.create_connection((HOST, self._port)).close()
                time.sleep(PAUSE)
        except OSError:
            self._refused.set()

    def _read_pages(self, number: int) -> None:
        pause = PAUSE * (1 + number / 4)
        seen = self._seen[number]
        try:
            while True:
                with socket.socket() as connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                    connection.connect((HOST, self._port))
                    while self._read_page(connection, pause):
                        seen.set()
        except OSError:
            seen.set()  # refused: the service is gone

    def _read_page(self, connection: socket.socket, pause: float) -> bool:
        """Read one response; say whether there was one. One that has begun and is not complete goes into the book."""
        received = b""
        body, length = 0, -1
        try:
            connection.sendall(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while length < 0 or body < length:
                part = connection.recv(CHUNK)
                if not part:
                    break
                if length < 0:
                    received += part
                    head, end, rest = received.partition(b"\r\n\r\n")
                    if end:
                        length, body = content_length(head.decode()), len(rest)
                else:
                    body += len(part)
                time.sleep(pause)
        except (OSError, ValueError) as error:
            if received:
                self.cut.append(f"{body} of {length} bytes: {error}")
            return False
        if not received:
            return False
        if body != length:
            self.cut.append(f"{body} of {length} bytes")
            return False
        with self._lock:
            self.complete += 1
            self.late += self._refused.is_set()
        return True


def content_length(head: str) -> int:
    """The length that the head of a response gives. Raises ValueError when it is not what was asked for."""
    status, *fields = head.split("\r\n")
    if " 200 " not in status:
        raise ValueError(f"not a page: {status}")
    return int(next(field.split(":")[1] for field in fields if field.lower().startswith("content-length:")))


class Keys:
    """The book of one that writes keys."""

    def __init__(self, port: int, connections: int) -> None:
        """Nothing has been written yet."""
        self._port = port
        self._seen = [threading.Event() for _ in range(connections)]
        self.acknowledged = [0] * connections

    def run(self) -> None:
        """Write until the service is gone."""
        run([threading.Thread(target=self._write, args=[i]) for i in range(len(self._seen))], self._seen)
        print(json.dumps(self.acknowledged), flush=True)

    def _write(self, i: int) -> None:
        try:
            with socket.create_connection((HOST, self._port)) as connection:
                while True:
                    n = self.acknowledged[i] + 1
                    connection.sendall(f"SET key:{i}:{n} {n}\r\n".encode())
                    answer = connection.recv(CHUNK)
                    if answer != b"+OK\r\n":
                        break
                    self.acknowledged[i] = n
                    if n >= 100:
                        self._seen[i].set()
        except OSError:
            pass
        self._seen[i].set()


def main(what: str, port: str, *rest: str) -> None:
    """Load one service."""
    book = Pages(int(port), rest[0], int(rest[1])) if what == "pages" else Keys(int(port), int(rest[0]))
    book.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
