"""The signals as data: numbers and names as the standard library and the system have them, sets as in the contract."""

import signal
from pathlib import Path

import pytest
from harness import signal_numbers

from run import signals

ROOT = Path(__file__).resolve().parents[2]

CONSTANTS = {
    name: value
    for name, value in vars(signals).items()
    if isinstance(value, int) and name.isupper() and value <= 64 and not name.startswith("RT")
}
"""The numbers that signals.py names one by one."""


def by_name(*names: str) -> int:
    """A set of signals, as the standard library numbers them."""
    return sum(1 << (signal.Signals["SIG" + name] - 1) for name in names)


def test_there_are_constants_to_look_at() -> None:
    assert {"HUP", "INT", "KILL", "TERM", "CHLD", "CONT", "STOP", "TTOU", "SYS"} <= set(CONSTANTS)


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_each_constant_has_the_systems_number(name: str) -> None:
    assert CONSTANTS[name] == signal.Signals["SIG" + name]


def test_the_names_are_in_the_systems_order() -> None:
    aliases = {"SIG" + name: number for number, name in enumerate(signals.NAMES, 1)}
    assert len(aliases) == len(signals.NAMES) == signal.SIGSYS
    known = {name: number for name, number in signal.Signals.__members__.items() if number < signals.RTMIN}
    assert set(aliases.values()) == set(range(1, 32))
    for name, number in aliases.items():
        assert known.get(name, number) == number
    assert {number for name, number in known.items() if name in aliases} >= set(map(int, known.values()))


def test_the_real_time_signals_are_the_c_librarys() -> None:
    assert (signals.RTMIN, signals.RTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)


@pytest.mark.parametrize("number", range(1, 65))
def test_every_signal_is_shown_with_its_name_and_number(number: int) -> None:
    text = signals.describe(number)
    if number in (32, 33):
        assert text == f"signal {number}"
    elif number == signals.RTMIN:
        assert text == "RTMIN (34)"
    elif number > signals.RTMIN:
        assert text == f"RTMIN+{number - signals.RTMIN} ({number})"
    else:
        assert text == f"{signals.NAMES[number - 1]} ({number})"


def test_s_takes_what_spec_md_lists_in_its_order() -> None:
    assert list(signals.SENDABLE) == ["INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2"]
    for name, number in signals.SENDABLE.items():
        assert number == signal.Signals["SIG" + name]


def test_the_sets_are_those_of_spec_md() -> None:
    every = set(range(1, 65))
    faults = signal_numbers(by_name("SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS", "ABRT"))
    stops = signal_numbers(by_name("TSTP", "TTIN", "TTOU"))
    assert signal_numbers(signals.ALL_SIGNALS) == every
    assert signal_numbers(signals.FAULT_SIGNALS) == faults
    assert signal_numbers(signals.TERMINAL_STOPS) == stops
    not_passed_on = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE}
    assert signal_numbers(signals.FORWARDED) == every - faults - stops - not_passed_on


@pytest.mark.parametrize("number", range(1, 65))
def test_a_set_contains_what_it_was_made_of(number: int) -> None:
    assert signal_numbers(signals.signal_set(number)) == {number}
    assert signals.contains(signals.signal_set(number, 1), number)
    assert not signals.contains(signals.ALL_SIGNALS & ~signals.signal_set(number), number)


def test_the_empty_set_contains_nothing() -> None:
    assert signals.signal_set() == 0
    assert not any(signals.contains(0, number) for number in range(1, 65))
