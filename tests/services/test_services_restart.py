"""Contract, "The file", `restart`, and "A service's life": when a service gets another life, and after which delay."""

import os
import re
import signal
import time
from itertools import pairwise

import pytest
from controlling import Boxes
from faults import ALWAYS, FORK, ONCE, Trace
from harness import wait_until
from serving import FOREVER, PID_1, Journal, Keys, Server, events, log_lines, pids, wait_pid

FAST = {"restart_delay": 0.01, "restart_max_delay": 0.02}

ENDS = {"exit 0": 0, "exit 3": 3, "kill -KILL $$": 137, "kill -TERM $$": 143, "kill -ABRT $$": 134}


@pytest.mark.parametrize(("end", "code"), ENDS.items())
@pytest.mark.parametrize("policy", [None, "no", "on-failure:2", "always:2"])
def test_which_ends_are_followed_by_another_life(
    serve: Server, journal: Journal, policy: str | None, end: str, code: int
) -> None:
    keys: Keys = {"command": f"{journal.note('life')}; {end}", **FAST}
    lives = 3 if policy == "always:2" or (policy == "on-failure:2" and code) else 1
    result, _, log = serve.result({"web": {**keys, "restart": policy} if policy else keys})
    assert result == code
    assert journal.lines() == ["life"] * lives
    assert log.count("next start in ") == lives - 1


@PID_1
def test_without_a_limit_it_is_restarted_any_number_of_times(serve: Server, journal: Journal, pid_1: bool) -> None:
    started = serve({"web": {"command": f"{journal.note('life')}; exit 1", "restart": "always", **FAST}}, pid_1=pid_1)
    journal.wait("life", 50)
    started.send(signal.SIGTERM)
    started.wait()
    assert len(pids(started, "web")) in range(50, len(journal.lines()) + 2)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_limit_is_the_number_of_restarts_in_a_row(serve: Server, journal: Journal, limit: int) -> None:
    keys = {"command": f"{journal.note('life')}; exit 7", "restart": f"on-failure:{limit}", **FAST}
    started = serve({"web": keys})
    assert started.wait() == 7
    assert len(journal.lines()) == limit + 1
    plural = "s" if limit > 1 else ""
    assert events(started, "web")[-1] == f"exited with code 7; failed after {limit} restart{plural}"
    restarts = [event.rpartition(", ")[2] for event in events(started, "web") if "next start" in event]
    assert restarts == [f"restart {number} of {limit}" for number in range(1, limit + 1)]


def test_the_delay_is_0_1_seconds_and_doubles(serve: Server, journal: Journal) -> None:
    begin = time.monotonic()
    started = serve({"web": {"command": "exit 1", "restart": "always:4"}})
    assert started.wait() == 1
    assert time.monotonic() - begin >= 0.1 + 0.2 + 0.4 + 0.8
    assert re.findall(r"next start in (\S+ s), restart (\d)", started.log()) == [
        *(("0.1 s", "1"), ("0.2 s", "2"), ("0.4 s", "3"), ("0.8 s", "4"))
    ]


def test_the_delay_doubles_up_to_the_maximum(serve: Server) -> None:
    keys = {"command": "exit 1", "restart": "always:5", "restart_delay": 0.05, "restart_max_delay": "150ms"}
    _, _, log = serve.result({"web": keys})
    assert re.findall(r"next start in (\S+) s", log) == ["0.05", "0.1", "0.15", "0.15", "0.15"]


def test_between_two_lives_goes_by_at_least_the_delay(serve: Server, journal: Journal) -> None:
    """By the clock of the services themselves: /proc/uptime, in hundredths of a second."""
    script = f'read now _ </proc/uptime; echo "$now" >>"{journal.path}"; exit 1'
    serve({"web": {"command": script, "restart": "always:4", "restart_delay": 0.2, "restart_max_delay": 0.4}}).wait()
    times = [float(line) for line in journal.lines()]
    gaps = [after - before for before, after in pairwise(times)]
    assert [gap >= least - 0.02 for gap, least in zip(gaps, [0.2, 0.4, 0.4, 0.4], strict=True)] == [True] * 4, gaps


def test_a_life_of_10_seconds_begins_the_delay_and_the_count_anew(serve: Server, journal: Journal) -> None:
    """The third life lasts so long; the fourth one begins a new row of two restarts."""
    script = f'{journal.note("life")}; [ $(wc -l <"{journal.path}") = 3 ] && sleep 10.2; exit 1'
    started = serve({"web": {"command": script, "restart": "on-failure:2"}})
    assert started.wait() == 1
    verdicts = [event.partition("; ")[2] for event in events(started, "web") if "exited" in event]
    row = ["next start in 0.1 s, restart 1 of 2", "next start in 0.2 s, restart 2 of 2"]
    assert verdicts == [*row, *row, "failed after 2 restarts"]


@PID_1
@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"command": ["/none/such"]}, 127),
        ({"command": ["no-such-command"]}, 127),
        ({"command": ["/etc/passwd"]}, 126),
        ({"command": ["/etc"]}, 126),
        ({"command": "exit 0", "working_dir": "/none/such"}, 126),
        ({"command": "exit 0", "working_dir": "/etc/passwd"}, 126),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["on-failure", "always"])
def test_what_cannot_be_executed_has_failed_for_good(
    serve: Server, keys: Keys, code: int, policy: str, pid_1: bool
) -> None:
    started = serve({"web": {**keys, "restart": policy, **FAST}, "other": {"command": FOREVER}}, pid_1=pid_1)
    assert started.wait() == code
    assert "shutdown, since web has failed" in log_lines(started)
    (event,) = events(started, "web")
    assert "next start" not in event
    assert started.log().count("[error]") == 1


def test_a_fork_that_is_refused_once_is_a_failed_life_like_any_other(trace: Trace, serve: Server) -> None:
    file = serve.file({"web": {"command": "echo up", "restart": "on-failure:3", **FAST}})
    traced = trace(FORK, "EAGAIN", ONCE, "-f", str(file)).finish()
    assert len(traced.failed) == 1
    assert (traced.code, traced.out) == (0, "web | up\n")
    assert "fork: Resource temporarily unavailable; next start in 0.01 s, restart 1 of 3" in traced.log


@pytest.mark.parametrize("policy", ["no", "on-failure:2", "always:2"])
def test_a_fork_that_is_always_refused_is_125_after_the_last_restart(trace: Trace, serve: Server, policy: str) -> None:
    file = serve.file({"web": {"command": "echo up", "restart": policy, **FAST}})
    traced = trace(FORK, "EAGAIN", ALWAYS, "-f", str(file)).finish()
    assert len(traced.failed) == (1 if policy == "no" else 3)
    assert (traced.code, traced.out) == (125, "")
    assert "shutdown, since web has failed" in traced.log


def test_who_waits_for_its_next_life_is_not_waited_for_at_the_shutdown(serve: Server, journal: Journal) -> None:
    started = serve({"web": {"command": f"{journal.note('life')}; exit 6", "restart": "always", "restart_delay": 60}})
    started.wait_log("next start in 60 s")
    started.send(signal.SIGTERM)
    assert started.wait() == 6
    assert journal.lines() == ["life"]


def test_one_that_restarts_stops_nobody_and_nobody_else_restarts_with_it(serve: Server, journal: Journal) -> None:
    started = serve(
        {
            "db": {"command": f"{journal.note('db')}; {FOREVER}", "restart": "always", **FAST},
            "web": {"command": f"{journal.note('web')}; {FOREVER}", "depends_on": ["db"]},
        }
    )
    journal.wait("web")
    journal.wait("db")
    os.kill(wait_pid(started, "db"), signal.SIGKILL)
    journal.wait("db", 2)
    assert journal.lines().count("web") == 1
    assert "killed by KILL (9); next start in 0.01 s, restart 1" in events(started, "db")
    wait_until(lambda: len(pids(started, "db")) == 2, "its next life is logged")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_services_that_fail_at_once_for_ever_keep_nothing_from_running(serve: Server, journal: Journal) -> None:
    bad = {f"bad{number}": {"command": ["/bin/false"], "restart": "always", **FAST} for number in range(20)}
    trap = f"trap '{journal.note('hup')}; exit 0' HUP; {journal.note('ready')}; while :; do sleep 0.01; done"
    started = serve({**bad, "web": {"command": trap}}, "-qq")
    journal.wait("ready")
    started.send(signal.SIGHUP)
    assert started.wait() == 1
    assert journal.lines() == ["ready", "hup"]
    assert started.log() == ""


@pytest.mark.parametrize("clients", [0, 19])
def test_thousands_of_lives_take_no_more_memory_than_hundreds(box: Boxes, clients: int) -> None:
    """Twenty services: Python 3.11 keeps 2000 tuples of twenty objects, 200 bytes each, and uses none of them again."""
    bad = {f"bad{number}": {"command": ["/bin/false"], "restart": "always", **FAST} for number in range(20)}
    b = box({**bad, "web": {"command": FOREVER}}, "-qq")

    def has_had(lives: int) -> bool:
        time.sleep(0.3)  # who asks takes memory, too: the first thousand clients some pages
        return sum(int(service["restarts"]) for service in b.services().values()) >= lives

    def least_after(lives: int) -> int:
        wait_until(lambda: has_had(lives), f"{lives} lives")
        return min(b.private_kilobytes() for _ in range(5))

    before = least_after(600)
    waiting = [b.connect() for _ in range(clients)]
    assert least_after(5000) <= before + 100
    for connection in waiting:
        connection.close()
