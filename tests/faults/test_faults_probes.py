"""Sockets that fail: what services tell, and probes of `tcp`, `unix` and `http`. Contract, "Ready and healthy".

A probe that cannot be done has failed, and the next one may succeed. Nothing ends `run`.
"""

import socket

import pytest
from answering import Httpd
from faults import ALWAYS, ONCE, Trace, every_errno
from faulty_sockets import OFTEN, ask, begun, counted, end, strerror, twice
from harness import wait_until
from serving import FOREVER, Server


@every_errno("recv", ONCE, ALWAYS)
def test_what_a_service_tells_cannot_be_read(trace: Trace, telling: tuple[str, ...], error: str, when: str) -> None:
    traced = trace("recvmsg", error, counted(error, when), *telling)
    begun(traced, when)
    if when == ONCE:
        wait_until(lambda: b'"ready"' in ask(traced), "it is ready")
    end(traced)


@pytest.fixture
def probed(serve: Server, tcp: socket.socket) -> tuple[str, ...]:
    """The words that start a service that is probed by tcp, where somebody listens."""
    check = {"tcp": tcp.getsockname()[1], **OFTEN}
    return ("-f", str(serve.file({"web": {"command": FOREVER, "healthcheck": check}})))


def probe(
    trace: Trace, words: tuple[str, ...], call: str, error: str, when: str, *, harmless: tuple[str, ...] = ()
) -> None:
    """Probes fail, which is said, and the next one may succeed; if an errno is harmless, even the same one."""
    traced = trace(call, error, counted(error, when), *words)
    begun(traced, when)
    if error not in harmless:
        wait_until(lambda: "web (pid " in traced.log and "not ready yet: " in traced.log, "it is said")
    if when.endswith("+") and counted(error, when) == when:
        assert b'"ready"' not in ask(traced)
    else:
        wait_until(lambda: b'"ready"' in ask(traced), "it is ready")
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
    probe(trace, probed, "socket", error, twice(error, when))


@every_errno("getpeername", ONCE, ALWAYS, but=("ENOTCONN",))
def test_a_probe_that_cannot_see_with_whom_it_is_connected(
    trace: Trace, probed: tuple[str, ...], error: str, when: str
) -> None:
    probe(trace, probed, "getpeername", error, when)


@every_errno("epoll_ctl", "5", "5+")
def test_a_probe_that_cannot_be_waited_for(trace: Trace, probed: tuple[str, ...], error: str, when: str) -> None:
    """The calls before it are for signals, two pipes, and `run -c`: nobody is answered, if it fails for ever."""
    traced = trace("epoll_ctl", error, when, *probed)
    begun(traced, when)
    wait_until(lambda: f"not ready yet: {strerror(error)}" in traced.log, "it is said")
    if when.isdecimal():
        wait_until(lambda: b'"ready"' in ask(traced), "it is ready")
    end(traced)


@pytest.fixture
def asked(serve: Server, httpd: Httpd) -> tuple[str, ...]:
    """The words that start a service that is probed by http, where somebody answers."""
    check = {"http": f"{httpd.address}/", **OFTEN}
    return ("-f", str(serve.file({"web": {"command": FOREVER, "healthcheck": check}})))


@every_errno("send", ONCE, "1..4")
def test_a_probe_that_cannot_send_its_request(trace: Trace, asked: tuple[str, ...], error: str, when: str) -> None:
    probe(trace, asked, "sendto", error, when, harmless=("EINTR",))


@every_errno("recv", ONCE, "1..4")
def test_a_probe_that_cannot_read_the_answer(trace: Trace, asked: tuple[str, ...], error: str, when: str) -> None:
    probe(trace, asked, "recvfrom", error, when, harmless=("EAGAIN", "EINTR"))
