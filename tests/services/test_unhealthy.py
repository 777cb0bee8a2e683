"""Contract, "Ready and healthy": when a service is unhealthy, what is said of it, and what follows."""

import pytest
from controlling import OTHER, Boxes, check, probed, steadily
from harness import wait_until
from serving import FOREVER, PID_1, Journal, Server, events, log_lines, pids, wait_pid

RESTARTS = {"on_unhealthy": "restart", "restart_delay": 0.01, "restart_max_delay": 0.01}

FAILED = "healthcheck failed: exited with code 1"


def told(started_events: list[str]) -> list[str]:
    """What the log says of a service, without its start and how long that took."""
    return [event.partition(",")[0] for event in started_events if not event.startswith("started ")]


def shaky(journal: Journal, good: int) -> list[str]:
    """A test that succeeds so many times in each life, which a note of it separates, and then fails."""
    count = f"tac {journal.path} | sed /life/q | grep -c probe"
    return ["CMD-SHELL", f"{journal.note('probe')}; [ $({count}) -le {good} ]"]


# -- When --------------------------------------------------------------------------------------------------------------


@PID_1
def test_so_many_failures_in_a_row_are_unhealthy_and_a_success_between_them_begins_anew(
    serve: Server, journal: Journal, pid_1: bool
) -> None:
    """Retries = 3. Unhealthy is logged once, and so is that it is over."""
    probe = check({"test": probed(journal, "2|3|5|6|8|9|10|11|12|15")}, retries=3)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}}, pid_1=pid_1)
    journal.wait("probe", 18)
    assert told(events(started, "web")) == [
        "ready",
        *[FAILED] * 2,
        *[FAILED] * 2,
        *[FAILED] * 3,
        "unhealthy after 3 failures in a row",
        *[FAILED] * 2,
        "healthy again",
        FAILED,
    ]
    levels = [line.split()[1] for line in started.log().splitlines() if "unhealthy" in line or "again" in line]
    assert levels == ["[warn]", "[info]"]


@pytest.mark.parametrize("retries", [1, 2, 5])
def test_retries_is_how_many(box: Boxes, journal: Journal, retries: int) -> None:
    failures = "|".join(str(2 + number) for number in range(retries))
    b = box({"web": {"command": FOREVER, "healthcheck": check({"test": probed(journal, failures)}, retries=retries)}})
    b.started.wait_log("healthy again")
    unhealthy = f"unhealthy after {retries} failure{'s' * (retries > 1)} in a row"
    assert told(events(b.started, "web")) == ["ready", *[FAILED] * retries, unhealthy, "healthy again"]


def test_failures_before_the_first_success_make_nothing_unhealthy(serve: Server, journal: Journal) -> None:
    """They do not count for what comes after it either."""
    probe = check({"test": probed(journal, "1|2|3|4|5|7|8|10")}, retries=3)
    started = serve({"web": {"command": FOREVER, "healthcheck": probe}})
    journal.wait("probe", 11)
    wait_until(lambda: told(events(started, "web")).count(FAILED) == 3, "three failures after it")
    assert told(events(started, "web")) == ["not ready yet: exited with code 1", "ready", *[FAILED] * 3]


# -- The default: it is said -------------------------------------------------------------------------------------------


def test_by_default_an_unhealthy_service_goes_on(box: Boxes, journal: Journal) -> None:
    probe = check({"test": probed(journal, "[2-9]*|1?*")}, retries=2)
    b = box(
        {
            "web": {"command": FOREVER, "healthcheck": probe, "restart": "always"},
            "app": {**OTHER, "depends_on": ["web"]},
        }
    )
    app = wait_pid(b.started, "app")
    b.wait_for("web", state="ready", health="unhealthy", health_reason="exited with code 1")
    count = len(journal.lines())
    journal.wait("probe", count + 3)
    assert len(pids(b.started, "web")) == len(pids(b.started, "app")) == 1
    assert b.services()["app"]["pid"] == app
    assert b.stop() == 0


# -- on_unhealthy = "restart" ------------------------------------------------------------------------------------------


@PID_1
@pytest.mark.parametrize("restart", ["no", "on-failure", "always"])
def test_it_is_restarted_whatever_restart_says(serve: Server, journal: Journal, restart: str, pid_1: bool) -> None:
    probe = check({"test": shaky(journal, 2)}, retries=2)
    keys = {"command": f"{journal.note('life')}; {FOREVER}", "healthcheck": probe, "restart": restart, **RESTARTS}
    started = serve({"web": keys, "other": OTHER}, pid_1=pid_1)
    journal.wait("life", 3)
    said = told(events(started, "web"))
    number = said.index("ready")
    assert said[number : number + 5] == [
        "ready",
        *[FAILED] * 2,
        "unhealthy after 2 failures in a row; to be restarted",
        "killed by TERM (15); next start in 0.01 s",
    ]
    assert "shutdown" not in started.log()


def test_that_counts_as_a_failure_within_its_limit(serve: Server, journal: Journal) -> None:
    """And a life that ends well when it is stopped counts 124, as timeout(1) has it; the end is for good then."""
    probe = check({"test": shaky(journal, 1)}, retries=1)
    keys = {
        "command": f"{journal.note('life')}; {FOREVER}",
        "healthcheck": probe,
        "restart": "on-failure:2",
        **RESTARTS,
    }
    started = serve({"web": keys, "other": OTHER})
    assert started.wait() == 124
    assert journal.lines().count("life") == 3
    assert [event for event in events(started, "web") if "restart " in event] == [
        f"killed by TERM (15); next start in 0.01 s, restart {number} of 2" for number in (1, 2)
    ]
    assert events(started, "web")[-1] == "killed by TERM (15); failed after 2 restarts"
    assert "shutdown, since web has failed" in log_lines(started)


def test_a_life_that_ends_badly_when_it_is_stopped_counts_what_it_ends_with(serve: Server, journal: Journal) -> None:
    probe = check({"test": shaky(journal, 1)}, retries=1)
    script = f"trap 'exit 9' TERM; {journal.note('life')}; while :; do sleep 0.01; done"
    keys = {"command": script, "healthcheck": probe, "restart": "on-failure:1", **RESTARTS}
    assert serve({"web": keys, "other": OTHER}).wait() == 9


def test_it_is_stopped_as_it_would_be_by_hand(serve: Server, journal: Journal) -> None:
    """By its stop signal, with its grace, and then KILL; who depends on it goes on."""
    probe = check({"test": shaky(journal, 1)}, retries=1)
    script = f"trap '{journal.note('told')}' USR1; {journal.note('life')}; while :; do sleep 0.01; done"
    web = {"command": script, "healthcheck": probe, "stop_signal": "USR1", "stop_grace_period": 0.3, **RESTARTS}
    started = serve({"web": web, "app": {**OTHER, "depends_on": ["web"]}})
    journal.wait("life", 2)
    said = [line for line in journal.lines() if line != "probe"]
    assert said[:3] == ["life", "told", "life"]
    assert any(event.startswith("killed by KILL (9); next start") for event in events(started, "web"))
    assert len(pids(started, "app")) == 1


def test_the_state_is_restarting_and_no_health_is_told_between_two_lives(box: Boxes, journal: Journal) -> None:
    probe = check({"test": shaky(journal, 1)}, retries=1)
    keys = {**RESTARTS, "restart_delay": 3600, "restart_max_delay": 3600}
    b = box({"web": {"command": f"{journal.note('life')}; {FOREVER}", "healthcheck": probe, **keys}, "other": OTHER})
    service = b.wait_for("web", state="restarting")
    assert (service["health"], service["health_reason"], service["pid"], service["restarts"]) == (None, None, None, 1)


# -- Who is not probed -------------------------------------------------------------------------------------------------


@PID_1
def test_a_service_that_is_being_stopped_is_not_probed(box: Boxes, journal: Journal, pid_1: bool) -> None:
    script = (
        f"trap '{journal.note('told')}; sleep 0.5; {journal.note('gone')}; exit 0' TERM; while :; do sleep 0.01; done"
    )
    probe = check({"test": probed(journal, "none")})
    b = box({"web": {"command": script, "healthcheck": probe}, "other": OTHER}, pid_1=pid_1)
    journal.wait("probe", 3)
    assert b.ask("stop", "web") == (0, "", "")
    lines = journal.lines()
    # One that had begun may have noted itself a little later than the service.
    assert "probe" not in lines[lines.index("told") + 2 :]
    assert steadily(lambda: journal.lines() == lines, 0.2), "nor one that is stopped"
    assert not [event for event in events(b.started, "web") if "healthcheck failed" in event]
