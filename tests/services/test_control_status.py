"""Contract, "Control": `status`, a table for people, and `json`, the same and all else that is known."""

import json
import os
import pty
import re
import time
from typing import Any

import pytest
from controlling import DONE, IN_AN_HOUR, OTHER, Box, Boxes, check, probed, slowness
from harness import DEADLINE, children, wait_until
from serving import FOREVER, PID_1, Journal, Line, wait_pid

from run.services import status
from run.services.life import Life
from run.services.plan import Service

NEVER = check({"test": ["false"]})
"""The healthcheck of a service that is never ready."""


def rows(table: str) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cells, as dictionaries by the head; a cell begins or ends under its title."""
    head, *lines = table.splitlines()
    titles = [(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", head)]
    found = {}
    for line in lines:
        cells = [(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", line)]
        assert len(cells) == len(titles), line
        for (_, begin, end), (title, title_begin, title_end) in zip(cells, titles, strict=True):
            assert begin == title_begin or end == title_end, f"{line!r} is not aligned below {title}"
        found[cells[0][0]] = {title: cell for (cell, _, _), (title, _, _) in zip(cells, titles, strict=True)}
    return found


@pytest.fixture
def zoo(box: Boxes, journal: Journal) -> Box:
    """Services in every state, once they are in it."""
    shaky = check({"test": probed(journal, "[2-9]*|1?*")}, retries=1)
    slow = f"trap '{journal.note('told')}' TERM; {journal.note('there')}; while :; do sleep 0.01; done"
    services: dict[str, dict[str, Any]] = {
        "migrate": {"command": "exit 0", "oneshot": True},
        "short": {"command": "exit 0"},
        "broken": {"command": "exit 3", "restart": "on-failure:2", "restart_delay": 0.01},
        "crashed": {"command": "kill -SEGV $$"},
        "none": {"command": ["/none/there"]},
        "victim": {"command": FOREVER, "depends_on": ["failed-migrate"]},
        "failed-migrate": {"command": "exit 4", "oneshot": True},
        "slow": {"command": FOREVER, "healthcheck": NEVER},
        "waits": {"command": FOREVER, "depends_on": ["slow"]},
        "again": {"command": "exit 5", **IN_AN_HOUR},
        "hangs": {"command": slow, "stop_grace_period": 3600},
        "ill": {"command": FOREVER, "healthcheck": shaky},
        "well": {"command": FOREVER, "healthcheck": check({"test": ["true"]})},
        "by-hand": {"command": FOREVER, "restart": "always"},
        "web": {"command": FOREVER},
    }
    b = box({name: {"essential": False, **keys} for name, keys in services.items()}, top={"stop_grace_period": 3600})
    for name, state in {"short": "ended", "broken": "failed", "crashed": "failed", "victim": "failed"}.items():
        b.wait_for(name, state=state)
    wait_pid(b.started, "by-hand")
    assert b.ask("stop", "by-hand") == DONE
    b.wait_for("ill", health="unhealthy")
    b.wait_for("well", health="healthy")
    b.wait_for("again", state="restarting")
    journal.wait("there")
    b.client("stop", "hangs")
    b.wait_for("hangs", state="stopping")
    return b


# -- What is told ------------------------------------------------------------------------------------------------------


def test_status_has_name_state_health_pid_restarts_and_last_exit(zoo: Box) -> None:
    code, out, log = zoo.ask("status")
    assert (code, log) == (0, "")
    found = rows(out)
    for row in found.values():
        row["PID"] = "#" if row["PID"].isdigit() else row["PID"]
        assert re.fullmatch(r"\d+[smh](\d+[smh])?", row.pop("SINCE"))
    assert {name: " ".join(list(row.values())[1:]) for name, row in found.items()} == {
        "migrate": "done - - 0 0",
        "short": "ended - - 0 0",
        "broken": "failed - - 2 3",
        "crashed": "failed - - 0 SEGV",
        "none": "failed - - 0 127",
        "failed-migrate": "failed - - 0 4",
        "victim": "failed - - 0 -",
        "slow": "starting starting # 0 -",
        "waits": "waiting - - 0 -",
        "again": "restarting - - 1 5",
        "hangs": "stopping - # 0 -",
        "ill": "ready unhealthy # 0 -",
        "well": "ready healthy # 0 -",
        "by-hand": "stopped - - 0 TERM",
        "web": "ready - # 0 -",
    }
    assert list(found)[:3] == ["migrate", "short", "broken"], "in the order of start"


def test_json_has_the_same_and_all_else(zoo: Box) -> None:
    services = zoo.services()
    table = rows(zoo.ask("status")[1])
    for name, service in services.items():
        assert list(service) == list(status.values(Life(Service("x", [], [])), None, None, 0.0, 0.0)), name
        row = table[name]
        assert row["STATE"] == service["state"] and row["RESTARTS"] == str(service["restarts"])
        assert row["HEALTH"] == (service["health"] or "-")
        assert row["PID"] == ("-" if service["pid"] is None else str(service["pid"]))
        assert (row["EXIT"] == "-") == (service["exit_code"] is None)
    ends = {name: (service["exit_code"], service["last_end"]) for name, service in services.items()}
    assert ends["crashed"] == (139, "killed by SEGV (11)")
    assert ends["none"] == (127, "/none/there: not found")
    assert ends["victim"] == (None, "not started, since failed-migrate has failed")
    assert ends["again"] == (5, "exited with code 5")
    assert ends["web"] == (None, None)
    assert 3000 < services["again"]["next_start_in"] <= 3600
    assert services["broken"]["restarts_in_a_row"] == 2
    assert (services["ill"]["health_reason"], services["well"]["health_reason"]) == ("exited with code 1", None)
    wanted = {name: service["wanted"] for name, service in services.items()}
    assert {name for name in wanted if wanted[name] == "down"} == {"by-hand", "hangs"}
    assert all(service["next_start_in"] is None for name, service in services.items() if name != "again")


@PID_1
def test_json_tells_what_a_service_is(box: Boxes, pid_1: bool) -> None:
    before = time.time()
    keys: dict[str, Any] = {
        "command": Line("/bin/sleep 1000"),
        "user": "1234:4321",
        "depends_on": ["other"],
        "restart": "on-failure:5",
        "stop_signal": "RTMIN+3",
        "daemon": True,
        "essential": False,
    }
    b = box({"web": keys, "other": OTHER}, pid_1=pid_1)
    wait_pid(b.started, "web")
    service = b.services()["web"]
    assert before - 1 < service["since"] <= time.time() and 0 <= service["seconds"] < time.time() - before + 1
    assert {name: service[name] for name in status_of_file()} == {
        "name": "web",
        "command": ["/bin/sleep", "1000"],
        "user": "1234:4321",
        "depends_on": ["other"],
        "oneshot": False,
        "essential": False,
        "daemon": True,
        "restart": "on-failure",
        "stop_signal": "RTMIN+3",
    }
    defaults = b.services()["other"]
    assert [defaults[name] for name in ("user", "depends_on", "restart", "stop_signal")] == [None, [], "no", "TERM"]


def status_of_file() -> list[str]:
    """The names of what is as in the file."""
    return ["name", "command", "user", "depends_on", "oneshot", "essential", "daemon", "restart", "stop_signal"]


def test_names_of_services_are_told_of_alone_and_in_their_order(box: Boxes) -> None:
    b = box(dict.fromkeys(("a", "b", "c", "d"), OTHER))
    wait_pid(b.started, "d")
    assert list(rows(b.ask("status", "d", "b", "d")[1])) == ["d", "b"]
    assert [json.loads(line)["name"] for line in b.ask("json", "c", "a")[1].splitlines()] == ["c", "a"]


def test_json_can_tell_any_bytes(box: Boxes) -> None:
    command = ["/bin/sh", "-c", "exec sleep 1000", '\x1b\n"\\', "ü", "${BYTES}"]
    b = box({"web": {"command": command}}, env={**os.environ, "BYTES": os.fsdecode(b"\xff\xfe")})
    wait_pid(b.started, "web")
    code, out, log = b.ask("json")
    assert (code, log) == (0, "")
    assert out.isascii() and out.count("\n") == 1
    assert json.loads(out)["command"][3:] == ['\x1b\n"\\', "ü", "\udcff\udcfe"]


def test_the_exit_code_is_0_whatever_there_is_to_tell(box: Boxes) -> None:
    b = box({"web": {"command": "exit 1", "essential": False}, "app": {"command": FOREVER, "healthcheck": NEVER}})
    b.wait_for("web", state="failed")
    assert (b.ask("status")[0], b.ask("json")[0], b.ask("health")[0]) == (0, 0, 1)


# -- How it looks ------------------------------------------------------------------------------------------------------

LONG = "a-name-of-64-characters-" + "x" * 40


def test_it_fits_80_columns_with_the_longest_names(box: Boxes) -> None:
    b = box({LONG: {"command": "exit 7", "essential": False, **IN_AN_HOUR}, f"{LONG[:-1]}y": OTHER, "web": OTHER})
    b.wait_for(LONG, state="restarting")
    lines = b.ask("status")[1].splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:]] == [lines[1].split()[0], lines[2].split()[0], "web"]
    assert lines[1].split()[0].endswith("…") and LONG.startswith(lines[1].split()[0][:-1])
    assert lines[0].index("STATE") == lines[1].index("restarting") == lines[3].index("ready")


@pytest.mark.parametrize(("words", "closed", "code"), [(["status"], 1, 125), (["json"], 1, 125), (["stop", "x"], 2, 1)])
def test_a_closed_standard_stream_is_not_taken_for_the_connection(
    box: Boxes, words: list[str], closed: int, code: int
) -> None:
    b = box({"web": OTHER})
    told, _, log = b.ask(*words, preexec_fn=lambda: os.close(closed))
    assert (told, log) == (
        code,
        "" if closed == 2 else "run: [error] cannot write to standard output: Bad file descriptor\n",
    )
    assert b.ask("health") == DONE


def on_a_terminal(b: Box, *words: str, **variables: str) -> str:
    """What `run -c` writes to a terminal."""
    ours, its = pty.openpty()
    try:
        without = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        client = b.client(*words, stdout=its, env=without | variables)
        os.close(its)
        text = b""
        try:
            while data := os.read(ours, 4096):
                text += data
        except OSError:  # EIO: all have closed it
            pass
        assert client.wait(DEADLINE) == 0
        return text.decode()
    finally:
        os.close(ours)


def test_there_are_colours_on_a_terminal_alone_and_not_with_NO_COLOR(box: Boxes) -> None:
    b = box(
        {
            "web": {"command": FOREVER, "healthcheck": check({"test": ["true"]})},
            "broken": {"command": "exit 1", "essential": False},
            "slow": {"command": FOREVER, "healthcheck": NEVER},
        }
    )
    b.wait_for("web", state="ready")
    b.wait_for("broken", state="failed")
    plain = b.ask("status")[1]
    assert "\x1b" not in plain
    table = on_a_terminal(b, "status")
    coloured = re.findall(r"\x1b\[(\d+)m(\w+)\x1b\[0m", re.sub(r" +\x1b", "\x1b", table))
    assert coloured == [("32", "ready"), ("32", "healthy"), ("31", "failed"), ("33", "starting"), ("33", "starting")]

    def shape(text: str) -> list[list[str]]:
        return [line.split()[:3] for line in re.sub(r"\x1b\[\d+m", "", text).splitlines()]

    assert shape(table) == shape(plain), "and nothing else"
    assert "\x1b" in on_a_terminal(b, "status", NO_COLOR=""), "https://no-color.org: when it is not empty"
    assert "\x1b" not in on_a_terminal(b, "status", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(b, "json")


# -- What it costs -----------------------------------------------------------------------------------------------------


def test_status_of_200_services_costs_run_no_more_than_20_milliseconds(box: Boxes) -> None:
    """Of a processor; the clock of a machine that others use, too, would tell nothing."""
    b = box({f"service-{number}": OTHER for number in range(200)}, "-q")
    wait_until(lambda: len(children(b.run)) == 200, "all are there: before that an answer may come too late")
    wait_until(lambda: all(service["state"] == "ready" for service in b.services().values()), "all are started")
    costs = []
    limits = []
    for _ in range(10):
        before = b.cpu_seconds()
        assert b.ask("status")[1].count("\n") == 201
        costs.append(b.cpu_seconds() - before)
        limits.append(0.02 * slowness())
    assert sorted(costs)[5] < sorted(limits)[5], (costs, limits)


def test_who_has_not_begun_waits_since_the_start_of_run(box: Boxes) -> None:
    begin = time.time()
    b = box({"db": {"command": FOREVER, "healthcheck": NEVER}, "web": {"command": FOREVER, "depends_on": ["db"]}})
    web = b.wait_for("web", state="waiting")
    assert web["seconds"] <= time.time() - begin + 0.1
