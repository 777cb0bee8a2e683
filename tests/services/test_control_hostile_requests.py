"""Contract, "Control" and "Bad days": requests of hostile clients: nonsense, and too much of it."""

import array
import fcntl
import os
import socket
import termios
from contextlib import suppress

import pytest
from controlling import STATUS, Box, assert_served, received, slowness
from harness import wait_until

LONGEST = 64 * 1024
"""Bytes of a request, without the end of its line."""

NO_REQUEST = [{"code": 1, "errors": ["this is no request"]}]


@pytest.mark.parametrize(
    "request_",
    [
        b"\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 1000 + b"\n",
        bytes(range(256)) + b"\n",
        b"[" * 60_000 + b"\n",
        b'{"action": ' * 5000 + b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'"status"\n',
        b"1" * 60_000 + b"\n",
        b'{"action": "status"}\n',
        b'{"action": 1, "words": []}\n',
        b'{"action": "status", "words": "web"}\n',
        b'{"action": "status", "words": {"web": 1}}\n',
        b'{"action": "status", "words": [1, null, {}]}\n',
        b'{"action": ["status"], "words": []}\n',
        b'{"action": "\\ud800", "words": []}\n',
        b'{"action": "stop", "words": ["\\udfff\\ud800"]}\n',
    ],
)
def test_what_is_no_request_is_answered_so(b: Box, request_: bytes) -> None:
    assert b.talk(request_) == NO_REQUEST
    assert_served(b)


def test_an_unknown_action_is_told_what_is_accepted(b: Box) -> None:
    (answer,) = b.talk({"action": "halt", "words": ["\x1b[31m"]})
    assert answer["code"] == 1 and answer["errors"][0].startswith("unknown action 'halt': status, json, health")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_megabyte_is_cut_off(b: Box, end: bytes) -> None:
    """A request has at most 64 KiB."""
    before = b.private_kilobytes()
    for _ in range(20):
        with b.connect() as connection, suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * 1_000_000 + end)
            assert received(connection) == b""
    assert b.private_kilobytes() < before + 1000
    assert_served(b)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_line_may_have_64_kib_and_not_a_byte_more_however_it_comes(b: Box, pieces: int) -> None:
    """Each piece is sent once `run` has read those before it: it sleeps, and nothing waits in its socket."""
    for more in 0, 1:
        line = STATUS.strip() + b" " * (LONGEST - len(STATUS.strip()) + more) + b"\n"
        with b.connect() as connection, suppress(BrokenPipeError, ConnectionResetError):
            for number in range(pieces):
                connection.sendall(line[len(line) * number // pieces : len(line) * (number + 1) // pieces])
                wait_until(lambda: not unread(connection), "run has read it, or has closed the connection")
            assert received(connection).count(b"\n") == (0 if more else 3)
    assert_served(b)


def unread(connection: socket.socket) -> int:
    """Bytes that were sent over a connection, and nobody has read yet: SIOCOUTQ of unix(7)."""
    count = array.array("i", [0])
    fcntl.ioctl(connection, termios.TIOCOUTQ, count)
    return count[0]


def test_thousands_of_names_that_are_unknown_cost_no_more_than_a_few(b: Box) -> None:
    names = [f"n{number}" for number in range(7000)]
    before = b.private_kilobytes(), b.cpu_seconds()
    for action in "stop", "status", "health":
        (answer,) = b.talk({"action": action, "words": names})
        assert answer["code"] == 1 and len(answer["errors"]) == 9
        assert answer["errors"][-1] == "and 6992 more that are unknown"
    assert b.private_kilobytes() < before[0] + 3000
    assert b.cpu_seconds() < before[1] + slowness()
    assert_served(b)


def test_a_name_that_is_repeated_counts_once(b: Box) -> None:
    answers = b.talk({"action": "json", "words": ["web"] * 9000})
    assert [answer.get("service", {}).get("name") for answer in answers] == ["web", None]


def test_a_request_may_come_byte_by_byte(b: Box) -> None:
    with b.connect() as connection:
        for byte in STATUS:
            connection.sendall(bytes([byte]))
        assert received(connection).count(b"\n") == 3


def test_what_comes_behind_a_request_is_not_listened_to(b: Box) -> None:
    with b.connect() as connection:
        connection.sendall(STATUS * 100)
        assert received(connection).count(b"\n") in (0, 3)
    assert_served(b)


def test_descriptors_that_are_sent_along_are_closed(b: Box) -> None:
    before = b.descriptors()
    for _ in range(20):
        with b.connect() as connection, open(os.devnull, "rb") as null:
            rights = array.array("i", [null.fileno()] * 100)
            connection.sendmsg([STATUS], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            assert received(connection).count(b"\n") == 3
    wait_until(lambda: b.descriptors() <= before, "none is left")
    assert_served(b)
