"""The table of `status`, and what `json` tells: of random services, without a process. Contract, "Control"."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run.services import status
from run.services.health import Health
from run.services.healthcheck import Healthcheck
from run.services.life import DONE, DOWN, ENDED, FAILED, READY, RESTARTING, STARTING, STOPPING, WAITING, Life
from run.services.plan import Service

NAME = st.text("abcXYZ019_-.", min_size=1, max_size=64)

STATES = (WAITING, STARTING, READY, STOPPING, RESTARTING, DONE, ENDED, FAILED)

ROW = st.fixed_dictionaries(
    {
        "name": NAME,
        "state": st.sampled_from([*STATES, "stopped"]),
        "health": st.sampled_from([None, "starting", "healthy", "unhealthy"]),
        "pid": st.none() | st.integers(1, 4_194_304),
        "seconds": st.floats(0, 1e9),
        "restarts": st.integers(0, 10**7),
        "exit_code": st.none() | st.integers(0, 255),
        "status": st.none() | st.text(st.characters(categories=["L", "N", "P"]), max_size=400),
    }
)


def plain(table: str) -> list[str]:
    """The lines without colours."""
    return re.sub(r"\x1b\[\d+m", "", table).splitlines()


@given(st.lists(ROW, max_size=8), st.booleans())
def test_it_fits_80_columns_and_aligns(rows: list[Mapping[str, Any]], colours: bool) -> None:
    lines = plain(status.table(rows, colours))
    assert len(lines) == 1 + len(rows) + sum(bool(row["status"]) for row in rows)
    assert max(map(len, lines)) <= 80
    starts = {title: lines[0].index(title) for title in status.HEAD}
    ends = {title: start + len(title) for title, start in starts.items()}
    table = [line for line in lines[1:] if not line.startswith("  ")]
    for row, line in zip(rows, table, strict=True):
        cells = line.split()
        assert len(cells) == len(status.HEAD)
        name = cells[0]
        assert name == row["name"] or (name[-1] == "…" and row["name"].startswith(name[:-1]))
        assert line[starts["STATE"] :].startswith(row["state"])
        assert line[starts["HEALTH"] :].startswith(row["health"] or "-")
        pid = "-" if row["pid"] is None else str(row["pid"])
        assert line[: ends["PID"]].endswith(f" {pid}")
        assert line[: ends["RESTARTS"]].endswith(f" {row['restarts']}")
        assert len(line) == ends["EXIT"]


@given(st.lists(ROW, min_size=1, max_size=5))
def test_colours_change_nothing_else(rows: list[Mapping[str, Any]]) -> None:
    assert plain(status.table(rows, True)) == status.table(rows, False).splitlines()


def test_without_services_there_is_the_head() -> None:
    assert status.table([], False).split() == list(status.HEAD)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.99, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (3599, "59m59s"),
        (3600, "1h"),
        (3660, "1h1m"),
        (86399, "23h59m"),
        (86400, "1d"),
        (90000, "1d1h"),
        (31536000, "365d"),
    ],
)
def test_a_time_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert status.duration(seconds) == shown


CODES = {None: "-", 0: "0", 3: "3", 128: "128", 137: "KILL", 143: "TERM", 160: "160", 162: "RTMIN", 192: "RTMIN+30"}


@pytest.mark.parametrize(("code", "shown"), [*CODES.items(), (193, "193"), (255, "255")])
def test_an_exit_is_a_code_or_a_signals_name(code: int | None, shown: str) -> None:
    assert status.last_exit(code) == shown


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("by_hand", [False, True])
def test_stopped_is_what_somebody_has_stopped_and_is_over(state: str, by_hand: bool) -> None:
    life = Life(Service("web", [b"x"], []))
    if by_hand:
        life.order(DOWN, 1.0)
    life.state = state
    over = state in (DONE, ENDED, FAILED)
    assert status.state_of(life) == ("stopped" if by_hand and over else state)


@pytest.mark.parametrize("state", STATES)
def test_only_who_is_ready_and_healthy_or_done_has_no_ailment(state: str) -> None:
    life = Life(Service("web", [b"x"], []))
    life.state = state
    ailment = status.ailment(life, None)
    assert ailment == ("" if state in (READY, DONE) else f"web {'has' if state in (ENDED, FAILED) else 'is'} {state}")
    health = Health(Healthcheck("tcp", retries=1))
    health.began(1.0)
    if state == READY:
        assert status.ailment(life, health) == "web is starting"
    health.succeeded(2.0)
    assert status.ailment(life, health) == ailment
    health.failed("refused")
    assert status.ailment(life, health) == ("web is unhealthy: refused" if state == READY else ailment)


@given(st.lists(st.binary(max_size=20), min_size=1), st.none() | st.text())
def test_what_json_tells_is_JSON_whatever_the_words_are(command: list[bytes], told: str | None) -> None:
    values = status.values(Life(Service("web", command, [])), None, told, 5.0, 1000.0)
    text = json.dumps(values)
    assert text.isascii() and "\n" not in text
    back = json.loads(text)
    assert back == values
    assert [word.encode("utf-8", "surrogateescape") for word in back["command"]] == command
