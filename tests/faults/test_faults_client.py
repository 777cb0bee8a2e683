"""Sockets that fail on the side of who asks: `run -c`. Contract, "Control" and "Bad days".

It ends with what it has asked for, or with 1 and one line that says why not. It never hangs, and tells nobody else.
"""

import re

import pytest
from controlling import DONE, Answer, Box, Boxes, refused
from faults import ALWAYS, ONCE, Trace, Traced, every_errno
from faulty_sockets import counted, strerror, twice
from serving import FOREVER, wait_pid

NOBODY = refused("there is no `run` with services in this container")
NOT_ACCEPTED = refused("no answer: root, or the user of `run`, in the same pid namespace is accepted")
LATE = refused("no answer within 10 s")


def failed(error: str) -> Answer:
    """What is said of any other error."""
    return refused(f"no answer: {strerror(error)}")


@pytest.fixture
def asked(box: Boxes) -> Box:
    """A `run` that answers."""
    b = box({"web": {"command": FOREVER}})
    wait_pid(b.started, "web")
    b.wait_until_it_listens()
    return b


def ended(b: Box, traced: Traced) -> Answer:
    """What a client has ended with; `run` has not noticed, and answers the next one."""
    traced.finish()
    assert b.ask("health") == DONE
    assert not re.search(r"\[(error|warn)\]", b.started.log())
    return traced.code, traced.out, traced.log


@every_errno("socket", ONCE, ALWAYS)
def test_a_client_without_a_socket(trace: Trace, asked: Box, error: str, when: str) -> None:
    client = trace("socket", error, twice(error, when), "-c", "health", prefix=asked.beside())
    assert ended(asked, client) == failed(error)


@every_errno("getsockopt", ONCE, ALWAYS)
def test_a_client_that_cannot_limit_the_time(trace: Trace, asked: Box, error: str, when: str) -> None:
    client = trace("setsockopt", error, when, "-c", "health", prefix=asked.beside())
    assert ended(asked, client) == failed(error)


@every_errno("getsockopt", ONCE, ALWAYS)
def test_a_client_that_cannot_see_who_answers(trace: Trace, asked: Box, error: str, when: str) -> None:
    client = trace("getsockopt", error, when, "-c", "health", prefix=asked.beside())
    assert ended(asked, client) == failed(error)


@every_errno("connect", ONCE, ALWAYS)
def test_a_client_that_cannot_connect(trace: Trace, asked: Box, error: str, when: str) -> None:
    """EINTR is what STOP and CONT make of waiting: signal(7)."""
    client = trace("connect", error, when, "-c", "health", prefix=asked.beside())
    told = {"ECONNREFUSED": NOBODY, "EINTR": DONE, **dict.fromkeys(("EAGAIN", "EALREADY", "EINPROGRESS"), LATE)}
    told["ETIMEDOUT"] = LATE
    assert ended(asked, client) == told.get(error, failed(error))


@every_errno("poll", ONCE, ALWAYS)
def test_a_client_that_cannot_wait(trace: Trace, asked: Box, error: str, when: str) -> None:
    client = trace("?poll,?ppoll", error, when, "-c", "health", prefix=asked.beside())
    assert ended(asked, client) == (DONE if error == "EINTR" else failed(error))


@every_errno("send", ONCE, ALWAYS)
def test_a_client_that_cannot_say_what_it_wants(trace: Trace, asked: Box, error: str, when: str) -> None:
    answer(trace, asked, "sendto", error, when)


@every_errno("recv", ONCE, ALWAYS)
def test_a_client_that_cannot_read_the_answer(trace: Trace, asked: Box, error: str, when: str) -> None:
    answer(trace, asked, "recvfrom", error, when)


def answer(trace: Trace, asked: Box, call: str, error: str, when: str) -> None:
    """Who is cut off asks again, a few times; any other error is told."""
    client = trace(call, error, counted(error, when), "-c", "health", prefix=asked.beside())
    told = {"EINTR": DONE, "EAGAIN": DONE}
    told |= dict.fromkeys(("EPIPE", "ECONNRESET"), DONE if when == ONCE else NOT_ACCEPTED)
    assert ended(asked, client) == told.get(error, failed(error))


@every_errno("open", ALWAYS)
def test_a_client_that_cannot_see_who_listens_asks_PID_1(trace: Trace, box: Boxes, error: str, when: str) -> None:
    b = box({"web": {"command": FOREVER}}, pid_1=True)
    wait_pid(b.started, "web")
    b.wait_until_it_listens()
    more = {"prefix": b.beside(), "paths": ("/proc/net/unix",), "children": True}  # nsenter forks
    client = trace("?open,openat", error, when, "-c", "health", **more)
    assert ended(b, client) == DONE
