"""Sockets that fail: the control socket, and those that services tell. Contract, "Bad days" and "Control".

Before the start there is one line and 125, or a warning where it can do without; afterwards nothing ends `run`.
"""

import os
from contextlib import closing, suppress

from faults import ALWAYS, ONCE, Trace, assert_clear, every_errno
from faulty_sockets import JSON, ask, ask_until_failed, connected, counted, end, place, strerror, twice
from harness import wait_until
from serving import FOREVER, Server

AT_START = 4
"""How often epoll_ctl(2) is called before a service is started: signals, two pipes, the socket, the last."""

# -- Before the start --------------------------------------------------------------------------------------------------


def warned(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """Services run, though nobody can ask; and that is a warning. A name has to be taken a moment later, too."""
    traced = trace(call, error, "1..2" if (error, when) == ("EADDRINUSE", ONCE) else when, *words)
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
    warned(trace, plain, "socket", error, twice(error, when))


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


@every_errno("epoll_ctl", f"{AT_START}", f"{AT_START}+")
def test_without_being_able_to_wait_for_who_asks_services_run_and_it_is_a_warning(
    trace: Trace, plain: tuple[str, ...], error: str, when: str
) -> None:
    warned(trace, plain, "epoll_ctl", error, when)


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
    refused(trace, telling, "socket", error, twice(error, when))


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


@every_errno("epoll_ctl", f"{AT_START}", f"{AT_START}+")
def test_without_being_able_to_wait_for_what_it_tells_nothing_is_started(
    trace: Trace, telling: tuple[str, ...], error: str, when: str
) -> None:
    refused(trace, telling, "epoll_ctl", error, when)


# -- Who asks by `run -c` ----------------------------------------------------------------------------------------------


def asked(trace: Trace, words: tuple[str, ...], call: str, error: str, when: str) -> None:
    """It goes on; and once no call fails any more who asks is answered."""
    traced = trace(call, error, counted(error, when), *words)
    ask_until_failed(traced, 1 if when.isdecimal() else 3)
    if when.isdecimal():
        wait_until(lambda: b'"code": 0' in ask(traced), "it answers")
    end(traced)


@every_errno("accept4", ONCE, ALWAYS)
def test_a_connection_that_cannot_be_accepted(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    """After ENOSYS CPython tries accept(2), as old kernels need it."""
    asked(trace, plain, "accept4,?accept", error, when)


@every_errno("getsockopt", ONCE, ALWAYS)
def test_not_knowing_who_asks(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "getsockopt", error, when)


@every_errno("recv", ONCE, ALWAYS)
def test_a_request_that_cannot_be_read(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "recvfrom", error, when)


@every_errno("send", ONCE, ALWAYS)
def test_an_answer_that_cannot_be_sent(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "sendto", error, when)


@every_errno("epoll_ctl", f"{AT_START + 1}", f"{AT_START + 1}+")
def test_a_connection_that_cannot_be_waited_for(trace: Trace, plain: tuple[str, ...], error: str, when: str) -> None:
    asked(trace, plain, "epoll_ctl", error, when)


@every_errno("epoll_ctl", f"{AT_START + 2}", f"{AT_START + 3}")
def test_an_answer_that_cannot_be_sent_at_once_nor_waited_for(
    trace: Trace, serve: Server, error: str, when: str
) -> None:
    """It is longer than what a socket holds; to wait for room takes two calls."""
    long = {"command": ["/bin/sh", "-c", FOREVER, *["x" * 100_000] * 5]}
    traced = trace("epoll_ctl", error, when, "-q", "-f", str(serve.file({"web": long})))
    with closing(connected(traced)) as connection:
        connection.sendall(JSON)
        wait_until(lambda: traced.failed, "a call fails")
        with suppress(ConnectionResetError):
            while connection.recv(1 << 16):
                pass
    wait_until(lambda: ask(traced), "it answers")
    end(traced)
