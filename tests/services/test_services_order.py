"""Contract, "A service's life": when a service starts: once all that it depends on are ready, and else never."""

import os
import signal
from pathlib import Path

import pytest
from harness import open_gate, wait_until
from serving import FOREVER, PID_1, Journal, Keys, Server, events, log_lines, pids, wait_pid


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe in the file system that a service reads from until the test opens it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def started_names(lines: list[str]) -> list[str]:
    """Who was started, in the order of the log."""
    return [line.partition(" ")[0] for line in lines if "): started " in line]


@PID_1
def test_a_service_starts_after_those_that_it_depends_on_and_else_in_the_order_of_the_file(
    serve: Server, pid_1: bool
) -> None:
    on = {"web": ["app", "cache"], "cache": [], "app": ["db", "cache"], "db": ["migrate"], "migrate": [], "last": []}
    services = {name: {"command": FOREVER, "depends_on": others} for name, others in on.items()}
    started = serve(services, pid_1=pid_1)
    started.wait_log("web (pid ")
    assert started_names(log_lines(started)) == ["cache", "migrate", "last", "db", "app", "web"]
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_a_service_that_is_ready_has_been_executed_and_not_just_forked(serve: Server, journal: Journal) -> None:
    """So nobody who is started behind it sees another `run` before itself. Children are listed in order of birth."""
    look = f'[ $p != $$ ] || break; cat /proc/$p/comm >>"{journal.path}"'
    script = f"for p in $(cat /proc/$PPID/task/*/children); do {look}; done; {FOREVER}"
    services = {
        f"s{number}": {"command": script, "depends_on": [f"s{number - 1}"] if number else []} for number in range(40)
    }
    started = serve(services)
    wait_until(lambda: len(pids(started, "s39")) == 1, "all are started")
    wait_until(lambda: len(journal.lines()) == 40 * 39 // 2, "they have looked")
    assert set(journal.lines()) <= {"sh", "sleep"}, "the names of those who ran when the next one was started"


@PID_1
def test_who_depends_on_a_oneshot_waits_for_its_success_and_others_do_not(
    serve: Server, journal: Journal, gate: Path, pid_1: bool
) -> None:
    started = serve(
        {
            "migrate": {"command": f"read _ <{gate}; {journal.note('migrated')}", "oneshot": True},
            "web": {"command": f"{journal.note('web')}; {FOREVER}", "depends_on": ["migrate"]},
            "worker": {"command": f"{journal.note('worker')}; {FOREVER}", "depends_on": ["web"]},
            "other": {"command": f"{journal.note('other')}; {FOREVER}"},
        },
        pid_1=pid_1,
    )
    journal.wait("other")
    wait_pid(started, "other")
    assert started_names(log_lines(started)) == ["migrate", "other"]
    open_gate(gate)
    journal.wait("web")
    journal.wait("worker")
    wait_pid(started, "worker")
    assert journal.lines()[:2] == ["other", "migrated"]
    assert started_names(log_lines(started)) == ["migrate", "other", "web", "worker"]
    assert events(started, "migrate")[-1] == "exited with code 0; done"


def test_who_depends_on_several_waits_for_all_of_them(serve: Server, journal: Journal, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate-{number}" for number in range(3)]
    for gate in gates:
        os.mkfifo(gate)
    services: dict[str, Keys] = {
        gate.name: {"command": f"read _ <{gate}; {journal.note(gate.name)}", "oneshot": True} for gate in gates
    }
    started = serve({"web": {"command": journal.note("web"), "depends_on": list(services)}, **services})
    for gate in gates:
        assert "web" not in journal.lines()
        open_gate(gate)
        journal.wait(gate.name)
    assert started.wait() == 0
    assert journal.lines() == [*services, "web"]


def test_a_oneshot_that_succeeds_at_its_third_try_is_ready_then(serve: Server, journal: Journal) -> None:
    script = f'{journal.note("try")}; [ $(wc -l <"{journal.path}") = 3 ]'
    keys = {"command": script, "oneshot": True, "restart": "on-failure", "restart_delay": 0.01}
    services = {"web": {"command": journal.note("web"), "depends_on": ["migrate"]}, "migrate": keys}
    assert serve.result(services)[0] == 0
    assert journal.lines() == ["try"] * 3 + ["web"]


FAILURES = {
    "a oneshot's failure": ({"command": "exit 3", "oneshot": True}, 3),
    "a oneshot that is killed": ({"command": "kill -SEGV $$", "oneshot": True}, 139),
    "a command that is not there": ({"command": ["/none/such"]}, 127),
    "a file that cannot be executed": ({"command": ["/etc"]}, 126),
    "a directory that is not there": ({"command": "exit 0", "working_dir": "/none/such"}, 126),
    "a failure after restarts": (
        {"command": "exit 4", "oneshot": True, "restart": "on-failure:2", "restart_delay": 0.01},
        4,
    ),
}


@pytest.mark.parametrize(("keys", "code"), FAILURES.values(), ids=FAILURES)
def test_who_depends_on_what_has_failed_for_good_fails_and_is_not_started(
    serve: Server, journal: Journal, keys: Keys, code: int
) -> None:
    """However far; nobody else is stopped by that where nobody is essential."""
    started = serve(
        {
            "far": {"command": journal.note("far"), "depends_on": ["near"], "essential": False},
            "near": {"command": journal.note("near"), "depends_on": ["bad", "other"], "essential": False},
            "bad": {**keys, "essential": False},
            "other": {"command": f"{journal.note('other')}; {FOREVER}", "essential": False},
        }
    )
    journal.wait("other")
    started.wait_log("far: not started")
    assert events(started, "near") == ["not started, since bad has failed"]
    assert events(started, "far") == ["not started, since near has failed"]
    assert started.process.poll() is None
    started.send(signal.SIGTERM)
    assert started.wait() == code
    assert journal.lines() == ["other"]


def test_who_fails_since_another_has_failed_stops_all_where_it_is_essential(serve: Server, journal: Journal) -> None:
    started = serve(
        {
            "bad": {"command": "exit 5", "oneshot": True, "essential": False},
            "web": {"command": journal.note("web"), "depends_on": ["bad"]},
            "other": {"command": FOREVER},
        }
    )
    assert started.wait() == 5
    assert "shutdown, since web has failed" in log_lines(started)
    assert journal.lines() == []


def test_who_depends_on_what_has_ended_meanwhile_is_not_started(serve: Server, journal: Journal, gate: Path) -> None:
    started = serve(
        {
            "short": {"command": "exit 0", "essential": False},
            "slow": {"command": f"read _ <{gate}", "oneshot": True},
            "web": {"command": journal.note("web"), "depends_on": ["slow", "short"], "essential": False},
        }
    )
    started.wait_log("exited with code 0; ended")
    open_gate(gate)
    assert started.wait() == 1
    assert events(started, "web") == ["not started, since short has ended"]
    assert journal.lines() == []


def test_who_depends_on_what_restarts_waits_for_its_next_life(serve: Server, journal: Journal, gate: Path) -> None:
    """Between two lives a service is not ready."""
    started = serve(
        {
            "shaky": {
                "command": f'{journal.note("shaky")}; [ $(grep -c shaky "{journal.path}") = 2 ] && {FOREVER}; exit 1',
                **{"restart": "always", "restart_delay": 3},
            },
            "slow": {"command": f"read _ <{gate}; {journal.note('slow')}", "oneshot": True},
            "web": {"command": f"{journal.note('web')}; {FOREVER}", "depends_on": ["slow", "shaky"]},
        }
    )
    started.wait_log("next start in 3 s")
    open_gate(gate)
    journal.wait("web")
    wait_pid(started, "web")
    assert started_names(log_lines(started)) == ["shaky", "slow", "shaky", "web"]
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_names_on_the_command_line_start_those_and_all_that_they_depend_on(serve: Server, journal: Journal) -> None:
    on = {"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d"]}
    services = {
        name: {"command": journal.note(name), "oneshot": True, "depends_on": others} for name, others in on.items()
    }
    assert serve.result(services, names=["c"])[0] == 0
    assert journal.lines() == ["a", "b", "c"]
    assert serve.result(services, names=["e", "a", "e"])[0] == 0
    assert sorted(journal.lines()[3:]) == ["a", "d", "e"]


def test_two_hundred_services_start_in_order(serve: Server, journal: Journal) -> None:
    services = {
        f"s{number}": {"command": journal.note(f"{number}"), "oneshot": True, "depends_on": [f"s{number - 1}"][:number]}
        for number in range(200)
    }
    assert serve.result(services, "-q") == (0, "", "")
    assert journal.lines() == [str(number) for number in range(200)]
