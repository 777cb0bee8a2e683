"""Contract, "Control": `signal SIG NAME...`: to the main process."""

from pathlib import Path

import pytest
from controlling import DONE, OTHER, Boxes, refused
from harness import Starter
from serving import FOREVER, PID_1, Journal, log_lines, wait_pid

LOOP = "while :; do sleep 0.01; done"


@PID_1
def test_a_signal_goes_to_the_main_process_alone(box: Boxes, journal: Journal, pid_1: bool) -> None:
    """Neither to its process group, nor to anybody else."""
    child = f"trap '{journal.note('child')}' HUP; {journal.note('ready')}; {LOOP}"
    script = f"({child}) & trap '{journal.note('main')}' HUP; {journal.note('ready')}; {LOOP}"
    other = f"trap '{journal.note('other')}' HUP; {journal.note('ready')}; {LOOP}"
    b = box({"web": {"command": script}, "db": {"command": other}}, pid_1=pid_1)
    journal.wait("ready", 3)
    for number in range(1, 4):
        assert b.ask("signal", "HUP", "web") == DONE
        journal.wait("main", number)
    assert set(journal.lines()) == {"ready", "main"}


@pytest.mark.parametrize("word", ["USR1", "SIGUSR1", "usr1", "sigusr1", "10"])
def test_its_name_may_be_written_as_everywhere(box: Boxes, journal: Journal, word: str) -> None:
    b = box({"web": {"command": f"trap '{journal.note('got')}' USR1; {journal.note('ready')}; {LOOP}"}})
    journal.wait("ready")
    assert b.ask("signal", word, "web") == DONE
    journal.wait("got")


@pytest.mark.parametrize(("word", "number"), [("RTMIN+1", 35), ("RTMAX-2", 62), ("RTMIN", 34), ("64", 64)])
def test_real_time_signals_too(box: Boxes, word: str, number: int) -> None:
    b = box({"web": {"command": FOREVER, "essential": False}, "other": OTHER})
    wait_pid(b.started, "web")
    assert b.ask("signal", word, "web") == DONE
    assert b.wait_for("web", state="failed")["exit_code"] == 128 + number


def test_several_services_get_it(box: Boxes, journal: Journal) -> None:
    script = f"trap '{journal.note('got')}' HUP; {journal.note('ready')}; {LOOP}"
    b = box({name: {"command": script} for name in "abc"})
    journal.wait("ready", 3)
    assert b.ask("signal", "HUP", "a", "c", "a") == DONE
    journal.wait("got", 2)
    assert any(
        line.endswith("signal HUP (1) a c") and line.startswith("order from pid ") for line in log_lines(b.started)
    )
    assert journal.lines().count("got") == 2


def test_what_follows_from_it_is_what_follows_from_any_end(box: Boxes) -> None:
    """A signal is no order: who ends of it is restarted, or is an end that stops all."""
    b = box({"web": {"command": FOREVER, "restart": "always", "restart_delay": 0.01}, "db": OTHER})
    wait_pid(b.started, "web")
    wait_pid(b.started, "db")
    assert b.ask("signal", "KILL", "web") == DONE
    wait_pid(b.started, "web", 2)
    assert b.services()["web"]["restarts"] == 1
    assert b.ask("signal", "TERM", "db") == DONE
    assert b.started.wait() == 143
    assert "shutdown, since db has failed" in log_lines(b.started)


def test_STOP_and_CONT_are_the_business_of_who_sends_them(box: Boxes) -> None:
    b = box({"web": OTHER})
    pid = wait_pid(b.started, "web")
    assert b.ask("signal", "STOP", "web") == DONE
    b.started.wait_log("stopped by STOP (19)")
    assert (b.services()["web"]["state"], b.services()["web"]["pid"]) == ("ready", pid)
    assert b.ask("signal", "CONT", "web") == DONE
    assert b.stop() == 0


@PID_1
def test_of_a_daemon_the_processes_that_its_keeper_has_as_children_get_it(
    box: Boxes, journal: Journal, pid_1: bool
) -> None:
    """Which of them is the main one cannot be known."""
    daemon = f"trap '{journal.note('got')}' HUP; {journal.note('ready')}; {LOOP}"
    path = journal.path.parent / "daemon"
    path.write_text(daemon)
    b = box({"web": {"command": f"setsid sh {path} & exit 0", "daemon": True}, "other": OTHER}, pid_1=pid_1)
    journal.wait("ready")
    b.wait_for("web", state="ready")
    assert b.ask("signal", "HUP", "web") == DONE
    journal.wait("got")
    assert b.services()["web"]["state"] == "ready"


def test_who_does_not_run_is_named_and_then_nobody_gets_it(box: Boxes, journal: Journal) -> None:
    script = f"trap '{journal.note('got')}' HUP; {journal.note('ready')}; {LOOP}"
    b = box({"web": {"command": script}, "done": {"command": "exit 0", "oneshot": True}, "db": OTHER})
    journal.wait("ready")
    b.wait_for("done", state="done")
    assert b.ask("stop", "db") == DONE
    assert b.ask("signal", "HUP", "web", "done", "db") == refused("done: not running", "db: not running")
    assert b.ask("signal", "USR1", "done") == refused("done: not running")
    assert "got" not in journal.lines()


def test_who_has_ended_and_left_others_does_not_run(box: Boxes) -> None:
    """Its main process is gone; what is left of its group has to end before there is a next life."""
    b = box({"web": {"command": "sleep 1000 & exit 0"}, "other": OTHER})
    b.started.wait_log("others of its process group are left")
    assert b.ask("signal", "HUP", "web") == refused("web: not running")
    assert b.services()["web"]["pid"] is None


@PID_1
def test_a_service_of_another_user_gets_it(box: Boxes, journal: Journal, pid_1: bool) -> None:
    script = f"trap '{journal.note('got')}' HUP; {journal.note('ready')}; {LOOP}"
    b = box({"web": {"command": script, "user": "1234:1234"}}, pid_1=pid_1)
    journal.wait("ready")
    assert b.ask("signal", "HUP", "web") == DONE
    journal.wait("got")


def test_a_daemon_that_was_not_executed_does_not_run(box: Boxes, tmp_path: Path) -> None:
    """Its keeper's number may mean another process by now."""
    keys = {"command": [str(tmp_path / "none")], "daemon": True, "essential": False}
    b = box({"web": {**keys, "healthcheck": {"notify": True, "start_period": 0.1}}, "other": OTHER})
    b.wait_for("web", state="failed")
    assert b.ask("signal", "HUP", "web") == refused("web: not running")
    web = b.services()["web"]
    assert (web["pid"], web["health"]) == (None, None)
    assert "not ready within" not in b.started.log()


def test_the_names_are_missed(start: Starter) -> None:
    needed = "run: [error] signal needs the name of a service: 'signal HUP web' is accepted\n"
    assert start.result("-c", "signal", "HUP") == (125, "", needed)
