"""Contract, "The exit code of services"."""

import os
import signal
from pathlib import Path

import pytest
from harness import Starter, wait_until
from serving import AWAKE, FOREVER, PID_1, Journal, Keys, Server, events, wait_pid


@PID_1
@pytest.mark.parametrize(("end", "code"), [("exit 3", 3), ("exit 255", 255), ("kill -SEGV $$", 139), ("exit 1", 1)])
def test_it_is_that_of_the_service_whose_end_has_stopped_all(
    serve: Server, journal: Journal, end: str, code: int, pid_1: bool
) -> None:
    """Also where another one ends worse, before or when it is stopped."""
    started = serve(
        {
            "before": {"command": "exit 99", "essential": False},
            "worse": {"command": journal.told("worse", "exit 200")},
            "cause": {"command": f"until [ -s {journal.path} ]; do sleep 0.01; done; {end}", "depends_on": ["worse"]},
        },
        pid_1=pid_1,
    )
    assert started.wait() == code
    assert events(started, "worse")[-1] == "exited with code 200; failed"


def test_if_that_is_0_it_is_the_highest_among_the_last_lives(serve: Server, journal: Journal, flag: Path) -> None:
    started = serve(
        {
            "before": {"command": "exit 7", "essential": False},
            "worse": {"command": journal.told("worse", "exit 5")},
            "cause": {"command": f"until [ -e {flag} ]; do sleep 0.01; done; exit 0", "depends_on": ["worse"]},
        }
    )
    journal.wait("worse ready")
    started.wait_log("exited with code 7")
    flag.touch()
    assert started.wait() == 7
    assert events(started, "worse")[-1] == "exited with code 5; failed"


def test_of_a_service_that_was_restarted_the_last_life_counts(serve: Server, journal: Journal) -> None:
    script = f"{journal.note('life')}; [ $(wc -l <{journal.path}) = 3 ] || exit 9"
    keys = {"command": script, "restart": "on-failure", "restart_delay": 0.01}
    assert serve.result({"web": keys})[0] == 0
    assert journal.lines() == ["life"] * 3


def test_without_a_service_that_has_stopped_all_it_is_the_highest_too(serve: Server) -> None:
    services = {f"s{code}": {"command": f"exit {code}", "essential": False} for code in (0, 4, 44, 14)}
    assert serve.result(services)[0] == 44


STOPPED: dict[str, tuple[Keys, int]] = {
    "it exits with 0": ({"command": "trap 'exit 0' TERM"}, 0),
    "it dies of its stop signal": ({"command": ""}, 0),
    "it exits with 128 + that signal, as Java does": ({"command": "trap 'exit 143' TERM"}, 0),
    "it exits with 128 + another signal": ({"command": "trap 'exit 130' TERM"}, 130),
    "it exits with another code": ({"command": "trap 'exit 3' TERM"}, 3),
    "it dies of another signal": ({"command": "trap 'kill -USR1 $$' TERM"}, 138),
    "QUIT: it dies of it": ({"command": "", "stop_signal": "QUIT"}, 0),
    "QUIT: it exits with 128 + 3": ({"command": "trap 'exit 131' QUIT", "stop_signal": "QUIT"}, 0),
    "QUIT: it exits as if by TERM": ({"command": "trap 'exit 143' QUIT", "stop_signal": "QUIT"}, 143),
    "it takes KILL": ({"command": "trap '' TERM", "stop_grace_period": 0.2}, 137),
    "KILL is its stop signal": ({"command": "trap '' TERM", "stop_signal": "KILL"}, 0),
}


@PID_1
@pytest.mark.parametrize(("keys", "code"), STOPPED.values(), ids=STOPPED)
def test_what_a_life_counts_that_ended_because_run_stopped_it(
    serve: Server, journal: Journal, keys: Keys, code: int, pid_1: bool
) -> None:
    script = f"{keys['command'] or ':'}; {journal.note('ready')}; {AWAKE}"
    started = serve({"web": {**keys, "command": script}}, "-t3600", pid_1=pid_1)
    journal.wait("ready")
    started.send(signal.SIGTERM)
    assert started.wait() == code


@pytest.mark.parametrize(("end", "code"), [("kill -TERM $$", 143), ("exit 143", 143), ("kill -KILL $$", 137)])
def test_what_ends_so_without_having_been_stopped_counts_in_full(serve: Server, end: str, code: int) -> None:
    assert serve.result({"web": {"command": end}})[0] == code


def test_who_is_killed_by_somebody_else_meanwhile_counts_137(serve: Server, journal: Journal) -> None:
    started = serve({"web": {"command": journal.told("web", AWAKE)}}, "-t3600")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    journal.wait("web told")
    os.kill(wait_pid(started, "web"), signal.SIGKILL)
    assert started.wait() == 137


def test_what_was_never_started_counts_nothing(serve: Server, journal: Journal) -> None:
    """Who waits for a oneshot that is stopped."""
    services = {
        "migrate": {"command": FOREVER, "oneshot": True},
        "web": {"command": "exit 9", "depends_on": ["migrate"]},
    }
    started = serve(services)
    wait_pid(started, "migrate")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_a_oneshot_that_was_stopped_counts_as_any_other(serve: Server, journal: Journal) -> None:
    started = serve({"migrate": {"command": journal.told("migrate", "exit 6"), "oneshot": True}})
    journal.wait("migrate ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 6


def test_the_last_life_of_one_that_waits_for_its_next_counts(serve: Server) -> None:
    started = serve({"web": {"command": "exit 8", "restart": "always", "restart_delay": 60}})
    started.wait_log("next start in 60 s")
    started.send(signal.SIGTERM)
    assert started.wait() == 8


def test_orphans_count_nothing(serve: Server) -> None:
    started = serve({"web": {"command": f"(setsid sh -c 'exit 99' &); {FOREVER}"}})
    started.wait_log("exited with code 99")
    wait_until(lambda: wait_pid(started, "web"), "it runs")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@pytest.mark.parametrize(
    ("options", "other"), [((), "true"), (("-s", "TERM"), "sleep 1000"), (("-s", "INT"), "sleep 1000")]
)
def test_with_m_too_it_is_that_of_the_one_that_has_ended(start: Starter, options: tuple[str, ...], other: str) -> None:
    assert start(*options, "-m", "sh -c 'kill -TERM $$$$'", other).wait() == 143
