"""Contract, "Control": `restart`, orders that come at the same time or during the shutdown, and their words."""

import json
import signal
from pathlib import Path

import pytest
from controlling import DONE, OTHER, Boxes, check, received, refused, until
from harness import Starter, alive, wait_until
from serving import FOREVER, PID_1, Journal, log_lines, pids, wait_pid

# -- Restart -----------------------------------------------------------------------------------------------------------


@PID_1
def test_restart_returns_when_the_next_life_is_ready(box: Boxes, flag: Path, pid_1: bool) -> None:
    flag.touch()
    b = box({"web": {"command": FOREVER, "healthcheck": until(flag)}, "other": OTHER}, pid_1=pid_1)
    pid = b.wait_for("web", state="ready")["pid"]
    flag.unlink()
    client = b.client("restart", "web")
    wait_pid(b.started, "web", 2)
    assert b.services()["web"]["state"] == "starting" and client.process.poll() is None
    flag.touch()
    assert (client.wait(), client.log()) == (0, "")
    service = b.services()["web"]
    assert service["state"] == "ready" and service["pid"] != pid
    assert "shutdown" not in b.started.log()


def test_restart_starts_what_did_not_run(box: Boxes) -> None:
    b = box({"web": {"command": "exit 0", "oneshot": True}, "db": OTHER, "other": OTHER})
    b.wait_for("web", state="done")
    assert b.ask("stop", "db") == DONE
    assert b.ask("restart", "web", "db") == DONE
    assert [len(pids(b.started, name)) for name in ("web", "db")] == [2, 2]


def test_restart_fails_with_the_reason_why_the_next_life_has_ended(box: Boxes, journal: Journal) -> None:
    script = f"{journal.note('life')}; [ $(wc -l <{journal.path}) = 1 ] || exit 4; {FOREVER}"
    probe = check({"test": ["CMD-SHELL", f"[ $(wc -l <{journal.path}) = 1 ]"]})
    b = box({"web": {"command": script, "healthcheck": probe, "essential": False}, "other": OTHER})
    b.wait_for("web", state="ready")
    assert b.ask("restart", "web") == refused("web: exited with code 4; failed")


def test_the_count_of_restarts_in_a_row_begins_anew(box: Boxes) -> None:
    web = {"command": "exit 1", "restart": "always:2", "restart_delay": 0.01, "essential": False}
    b = box({"web": {**web, "healthcheck": check({"test": ["false"]})}, "other": OTHER})
    b.wait_for("web", state="failed")
    assert len(pids(b.started, "web")) == 3
    assert b.ask("start", "web")[0] == 1
    b.wait_for("web", state="failed")
    assert len(pids(b.started, "web")) == 6
    assert b.services()["web"]["restarts"] == 4, "all of them"


# -- Several at once, and the shutdown ---------------------------------------------------------------------------------


def test_two_restarts_at_once_are_one(box: Boxes, journal: Journal, flag: Path) -> None:
    script = f"trap 'until [ -e {flag} ]; do sleep 0.01; done; exit' TERM; {journal.note('life')}"
    b = box({"web": {"command": f"{script}; while :; do sleep 0.01; done"}, "other": OTHER})
    journal.wait("life")
    clients = [b.client("restart", "web") for _ in range(3)]
    wait_until(lambda: b.started.log().count(": restart web") == 3, "all three are given")
    flag.touch()
    assert [(client.wait(), client.log()) for client in clients] == [(0, "")] * 3
    assert len(pids(b.started, "web")) == 2


@pytest.mark.parametrize(("first", "last"), [("stop", "start"), ("stop", "restart"), ("restart", "stop")])
def test_the_order_that_comes_last_counts_and_who_waits_for_another_one_is_told_so(
    box: Boxes, journal: Journal, flag: Path, first: str, last: str
) -> None:
    script = f"trap 'until [ -e {flag} ]; do sleep 0.01; done; exit' TERM; {journal.note('life')}"
    b = box({"web": {"command": f"{script}; while :; do sleep 0.01; done"}, "other": OTHER})
    journal.wait("life")
    overruled = b.client(first, "web")
    b.started.wait_log(f": {first} web")
    counts = b.client(last, "web")
    wanted = "stopped" if last == "stop" else "up"
    assert (overruled.wait(), overruled.log()) == refused(f"web: somebody else wants it {wanted}")[::2]
    assert counts.process.poll() is None
    flag.touch()
    assert (counts.wait(), counts.log()) == (0, "")
    assert b.services()["web"]["state"] == ("stopped" if last == "stop" else "ready")


@pytest.mark.parametrize("also", ["start", "restart"])
def test_a_restart_and_another_order_in_the_same_moment_are_both_done(box: Boxes, also: str) -> None:
    """`run` reads both before it stops the service."""
    b = box({"web": OTHER, "other": OTHER})
    wait_pid(b.started, "web")
    with b.connect() as first, b.connect() as second:
        b.services()  # both were accepted
        b.started.send(signal.SIGSTOP)
        for client, action in ((first, "restart"), (second, also)):
            client.sendall(json.dumps({"action": action, "words": ["web"]}).encode() + b"\n")
        b.started.send(signal.SIGCONT)
        answers = [[json.loads(line) for line in received(client).splitlines()] for client in (first, second)]
    assert answers == [[{"accepted": True}, {"code": 0, "errors": []}]] * 2
    assert len(pids(b.started, "web")) == 2


def test_the_end_of_the_client_ends_the_waiting_and_not_the_order(box: Boxes, flag: Path) -> None:
    b = box({"web": {"command": FOREVER, "healthcheck": until(flag)}, "other": OTHER})
    wait_pid(b.started, "web")
    for life, signum in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL), 2):
        client = b.client("restart", "web")
        wait_pid(b.started, "web", life)
        assert b.services()["web"]["state"] == "starting"
        client.send(signum)
        assert (client.wait(), client.log()) == (-signum, "")
    flag.touch()
    b.wait_for("web", state="ready")
    assert len(pids(b.started, "web")) == 5


@PID_1
def test_while_all_is_being_stopped_orders_are_refused(box: Boxes, journal: Journal, flag: Path, pid_1: bool) -> None:
    script = f"trap 'until [ -e {flag} ]; do sleep 0.01; done; exit 0' TERM; {journal.note('there')}"
    b = box({"web": {"command": f"{script}; while :; do sleep 0.01; done"}, "other": OTHER}, "-t3600", pid_1=pid_1)
    journal.wait("there")
    b.started.send(signal.SIGTERM)
    b.started.wait_log("shutdown")
    for words in (["start", "web"], ["stop", "web"], ["restart", "web", "other"], ["signal", "HUP", "web"]):
        assert b.ask(*words) == refused("all is being stopped")
    assert b.services()["web"]["state"] == "stopping"
    flag.touch()
    assert b.started.wait() == 0


def test_who_waits_when_all_is_to_be_stopped_is_told_so_and_a_stop_is_done(box: Boxes, journal: Journal) -> None:
    slow = (
        f"trap 'sleep 0.3; {journal.note('gone')}; exit 0' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    )
    services = {"web": {"command": FOREVER, "healthcheck": check({"test": ["false"]})}, "db": {"command": slow}}
    b = box(services, "-t3600")
    journal.wait("there")
    starts, stops = b.client("start", "web"), b.client("stop", "db")
    b.started.wait_log(": start web")
    b.started.wait_log(": stop db")
    b.started.send(signal.SIGTERM)
    assert (starts.wait(), starts.log()) == refused("all is being stopped")[::2]
    assert (stops.wait(), stops.log()) == (0, "")
    assert journal.lines() == ["there", "gone"]
    assert b.started.wait() == 0


# -- Words -------------------------------------------------------------------------------------------------------------


def test_an_order_is_a_line_of_the_log_with_who_has_given_it(box: Boxes) -> None:
    b = box({"web": OTHER, "db": OTHER})
    wait_pid(b.started, "db")
    client = b.client("restart", "web", "db", "web")
    pid = client.pid
    assert client.wait() == 0
    assert f"order from pid {pid}, uid 0: restart web db" in log_lines(b.started)
    assert b.ask("status")[0] == 0
    assert sum(line.startswith("order ") for line in log_lines(b.started)) == 1, "a question is none"


def test_a_service_that_is_unknown_is_named_with_what_is_accepted_and_the_nearest(box: Boxes) -> None:
    b = box({"web": OTHER, "db": OTHER})
    wait_pid(b.started, "db")
    for action in "start", "stop", "restart", "status", "json":
        assert b.ask(action, "db", "wep", "\x1b") == refused(
            "unknown service 'wep': web, db are accepted; the nearest is 'web'",
            "unknown service '\\x1b': web, db are accepted",
        )
    assert b.services()["db"]["state"] == "ready"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["restrat", "web"], "unknown action 'restrat'"),
        ([""], "unknown action ''"),
        (["start"], "start needs the name of a service"),
        (["stop"], "stop needs the name of a service"),
        (["restart"], "restart needs the name of a service"),
        (["signal"], "signal needs a signal and names"),
        (["signal", "HUP"], "signal needs the name of a service"),
        (["signal", "web", "HUP"], "unknown signal 'web'"),
        (["signal", "0", "web"], "unknown signal '0'"),
        (["stop", *(f"n{number}" for number in range(9000))], "9000 words are too many"),
    ],
)
def test_a_request_that_is_wrong_in_itself_is_a_wrong_command_line(
    start: Starter, words: list[str], message: str
) -> None:
    """Also where there is nobody to ask."""
    code, out, log = start.result("-c", *words)
    assert (code, out) == (125, "")
    assert log.startswith(f"run: [error] {message}") and "accepted" in log and log.count("\n") == 1


def test_an_order_leaves_run_and_the_other_services_alone(box: Boxes) -> None:
    b = box({"web": OTHER, "other": OTHER})
    other = wait_pid(b.started, "other")
    for _ in range(5):
        assert b.ask("restart", "web") == DONE
    assert alive(other) and b.services()["other"]["pid"] == other
