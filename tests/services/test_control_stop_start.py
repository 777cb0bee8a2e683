"""Contract, "Control": `stop` and `start`: the named services only; they return when it is done, or with 1 and why."""

import signal
from pathlib import Path

import pytest
from controlling import DONE, IN_AN_HOUR, OTHER, Boxes, check, refused, until
from serving import FOREVER, PID_1, Journal, events, pids, wait_pid

# -- Stop --------------------------------------------------------------------------------------------------------------


@PID_1
def test_stop_returns_when_the_service_has_ended(box: Boxes, journal: Journal, pid_1: bool) -> None:
    script = f"trap '{journal.note('told')}; sleep 0.3; {journal.note('gone')}; exit 0' TERM; {journal.note('there')}"
    b = box({"web": {"command": f"{script}; while :; do sleep 0.01; done"}, "other": OTHER}, pid_1=pid_1)
    journal.wait("there")
    assert b.ask("stop", "web") == DONE
    assert journal.lines() == ["there", "told", "gone"]
    assert events(b.started, "web")[-1] == "exited with code 0; stopped"
    assert b.services()["web"]["pid"] is None
    assert b.stop() == 0


@PID_1
def test_what_was_stopped_by_hand_stays_stopped_and_does_not_end_the_container(box: Boxes, pid_1: bool) -> None:
    """Though it is essential, is to be restarted whatever happens, and is all there is."""
    b = box({"web": {"command": FOREVER, "restart": "always", "restart_delay": 0.01}}, pid_1=pid_1)
    wait_pid(b.started, "web")
    assert b.ask("stop", "web") == DONE
    for _ in range(3):
        assert b.services()["web"]["state"] == "stopped"
    assert b.ask("start", "web") == DONE
    assert b.services()["web"]["state"] == "ready"
    assert len(pids(b.started, "web")) == 2 and "shutdown" not in b.started.log()
    assert b.stop() == 0


def test_stop_kills_when_the_grace_is_over(box: Boxes, journal: Journal) -> None:
    script = f"trap '' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    b = box({"web": {"command": script, "stop_grace_period": 0.1}, "other": OTHER})
    journal.wait("there")
    assert b.ask("stop", "web") == DONE
    assert events(b.started, "web")[-1].startswith("killed by KILL (9)")
    assert b.services()["other"]["state"] == "ready"


def test_stop_of_what_waits_to_restart_ends_the_waiting(box: Boxes) -> None:
    b = box({"web": {"command": "exit 3", **IN_AN_HOUR}, "other": OTHER})
    b.wait_for("web", state="restarting")
    assert b.ask("stop", "web") == DONE
    assert b.services()["web"]["state"] == "stopped"
    assert "shutdown" not in b.started.log()


def test_stop_of_what_waits_for_another_one(box: Boxes) -> None:
    db = {"command": FOREVER, "healthcheck": check({"test": ["false"]}), "essential": False}
    b = box({"db": db, "web": {"command": FOREVER, "depends_on": ["db"]}, "other": OTHER})
    b.wait_for("web", state="waiting")
    assert b.ask("stop", "web") == DONE
    assert b.services()["web"]["state"] == "stopped"
    assert pids(b.started, "web") == []


def test_stop_concerns_the_named_services_only(box: Boxes) -> None:
    """Those that depend on it go on, and so do those that it depends on."""
    on = {"a": [], "b": ["a"], "c": ["b"]}
    b = box({name: {"command": FOREVER, "depends_on": others} for name, others in on.items()})
    wait_pid(b.started, "c")
    before = {name: service["pid"] for name, service in b.services().items()}
    assert b.ask("stop", "b") == DONE
    assert {name: service["pid"] for name, service in b.services().items()} == before | {"b": None}
    assert b.ask("start", "b") == DONE
    after = {name: service["pid"] for name, service in b.services().items()}
    assert after.pop("b") not in (None, before.pop("b")) and after == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_container_in_which_all_is_stopped_by_hand_ends_by_a_signal(box: Boxes, signum: int) -> None:
    b = box({"web": OTHER, "db": OTHER})
    wait_pid(b.started, "db")
    assert b.ask("stop", "web", "db") == DONE
    assert {service["state"] for service in b.services().values()} == {"stopped"}
    b.started.send(signum)
    assert b.started.wait() == 0


def test_an_order_may_take_longer_than_the_ten_seconds_in_which_run_has_to_answer(box: Boxes, journal: Journal) -> None:
    script = f"trap 'sleep 11; exit 0' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    b = box({"web": {"command": script}, "other": OTHER}, top={"stop_grace_period": 3600})
    journal.wait("there")
    assert b.ask("stop", "web") == DONE


# -- Start -------------------------------------------------------------------------------------------------------------


@PID_1
def test_start_returns_when_the_service_is_ready(box: Boxes, flag: Path, pid_1: bool) -> None:
    b = box({"web": {"command": FOREVER, "healthcheck": until(flag)}, "other": OTHER}, pid_1=pid_1)
    wait_pid(b.started, "web")
    assert b.ask("stop", "web") == DONE
    client = b.client("start", "web")
    wait_pid(b.started, "web", 2)
    assert b.services()["web"]["state"] == "starting"
    assert client.process.poll() is None
    flag.touch()
    assert (client.wait(), client.log()) == (0, "")
    assert b.services()["web"]["state"] == "ready"


def test_start_of_what_is_ready_is_done(box: Boxes) -> None:
    b = box({"web": OTHER})
    pid = wait_pid(b.started, "web")
    assert b.ask("start", "web") == DONE
    assert b.services()["web"]["pid"] == pid


def test_start_of_a_oneshot_is_done_when_it_has_succeeded(box: Boxes, journal: Journal) -> None:
    script = f"sleep 0.2; {journal.note('migrated')}; [ $(wc -l <{journal.path}) -lt 3 ]"
    b = box({"migrate": {"command": script, "oneshot": True, "essential": False}, "other": OTHER})
    b.wait_for("migrate", state="done")
    assert b.ask("start", "migrate") == DONE
    assert journal.lines() == ["migrated"] * 2
    assert b.ask("start", "migrate") == refused("migrate: exited with code 1; failed")
    assert journal.lines() == ["migrated"] * 3


@pytest.mark.parametrize("restart", ["no", "always"])
def test_start_fails_at_the_end_of_a_life_before_it_is_ready(box: Boxes, restart: str) -> None:
    web = {"command": "exit 7", **IN_AN_HOUR, "restart": restart, "essential": False}
    b = box({"web": {**web, "healthcheck": check({"test": ["false"]})}, "other": OTHER})
    b.wait_for("web", exit_code=7)
    after = "failed" if restart == "no" else "next start in 3600 s, restart 1"
    assert b.ask("start", "web") == refused(f"web: exited with code 7; {after}")


def test_start_fails_for_a_command_that_cannot_be_executed(box: Boxes, tmp_path: Path) -> None:
    b = box({"web": {"command": [str(tmp_path / "none")], "essential": False}, "other": OTHER})
    b.wait_for("web", state="failed")
    assert b.ask("start", "web") == refused(f"web: {tmp_path}/none: not found")


def test_start_of_what_waits_to_restart_starts_it_at_once(box: Boxes, journal: Journal) -> None:
    script = f"{journal.note('life')}; [ $(wc -l <{journal.path}) = 1 ] && exit 3; {FOREVER}"
    b = box({"web": {"command": script, **IN_AN_HOUR}, "other": OTHER})
    b.wait_for("web", state="restarting")
    assert b.ask("start", "web") == DONE
    assert b.services()["web"]["state"] == "ready"
    journal.wait("life", 2)


def test_start_is_refused_where_somebody_has_stopped_what_it_depends_on(box: Boxes) -> None:
    on = {"a": [], "b": [], "c": ["a", "b"]}
    b = box({name: {"command": FOREVER, "depends_on": others} for name, others in on.items()})
    wait_pid(b.started, "c")
    assert b.ask("stop", "a", "b", "c") == DONE
    reasons = [f"c: it depends on {name}, which is stopped: start {name}, too" for name in "ab"]
    assert b.ask("start", "c") == refused(*reasons)
    assert b.ask("restart", "c", "a") == refused(reasons[1])
    assert b.services()["a"]["state"] == "stopped", "what is refused changes nothing"
    assert b.ask("start", "c", "b", "a") == DONE
    assert {service["state"] for service in b.services().values()} == {"ready"}


def test_a_oneshot_that_has_succeeded_and_was_stopped_then_is_waited_for_by_nobody(box: Boxes) -> None:
    b = box({"migrate": {"command": "exit 0", "oneshot": True}, "web": {"command": FOREVER, "depends_on": ["migrate"]}})
    wait_pid(b.started, "web")
    assert b.ask("stop", "migrate") == DONE
    assert b.ask("restart", "web") == DONE


def test_start_ends_when_what_it_waits_for_is_stopped(box: Boxes) -> None:
    db = {"command": FOREVER, "healthcheck": check({"test": ["false"]}), "essential": False}
    b = box({"db": db, "web": {"command": FOREVER, "depends_on": ["db"]}, "other": OTHER})
    wait_pid(b.started, "db")
    client = b.client("start", "web")
    b.started.wait_log("start web")
    assert b.ask("stop", "db") == DONE
    assert (client.wait(), client.log()) == refused("web: it depends on db, which is stopped: start db, too")[::2]


def test_start_fails_where_what_it_depends_on_has_failed(box: Boxes) -> None:
    db = {"command": "exit 5", "oneshot": True, "essential": False}
    b = box({"db": db, "web": {"command": FOREVER, "depends_on": ["db"], "essential": False}, "other": OTHER})
    b.wait_for("web", state="failed")
    for action in "start", "restart":
        assert b.ask(action, "web") == refused("web: not started, since db has failed")


# -- Those that depend on what was stopped by hand ---------------------------------------------------------------------


def test_who_depends_on_what_was_killed_by_hand_waits_and_ends_nothing(box: Boxes) -> None:
    """The stop took KILL, so that it counts 137: it was asked for all the same."""
    deaf = {"command": f"trap '' TERM; {FOREVER}", "stop_grace_period": 0.1}
    web = {"command": FOREVER, "restart": "always", "restart_delay": 0.01, "depends_on": ["db"]}
    b = box({"db": deaf, "web": web})
    wait_pid(b.started, "web")
    assert b.ask("stop", "db") == DONE
    assert b.ask("signal", "KILL", "web") == DONE
    b.wait_for("web", state="waiting")
    assert b.ask("start", "db") == DONE
    b.wait_for("web", state="ready")
    assert "shutdown" not in b.started.log()
    assert b.stop() == 137  # db, whose grace is over once more


def test_start_is_refused_however_far_what_was_stopped_is(box: Boxes) -> None:
    on = {"a": [], "b": ["a"], "c": ["b"]}
    keys = {"command": FOREVER, "restart": "always", "restart_delay": 0.01}
    b = box({name: {**keys, "depends_on": others} for name, others in on.items()} | {"other": OTHER})
    wait_pid(b.started, "c")
    assert b.ask("stop", "a", "c") == DONE
    assert b.ask("signal", "KILL", "b") == DONE
    b.wait_for("b", state="waiting")
    assert b.ask("start", "c") == refused("c: it depends on a, which is stopped: start a, too")
    assert b.ask("start", "c", "a") == DONE


def test_who_waits_for_what_then_ends_all_is_told_why(box: Boxes, flag: Path) -> None:
    web = {
        "command": f"[ ! -e {flag} ] || exit 9; {FOREVER}",
        "healthcheck": check({"test": ["test", "!", "-e", str(flag)]}),
    }
    b = box({"web": web, "other": OTHER})
    b.wait_for("web", state="ready")
    flag.touch()
    assert b.ask("restart", "web") == refused("web: exited with code 9; failed", "all is being stopped")
    assert b.started.wait() == 9


def test_or_why_it_cannot_be_executed_any_more(box: Boxes, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho up\nexec sleep 1000\n")
    program.chmod(0o755)
    b = box({"web": {"command": [str(program)]}, "other": OTHER})
    b.started.wait_out("up\n")  # the shell has opened it
    program.unlink()
    code, _, log = b.ask("restart", "web")
    assert (code, log.count("\n")) == (1, 2)
    assert log.startswith("run: [error] web: ") and "; \n" not in log and log.endswith("all is being stopped\n")
    assert b.started.wait() == 127
