"""A client that writes until TERM comes, and keeps book of what was acknowledged, however often the service goes away.

writer.py orders PORT    POST /orders/NAME, of which 201 is the acknowledgement
writer.py jobs PORT      LPUSH jobs NAME, to redis
writer.py rows PORT      INSERT INTO notes VALUES (NAME), by way of PgBouncer

Each prints "loaded" once something was acknowledged, and at the end a line of JSON: the names that were acknowledged,
and how often there was no acknowledgement. No name is used twice, so nobody knows of those.
"""

import http.client
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import psycopg2  # type: ignore[import-untyped]

HOST = "127.0.0.1"
CONNECTIONS = 4

PAUSE = 0.005
"""Seconds after a request, so that the services have time to live."""

PATIENCE = 60
"""Seconds after which a request without an answer is given up."""

Write = Callable[[str], bool]


def orders(port: int) -> Write:
    """A connection to a web server."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)

    def write(name: str) -> bool:
        connection.request("POST", f"/orders/{name}")
        answer = connection.getresponse()
        answer.read()
        return answer.status == http.client.CREATED

    return write


def jobs(port: int) -> Write:
    """A connection to redis."""
    connection = socket.create_connection((HOST, port), PATIENCE)

    def write(name: str) -> bool:
        connection.sendall(f"LPUSH jobs {name}\r\n".encode())
        answer = connection.recv(1024)
        if not answer:
            raise ConnectionError
        return answer.startswith(b":") and answer.endswith(b"\n")

    return write


def rows(port: int) -> Write:
    """A connection to PgBouncer."""
    whom = {"user": "postgres", "dbname": "postgres"}
    try:
        connection = psycopg2.connect(host=HOST, port=port, connect_timeout=PATIENCE, **whom)
        connection.autocommit = True
    except psycopg2.Error as error:
        raise ConnectionError from error
    cursor = connection.cursor()

    def write(name: str) -> bool:
        try:
            cursor.execute("INSERT INTO notes VALUES (%s)", [name])
        except psycopg2.Error as error:
            raise ConnectionError from error
        return True

    return write


class Book:
    """What was acknowledged."""

    def __init__(self, connect: Callable[[int], Write], port: int) -> None:
        """Nothing was."""
        self._connect = connect
        self._port = port
        self._stop = threading.Event()
        self._first = threading.Event()
        self._acknowledged: list[list[str]] = [[] for _ in range(CONNECTIONS)]
        self._refused = [0] * CONNECTIONS

    def run(self) -> None:
        """Write until TERM."""
        signal.signal(signal.SIGTERM, lambda signum, frame: self._stop.set())
        threads = [threading.Thread(target=self._write, args=[number]) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        while not self._first.wait(1) and not self._stop.is_set():
            pass
        print("loaded", flush=True)
        while not self._stop.wait(1):
            pass
        for thread in threads:
            thread.join()
        names = [name for part in self._acknowledged for name in part]
        print(json.dumps({"acknowledged": names, "refused": sum(self._refused)}), flush=True)

    def _write(self, number: int) -> None:
        write, n = None, 0
        while not self._stop.is_set():
            name = f"{number}-{n}"
            try:
                write = write or self._connect(self._port)
                n += 1
                is_written = write(name)
            except (OSError, http.client.HTTPException):
                write, is_written = None, False
            if is_written:
                self._acknowledged[number].append(name)
                self._first.set()
            else:
                self._refused[number] += 1
            time.sleep(PAUSE)


def main(what: str, port: str) -> None:
    """Write to one service."""
    Book({"orders": orders, "jobs": jobs, "rows": rows}[what], int(port)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
