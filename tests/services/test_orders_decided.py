"""What is asked for with `-c`: who is meant, what is refused, and what a line may be; without a socket.

Contract, "Control".
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run.services.life import DONE, DOWN, ENDED, READY, STOPPING, Life
from run.services.orders import ACTIONS, QUESTIONS, Request, RequestError, parse, read, refusals
from run.services.plan import Service

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)

ALMOST = st.fixed_dictionaries(
    {"action": st.sampled_from(ACTIONS) | JSON, "words": st.lists(st.text(st.characters()) | JSON) | JSON}
)
"""What is a request, or not quite."""


def lives(**depends_on: list[str]) -> dict[str, Life]:
    """Services, by what they depend on; they wait."""
    return {name: Life(Service(name, [b"x"], [], depends_on=tuple(on))) for name, on in depends_on.items()}


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | ALMOST.map(lambda v: json.dumps(v).encode()))
def test_a_line_is_a_request_or_is_told_what_is_wrong_in_a_word_that_can_be_shown(line: bytes) -> None:
    try:
        request = read(line)
    except RequestError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return
    assert request.action in ACTIONS
    assert all(isinstance(name, str) for name in request.names)
    assert len(set(request.names)) == len(request.names)
    assert all(reason.isprintable() for reason in refusals(request, lives(web=[]), False))


@given(st.sampled_from(ACTIONS), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_the_client_accepts_is_what_run_accepts(action: str, words: list[str]) -> None:
    line = json.dumps({"action": action, "words": words}).encode()
    try:
        parsed = parse(action, words)
    except RequestError as error:
        with pytest.raises(RequestError) as raised:
            read(line)
        assert str(raised.value) == str(error)
    else:
        assert read(line) == parsed


@pytest.mark.parametrize(
    ("action", "words", "request_"),
    [
        ("status", [], Request("status", [])),
        ("json", ["b", "a", "b"], Request("json", ["b", "a"])),
        ("stop", ["a"], Request("stop", ["a"])),
        ("signal", ["sighup", "a", "b"], Request("signal", ["a", "b"], 1)),
        ("signal", ["RTMIN", "a"], Request("signal", ["a"], 34)),
        ("signal", ["9", "a"], Request("signal", ["a"], 9)),
    ],
)
def test_words_are_an_action_a_signal_and_names(action: str, words: list[str], request_: Request) -> None:
    assert parse(action, words) == request_


@pytest.mark.parametrize(
    "signal", ["0", "65", "32", "33", "-1", "HUP ", "", "SIG", "RTMIN+31", "RTMAX+1", "hupp", "\u0661"]
)
def test_no_other_signals_are_accepted(signal: str) -> None:
    with pytest.raises(RequestError, match="unknown signal"):
        parse("signal", [signal, "a"])


@pytest.mark.parametrize("action", [*ACTIONS, "halt", "Status", "status "])
def test_an_action_is_one_of_those_that_the_contract_names(action: str) -> None:
    accepted = ("status", "json", "health", "start", "stop", "restart", "signal")
    assert accepted == ACTIONS
    words = ["HUP", "web"] if action == "signal" else ["web"]
    if action in accepted:
        assert parse(action, words).names == ["web"]
    else:
        with pytest.raises(RequestError, match=", ".join(accepted)):
            parse(action, words)


@pytest.mark.parametrize("action", [a for a in ACTIONS if a not in QUESTIONS])
def test_while_all_is_being_stopped_every_order_is_refused_and_no_question(action: str) -> None:
    found = lives(web=[])
    assert refusals(Request(action, ("web",), 1), found, True) == ["all is being stopped"]
    for question in QUESTIONS:
        assert refusals(Request(question, ("web",)), found, True) == []


def test_what_is_stopped_by_hand_is_lacking_unless_it_is_ordered_too_or_is_done() -> None:
    found = lives(a=[], b=[], c=["a", "b"])
    for name in "ab":
        found[name].order(DOWN, 1.0)
        found[name].state = ENDED
    lacking = [
        "c: it depends on a, which is stopped: start a, too",
        "c: it depends on b, which is stopped: start b, too",
    ]
    for action in "start", "restart":
        assert refusals(Request(action, ("c",)), found, False) == lacking
        assert refusals(Request(action, ("b", "c")), found, False) == lacking[:1]
        assert refusals(Request(action, ("a", "b", "c")), found, False) == []
    assert refusals(Request("stop", ("c",)), found, False) == []
    found["a"].state = DONE
    assert refusals(Request("start", ("c",)), found, False) == lacking[1:]
    found["b"].state = STOPPING
    assert refusals(Request("start", ("c",)), found, False) == lacking[1:], "it is not up, nor will be"


def test_a_signal_needs_a_main_process() -> None:
    found = lives(web=[], db=[])
    request = Request("signal", ("web", "db"), 1)
    assert refusals(request, found, False) == ["web: not running", "db: not running"]
    found["web"].executed(7, 1.0)
    assert refusals(request, found, False) == ["db: not running"]
    found["db"].executed(8, 1.0)
    assert refusals(request, found, False) == []
    found["db"].state = READY
    found["db"].main_ended(0, 2.0)
    assert refusals(request, found, False) == ["db: not running"]


def test_of_many_names_that_are_unknown_some_are_told() -> None:
    found = lives(**{f"s{number}": [] for number in range(300)})
    names = tuple(f"n{number}" for number in range(5000))
    reasons = refusals(Request("stop", ("s1", *names)), found, False)
    assert len(reasons) == 9 and reasons[-1] == "and 4992 more that are unknown"
    assert reasons[0].startswith("unknown service 'n0': s0, s1, ") and "and 288 more are accepted" in reasons[0]
    assert sum(map(len, reasons)) < 2000
