"""Contract, "Control": `health`: 0 if every essential service is ready and healthy, else 1 and who is not."""

from pathlib import Path

import pytest
from controlling import DONE, IN_AN_HOUR, OTHER, Box, Boxes, check, probed, until
from harness import wait_until
from serving import FOREVER, PID_1, Journal, wait_pid

NEVER = check({"test": ["false"]})


def ill(*who: str) -> tuple[int, str, str]:
    """What `health` ends with: it is a question, and who is not well the answer to it."""
    return 1, "; ".join(who) + "\n", ""


# -- The three traps ---------------------------------------------------------------------------------------------------


@PID_1
def test_a_service_that_starts_is_not_healthy(box: Boxes, flag: Path, pid_1: bool) -> None:
    b = box({"web": {"command": FOREVER, "healthcheck": until(flag)}, "other": OTHER}, pid_1=pid_1)
    b.started.wait_log("not ready yet")
    assert b.ask("health") == ill("web is starting")
    flag.touch()
    b.wait_for("web", state="ready")
    assert b.ask("health") == DONE


@PID_1
def test_a_oneshot_that_has_finished_is_healthy(box: Boxes, flag: Path, pid_1: bool) -> None:
    """And one that has not is not."""
    wait = f"until [ -e {flag} ]; do sleep 0.01; done"
    b = box({"migrate": {"command": wait, "oneshot": True}, "other": OTHER}, pid_1=pid_1)
    wait_pid(b.started, "other")
    assert b.ask("health") == ill("migrate is starting")
    flag.touch()
    b.wait_for("migrate", state="done")
    assert b.ask("health") == DONE


@PID_1
def test_a_service_that_waits_to_restart_is_not_healthy(box: Boxes, pid_1: bool) -> None:
    b = box({"web": {"command": "exit 1", **IN_AN_HOUR}, "other": OTHER}, pid_1=pid_1)
    b.wait_for("web", state="restarting")
    assert b.ask("health") == ill("web is restarting")


# -- Who is well, and who is not ---------------------------------------------------------------------------------------


def test_a_service_without_healthcheck_is_healthy_when_it_is_ready(box: Boxes) -> None:
    b = box({"web": OTHER, "app": {**OTHER, "depends_on": ["web"]}})
    wait_pid(b.started, "app")
    assert b.ask("health") == DONE


def test_an_unhealthy_one_is_told_with_the_reason(box: Boxes, journal: Journal) -> None:
    test = ["CMD-SHELL", f"{journal.note('probe')}; [ $(wc -l <{journal.path}) = 1 ] || {{ echo no space; exit 28; }}"]
    b = box({"web": {"command": FOREVER, "healthcheck": check({"test": test}, retries=1)}, "other": OTHER})
    b.wait_for("web", health="unhealthy")
    assert b.ask("health") == ill("web is unhealthy: exited with code 28: no space")


def test_one_failure_of_several_that_are_allowed_is_no_illness(box: Boxes, journal: Journal) -> None:
    probe = check({"test": probed(journal, "[2-9]*|1?*")}, retries=999999)
    b = box({"web": {"command": FOREVER, "healthcheck": probe}})
    b.started.wait_log("healthcheck failed")
    assert b.ask("health") == DONE


def test_all_who_are_not_well_are_in_one_line_in_the_order_of_start(box: Boxes, journal: Journal) -> None:
    slow = f"trap '{journal.note('told')}' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    services = {
        "waits": {"command": FOREVER, "depends_on": ["slow"]},
        "slow": {"command": FOREVER, "healthcheck": NEVER},
        "hangs": {"command": slow, "stop_grace_period": 3600},
        "by-hand": {"command": FOREVER},
        "well": {"command": FOREVER},
    }
    b = box(services)
    journal.wait("there")
    assert b.ask("stop", "by-hand") == DONE
    b.client("stop", "hangs")
    b.wait_for("hangs", state="stopping")
    assert b.ask("health") == ill("slow is starting", "hangs is stopping", "by-hand is stopped", "waits is waiting")


def test_while_all_is_being_stopped_nobody_is_healthy(box: Boxes, journal: Journal, flag: Path) -> None:
    script = f"trap 'until [ -e {flag} ]; do sleep 0.01; done; exit 0' TERM; {journal.note('there')}"
    b = box({"web": {"command": f"{script}; while :; do sleep 0.01; done"}, "other": OTHER}, "-t3600")
    journal.wait("there")
    b.started.send(15)
    b.wait_for("other", state="ended")
    assert b.ask("health") == ill("web is stopping", "other has ended")
    flag.touch()
    assert b.started.wait() == 0


# -- Who is asked ------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(box: Boxes) -> Box:
    """Two that are not well, one of them essential; and one that is."""
    b = box(
        {
            "web": {"command": FOREVER, "healthcheck": NEVER},
            "extra": {"command": "exit 3", "essential": False},
            "well": OTHER,
        }
    )
    b.wait_for("extra", state="failed")
    wait_pid(b.started, "well")
    return b


def test_without_names_the_essential_services_are_asked(mixed: Box) -> None:
    assert mixed.ask("health") == ill("web is starting")


def test_with_names_those_are(mixed: Box) -> None:
    assert mixed.ask("health", "well") == DONE
    assert mixed.ask("health", "extra") == ill("extra has failed")
    assert mixed.ask("health", "web", "well", "extra") == ill("web is starting", "extra has failed")


def test_where_nobody_is_essential_all_is_well(box: Boxes) -> None:
    b = box({"extra": {"command": FOREVER, "essential": False, "healthcheck": NEVER}})
    b.wait_for("extra", state="starting")
    assert b.ask("health") == DONE


def test_services_of_m_are_asked_where_the_end_of_one_is_that_of_all(box: Boxes) -> None:
    """With -s: then each of them is essential."""
    b = box({"other": OTHER})
    many = b._start("-ms", "TERM", "sleep 1000", "sleep 1000", prefix=("unshare", "--mount"))
    inside = Box(b._start, many, False)
    wait_until(lambda: many.log().count("started sleep") == 2, "both are started")
    assert inside.ask("health") == DONE
    assert list(inside.services()) == ["sleep", "sleep-2"]
