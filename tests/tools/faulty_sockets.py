"""Faults of sockets: what their tests share: services whose `run` is traced, what they are asked, and how all ends."""

import errno
import os
import re
import socket
import time
from contextlib import suppress

import pytest
from controlling import STATUS
from faults import Traced, interrupted
from harness import DEADLINE, wait_until
from serving import FOREVER, PYTHON, Server

TELLS = """
import os, socket, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
while True:
    notify.send(b"READY=1")
    time.sleep(0.05)
"""
"""A service that tells that it is ready, again and again."""

OFTEN = {"interval": 0.05, "start_interval": 0.05, "timeout": 0.2, "start_period": 3600, "retries": 2}

CLEAR = re.compile(
    r"run: \[error\] (cannot (accept|serve) a connection of 'run -c'|cannot read what services tell): "
    r"[A-Z][a-z' -]+; going on as well as possible"
)
"""What is said of an operation that has failed: once, and no more is."""


def strerror(error: str) -> str:
    """The words for an errno."""
    return os.strerror(getattr(errno, error))


def place(traced: Traced) -> str:
    """The name of the socket of a `run` in our own mount namespace, once it is there."""
    namespace = re.sub("[^0-9]", "", os.readlink("/proc/self/ns/mnt"))
    run = wait_until(lambda: traced.run, "strace has started run")
    return f"run/{namespace}/{run}"


def ask(traced: Traced) -> bytes:
    """What a question is answered with; nothing, if the connection is closed or is not there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.5)
        with suppress(OSError):
            connection.connect(f"\0{place(traced)}")
            connection.sendall(STATUS)
            return connection.recv(1 << 16)
    return b""


def ask_until_failed(traced: Traced, count: int) -> None:
    """Ask until so many calls have failed, and assert that `run` lives."""

    def have_failed() -> bool:
        ask(traced)
        return len(traced.failed) >= count or traced.process.poll() is not None

    wait_until(have_failed, f"{count} calls fail")
    assert traced.process.poll() is None, f"run has ended:\n{traced.log}"


JSON = b'{"action": "json", "words": []}\n'
"""A request whose answer is long."""


def connected(traced: Traced) -> socket.socket:
    """A connection to it, once it listens."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)

    def connects() -> bool:
        return connection.connect_ex(f"\0{place(traced)}") == 0

    wait_until(connects, "run listens")
    return connection


MOST_OPEN = 30
"""Descriptors that are open in a `run` with one service, at most."""


def end(traced: Traced) -> None:
    """End it by TERM; assert that it went well, that what was said is clear, and that it was not busy with failing."""
    run = traced.run
    assert len(os.listdir(f"/proc/{run}/fd")) < MOST_OPEN
    assert len(traced.failed) < 100 * (1 + time.monotonic() - traced.begin), "it is not tried again and again"
    os.kill(run, 15)
    traced.finish()
    assert traced.code == 0, traced.log
    lines = [line for line in traced.log.splitlines() if "[error]" in line]
    assert all(map(CLEAR.fullmatch, lines)), traced.log
    assert len(lines) == len(set(lines)), "it is said once"
    assert "Traceback" not in traced.log


def counted(error: str, when: str) -> str:
    """When an errno is injected that no kernel gives for ever: EAGAIN and its like, where it is ready."""
    return interrupted(when) if error in ("EAGAIN", "EALREADY", "EINPROGRESS") else when


def twice(error: str, when: str) -> str:
    """When socket(2) fails: CPython tries again after EINVAL, as kernels without SOCK_CLOEXEC give it."""
    return f"{when}..{int(when) + 1}" if error == "EINVAL" and when.isdecimal() else when


def begun(traced: Traced, when: str) -> None:
    """Wait until it has failed: once, or again and again."""
    count = 3 if when.endswith("+") else 1
    wait_until(lambda: len(traced.failed) >= count or traced.process.poll() is not None, f"{count} calls fail")
    assert traced.process.poll() is None, f"run has ended:\n{traced.log}"


@pytest.fixture
def plain(serve: Server) -> tuple[str, ...]:
    """The words that start a service that nobody asks how it is."""
    return ("-q", "-f", str(serve.file({"web": {"command": FOREVER}})))


@pytest.fixture
def telling(serve: Server) -> tuple[str, ...]:
    """The words that start a service that tells."""
    web = {"command": [*PYTHON, TELLS], "healthcheck": {"notify": True, **OFTEN}}
    return ("-q", "-f", str(serve.file({"web": web})))
