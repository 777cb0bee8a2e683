"""Sockets that fail: readiness and control, on the side of `run`. Contract, "Bad days", "Ready and healthy" and "Control".

Before the start there is one line and 125, or a warning where it can do without; afterwards nothing ends `run`.
"""

import errno
import os
import re
import socket
from contextlib import suppress

import pytest
from controlling import STATUS
from faults import ALWAYS, ONCE, Trace, Traced, assert_clear, every_errno, interrupted
from harness import wait_until
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


def end(traced: Traced) -> None:
    """End it by TERM, and assert that it went well, and that what was said is clear."""
    os.kill(traced.run, 15)
    traced.finish()
    assert traced.code == 0, traced.log
    lines = [line for line in traced.log.splitlines() if "[error]" in line]
    assert all(map(CLEAR.fullmatch, lines)), traced.log
    assert len(lines) <= 1, "it is said once"
    assert "Traceback" not in traced.log


def counted(error: str, when: str) -> str:
    """When an errno is injected that no kernel gives for ever: EAGAIN, for what is there."""
    return interrupted(when) if error in ("EAGAIN", "EINPROGRESS") else when


# -- Before the start --------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(serve: Server) -> tuple[str, ...]:
    """The words that start a service that nobody asks how it is."""
    return ("-q", "-f", str(serve.file({"web": {"command": FOREVER}})))


@pytest.fixture
def telling(serve: Server) -> tuple[str, ...]:
    """The words that start a service that tells."""
    web = {"command": [*PYTHON, TELLS], "healthcheck": {"notify": True, **OFTEN}}
    return ("-q", "-f", str(serve.file({"web": web})))


def warned(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """Services run, though nobody can ask; and that is a warning."""
    traced = trace(call, error, when, *words)
    wait_until(lambda: traced.log.count("\n"), "it is said")
    where = place(traced)
    os.kill(traced.run, 15)
    traced.finish()
    warning = f"run: [warn] cannot listen at @{where}: {strerror(error)}: 'run -c' will not work\n"
    assert (traced.code, traced.log) == (0, warning)


@every_errno("socket", ONCE, ALWAYS)
def test_without_a_socket_services_run_and_it_is_a_warning(
    trace: Trace, plain: tuple[str, ...], error: str, when: str
) -> None:
    warned(trace, plain, "socket", error, when)


@every_errno("bind", ONCE, ALWAYS)
def test_without_a_name_services_run_and_it_is_a_warning(
    trace: Trace, plain: tuple[str, ...], error: str, when: str
) -> None:
    warned(trace, plain, "bind", error, when)


@every_errno("listen", ONCE, ALWAYS)
def test_without_being_able_to_listen_services_run_and_it_is_a_warning(
    trace: Trace, plain: tuple[str, ...], error: str, when: str
) -> None:
    warned(trace, plain, "listen", error, when)


def refused(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """Nothing is started, and one line says why."""
    traced = trace(call, error, when, *words).finish()
    assert traced.code == 125
    assert_clear(traced.log, error)
    assert traced.log.startswith("run: [error] web: cannot listen for what it tells ('notify'): ")


@every_errno("socket", ONCE, ALWAYS)
def test_without_the_socket_that_a_service_is_to_tell_nothing_is_started(
    trace: Trace, telling: tuple[str, ...], error: str, when: str
) -> None:
    refused(trace, telling, "socket", error, when)


@every_errno("bind", ONCE, ALWAYS)
def test_without_a_name_for_it_nothing_is_started(
    trace: Trace, telling: tuple[str, ...], error: str, when: str
) -> None:
    refused(trace, telling, "bind", error, when)


@every_errno("getsockopt", ONCE, ALWAYS)
def test_without_knowing_who_tells_nothing_is_started(
    trace: Trace, telling: tuple[str, ...], error: str, when: str
) -> None:
    """setsockopt(2) of SO_PASSCRED; its errors are those of getsockopt(2)."""
    refused(trace, telling, "setsockopt", error, when)


# -- Who asks by `run -c` ----------------------------------------------------------------------------------------------


def asked(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """It goes on; and once no call fails any more who asks is answered."""
    traced = trace(call, error, counted(error, when), *words)
    ask_until_failed(traced, 1 if when == ONCE else 3)
    if when == ONCE:
        wait_until(lambda: b'"code": 0' in ask(traced), "it answers")
    end(traced)


@every_errno("accept4", ONCE, ALWAYS)
def test_a_connection_that_cannot_be_accepted(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "accept4", error, when)


@every_errno("getsockopt", ONCE, ALWAYS)
def test_not_knowing_who_asks(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "getsockopt", error, when)


@every_errno("recv", ONCE, ALWAYS)
def test_a_request_that_cannot_be_read(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "recvfrom", error, when)


@every_errno("send", ONCE, ALWAYS)
def test_an_answer_that_cannot_be_sent(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "sendto", error, when)


# -- What services tell, and probes ------------------------------------------------------------------------------------


@every_errno("recv", ONCE, ALWAYS)
def test_what_a_service_tells_cannot_be_read(trace: Trace, telling: tuple[str, ...], error: str, when: str) -> None:
    traced = trace("recvmsg", error, counted(error, when), *telling)
    wait_until(lambda: len(traced.failed) >= (1 if when == ONCE else 3), "calls fail")
    if when == ONCE:
        wait_until(lambda: b'"ready"' in ask(traced), "it is ready")
    end(traced)


@pytest.fixture
def probed(serve: Server, tcp: socket.socket) -> tuple[str, ...]:
    """The words that start a service that is probed by tcp, where somebody listens."""
    check = {"tcp": tcp.getsockname()[1], **OFTEN}
    return ("-qq", "-f", str(serve.file({"web": {"command": FOREVER, "healthcheck": check}})))


def probe(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """A probe that cannot be done has failed, and the next one may succeed."""
    traced = trace(call, error, counted(error, when), *words)
    wait_until(lambda: len(traced.failed) >= (1 if when == ONCE else 3), "calls fail")
    if when == ONCE:
        wait_until(lambda: b'"ready"' in ask(traced), "it is ready")
    else:
        assert b'"ready"' not in ask(traced)
    end(traced)


@every_errno("connect", ONCE, ALWAYS)
def test_a_probe_that_cannot_connect(trace: Trace, probed: tuple[str, ...], error: str, when: str) -> None:
    probe(trace, probed, "connect", error, when)


@every_errno("getsockopt", ONCE)
def test_a_probe_that_cannot_see_whether_it_is_connected(
    trace: Trace, probed: tuple[str, ...], error: str, when: str
) -> None:
    probe(trace, probed, "getsockopt", error, when)


@every_errno("socket", "2", "2+")
def test_a_probe_without_a_socket(trace: Trace, probed: tuple[str, ...], error: str, when: str) -> None:
    """The first one is that of `run -c`."""
    probe(trace, probed, "socket", error, ONCE if when == "2" else when) if False else None
    traced = trace("socket", error, when, *probed)
    wait_until(lambda: len(traced.failed) >= (1 if when == "2" else 3), "calls fail")
    wait_until(lambda: (b'"ready"' in ask(traced)) == (when == "2"), "it is as ready as it can be")
    end(traced)
