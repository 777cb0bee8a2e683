"""Contract, "Control" and "Bad days": what hostile clients cost is bounded, and nobody else waits for them."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from controlling import DONE, OTHER, STATUS, Box, Boxes, assert_served, received, refused, slowness
from harness import DEADLINE, children, status, wait_until
from serving import FOREVER, PYTHON, Journal, wait_pid

MOST = 32
"""Connections at the same time."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes connections at the end."""
    with ExitStack() as stack:
        yield stack


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing was said."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


# -- Who says nothing --------------------------------------------------------------------------------------------------


def test_who_says_nothing_has_ten_seconds(b: Box, opened: ExitStack) -> None:
    begin = time.monotonic()
    silent, half = (opened.enter_context(b.connect()) for _ in range(2))
    half.sendall(STATUS[:-1])
    assert (silent.recv(1), half.recv(1)) == (b"", b"")
    assert time.monotonic() - begin > 9
    assert_served(b)


def test_of_32_connections_the_oldest_that_has_said_nothing_makes_room(b: Box, opened: ExitStack) -> None:
    silent = [opened.enter_context(b.connect()) for _ in range(MOST)]
    assert b.talk(STATUS)
    wait_until(lambda: is_closed(silent[0]), "the oldest is gone")
    assert not any(map(is_closed, silent[1:]))
    assert b.talk(STATUS), "there is room now"
    assert not any(map(is_closed, silent[1:]))
    silent[1].setblocking(True)
    silent[1].sendall(STATUS)
    assert received(silent[1]).count(b"\n") == 3
    assert_served(b)


def test_who_waits_for_an_order_stays_when_others_say_nothing(box: Boxes, journal: Journal, opened: ExitStack) -> None:
    script = f"trap '{journal.note('told')}' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    b = box({"web": {"command": script, "stop_grace_period": 3600}, "db": OTHER})
    journal.wait("there")
    waits = b.client("stop", "web")
    journal.wait("told")
    for _ in range(2 * MOST):
        opened.enter_context(b.connect())
    assert b.ask("signal", "KILL", "web") == DONE
    assert (waits.wait(), waits.log()) == (0, "")


def test_where_all_wait_for_orders_the_oldest_makes_room_and_is_told_so(box: Boxes, journal: Journal) -> None:
    script = f"trap '{journal.note('told')}' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    b = box({"web": {"command": script, "stop_grace_period": 3600}, "db": OTHER})
    journal.wait("there")
    clients = []
    for number in range(1, MOST + 1):
        clients.append(b.client("stop", "web"))
        wait_until(lambda number=number: b.started.log().count(": stop web") == number, "it is given")  # type: ignore[misc]
    assert b.ask("health", "db") == DONE
    told = refused("too many wait for what they have ordered: what was ordered is done all the same")
    assert (clients[0].wait(), clients[0].log()) == told[::2]
    assert b.ask("signal", "KILL", "web") == DONE
    assert [(client.wait(), client.log()) for client in clients[2:]] == [(0, "")] * (MOST - 2)
    assert b.services()["web"]["state"] == "stopped"


# -- Who does not wait, or comes too often -----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [b"", STATUS[:10], STATUS, b'{"action": "restart", "words": ["web"]}\n'])
def test_who_closes_early_leaves_nothing(b: Box, request_: bytes) -> None:
    before = b.private_kilobytes(), b.descriptors()
    for _ in range(200):
        with b.connect() as connection:
            connection.sendall(request_)
    wait_until(lambda: b.descriptors() <= before[1], "all are closed")
    assert b.private_kilobytes() < before[0] + 1000
    b.wait_for("web", state="ready")
    assert_served(b)


STORM = """
import os, socket, sys
sys.stdout.write("begins\\n"); sys.stdout.flush()
place, count, kept = sys.argv[1], int(sys.argv[2]), []
for number in range(count):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("\\0" + place)
    kept.append(connection)
    if len(kept) > 200:
        kept.pop(0).close()
"""
"""Connects so many times, says nothing, and keeps what it can."""


@pytest.mark.parametrize("uid", [0, 65534])
def test_ten_thousand_connections_keep_nobody_waiting(b: Box, uid: int) -> None:
    """Be they of somebody who may ask, or not."""
    before = b.private_kilobytes(), b.descriptors(), b.cpu_seconds()
    words = [*PYTHON, STORM, b.place, "10000"]
    storm = subprocess.Popen(words, user=uid, env={}, stdout=subprocess.PIPE)
    try:
        assert storm.stdout and storm.stdout.readline()
        answered = 0
        end = time.monotonic() + DEADLINE
        while storm.poll() is None:
            assert b.ask("health") == DONE
            assert b.descriptors() <= before[1] + MOST + 2
            answered += 1
            assert time.monotonic() < end, f"the storm is over within {DEADLINE} s"
        assert storm.wait(DEADLINE) == 0 and answered
    finally:
        storm.kill()
        storm.wait()
    assert b.private_kilobytes() < before[0] + 1000
    assert b.cpu_seconds() - before[2] < 10 * slowness(), "a millisecond for each"
    wait_until(lambda: b.descriptors() <= before[1], "all are closed")
    assert_served(b)


def test_who_never_reads_its_answer_is_let_go(box: Boxes, opened: ExitStack) -> None:
    """What it is owed is bounded, too; the others are served meanwhile."""
    padding = ["x" * 800] * 8
    services = {f"s{n}": {"command": ["/bin/sh", "-c", FOREVER, *padding[: n % 8]]} for n in range(150)}
    b = box(services, "-q")
    wait_until(lambda: len(children(b.run)) == 150, "all are started")
    assert len(b.services()) == 150
    before, fds = b.private_kilobytes(), b.descriptors()
    request = json.dumps({"action": "json", "words": []}).encode() + b"\n"
    for _ in range(MOST):
        connection = opened.enter_context(b.connect())
        connection.sendall(request)
        connection.recv(1, socket.MSG_PEEK)  # on a slow machine all at once would take longer than a client waits
    for _ in range(5):
        assert len(b.services()) == 150
    assert b.private_kilobytes() < before + MOST * 1000
    wait_until(lambda: b.descriptors() <= fds, "all are let go, after ten seconds")
    assert b.private_kilobytes() < before + 4000, "and nothing is kept for them"


def test_a_run_that_is_busy_is_waited_for_also_where_many_wait(b: Box, opened: ExitStack) -> None:
    """The queue of the socket is full: a client does not fail at once, but waits like the others."""
    os.kill(b.run, signal.SIGSTOP)
    with suppress(BlockingIOError):
        while True:
            connection = opened.enter_context(socket.socket(socket.AF_UNIX))
            connection.setblocking(False)
            connection.connect(f"\0{b.place}")
    client = b.client("health")
    wait_until(lambda: is_connecting(client.pid), "it waits to connect")
    os.kill(client.pid, signal.SIGSTOP)  # as Ctrl-Z and fg do: the waiting ends with EINTR, signal(7)
    wait_until(lambda: status(client.pid)["State"].startswith("T"), "it is stopped")
    os.kill(client.pid, signal.SIGCONT)
    wait_until(lambda: is_connecting(client.pid), "it waits again")
    os.kill(b.run, signal.SIGCONT)
    assert (client.wait(), client.out(), client.log()) == DONE


def is_connecting(pid: int) -> bool:
    """Whether a process is in connect(2): /proc/PID/syscall."""
    number = {"x86_64": 42, "aarch64": 203}[os.uname().machine]
    return Path(f"/proc/{pid}/syscall").read_text().startswith(f"{number} ")


def test_nobody_answers_within_ten_seconds(b: Box) -> None:
    os.kill(b.run, signal.SIGSTOP)
    begin = time.monotonic()
    assert b.ask("health") == refused("no answer within 10 s")
    assert time.monotonic() - begin >= 10
    os.kill(b.run, signal.SIGCONT)
    assert_served(b)


def test_without_a_free_descriptor_run_does_not_spin_and_makes_room(box: Boxes, opened: ExitStack) -> None:
    b = box({"web": OTHER, "db": OTHER}, prefix=("prlimit", "--nofile=32"))
    wait_pid(b.started, "db")
    for _ in range(MOST):
        opened.enter_context(b.connect())
    assert b.ask("health") == DONE
    b.started.wait_log("cannot accept a connection of 'run -c': Too many open files; going on as well as possible")
    for _ in range(MOST):
        opened.enter_context(b.connect())
    before = b.cpu_seconds()
    time.sleep(1)
    assert b.cpu_seconds() - before < 0.5
    assert b.ask("restart", "web") == DONE
    assert b.stop() == 0
    assert "internal" not in b.started.log()
