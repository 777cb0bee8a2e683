"""The deciding part, without a process: contract, "Exit code", "Signals" and "When a process ends"."""

import os

from hypothesis import given
from hypothesis import strategies as st

from run.one.policy import Policy
from run.recipients import Recipients, Served
from run.signals import KILL, TERM
from run.wait_status import exit_code, stop_signal

codes = st.integers(0, 255)
ends = st.lists(st.tuples(codes, st.booleans()), max_size=20)


@given(codes)
def test_the_code_of_a_process_that_exited_is_its_own(code: int) -> None:
    assert exit_code(os.W_EXITCODE(code, 0) if hasattr(os, "W_EXITCODE") else code << 8) == code


@given(st.integers(1, 64), st.booleans())
def test_a_process_killed_by_signal_n_counts_as_128_plus_n(signum: int, dumped_core: bool) -> None:
    status = signum | (0x80 if dumped_core else 0)
    assert os.WTERMSIG(status) == signum
    assert exit_code(status) == 128 + signum


@given(st.integers(1, 64))
def test_a_stopped_process_has_not_ended(signum: int) -> None:
    status = signum << 8 | 0x7F
    assert os.WIFSTOPPED(status)
    assert stop_signal(status) == signum


@given(codes, st.integers(1, 64))
def test_an_ended_process_is_not_stopped(code: int, signum: int) -> None:
    assert stop_signal(code << 8) == 0
    assert stop_signal(signum) == 0


@given(ends)
def test_the_exit_code_is_the_maximum_of_all(events: list[tuple[int, bool]]) -> None:
    policy = Policy(TERM, False, None)
    for code, is_main in events:
        policy.process_ended(code, is_main)
    assert policy.exit_code == max((code for code, _ in events), default=0)


@given(ends)
def test_without_s_nothing_is_ever_sent(events: list[tuple[int, bool]]) -> None:
    policy = Policy(None, True, 1.0)
    for now, (code, is_main) in enumerate(events):
        assert not policy.process_ended(code, is_main)
        assert policy.signal_due(now) is None
        assert policy.timeout(now) is None


@given(codes, st.booleans(), ends)
def test_with_s_the_first_termination_sends_the_signal_once(
    code: int, is_main: bool, more: list[tuple[int, bool]]
) -> None:
    policy = Policy(TERM, False, None)
    assert policy.signal_due(0) is None
    assert policy.process_ended(code, is_main)
    assert policy.signal_due(0) == TERM
    for later, (next_code, next_is_main) in enumerate(more):
        assert not policy.process_ended(next_code, next_is_main)
        assert policy.signal_due(later) is None


@given(ends)
def test_with_d_the_main_commands_exit_with_0_does_not_count(events: list[tuple[int, bool]]) -> None:
    policy = Policy(TERM, True, None)
    counted = False
    for code, is_main in events:
        begins = policy.process_ended(code, is_main)
        assert begins == (not counted and not (is_main and code == 0))
        counted = counted or begins
    assert policy.signal_due(0) == (TERM if counted else None)


@given(st.floats(0.001, 86400), st.floats(0, 1e6))
def test_with_t_KILL_follows_n_seconds_later_and_is_repeated(grace: float, start: float) -> None:
    policy = Policy(TERM, False, grace)
    policy.process_ended(1, True)
    assert policy.timeout(start) is None
    assert policy.signal_due(start) == TERM
    wait = policy.timeout(start)
    assert wait is not None and abs(wait - grace) < 1e-6 * max(start, 1)
    assert policy.signal_due(start + grace / 2) is None
    assert policy.signal_due(start + grace) == KILL
    assert policy.timeout(start + grace) is None
    assert policy.signal_due(start + grace) == KILL


def test_s_KILL_is_repeated_for_what_is_re_parented_later() -> None:
    policy = Policy(KILL, False, None)
    policy.process_ended(0, True)
    assert [policy.signal_due(0), policy.signal_due(1)] == [KILL, KILL]


pids = st.integers(2, 50)


@given(st.lists(st.tuples(pids, st.integers(0, 20)), unique_by=lambda child: child[0]), st.integers(0, 20))
def test_each_group_once_and_whoever_shares_the_own_group_alone(children: list[tuple[int, int]], own: int) -> None:
    found = Recipients({own, 0})
    for pid, group in children:
        found.add(pid, group)
    groups = {group for _, group in children} - {own, 0}
    alone = [pid for pid, group in children if group in (own, 0)]
    assert sorted(found.targets()) == sorted([*(-group for group in groups), *alone])


@given(st.dictionaries(pids, st.integers(1, 8), min_size=1), st.data())
def test_who_changed_the_group_gets_it_by_the_new_one_or_alone_if_that_has_got_it(
    before: dict[int, int], data: st.DataObject
) -> None:
    found = Recipients({9, 0})
    for pid, group in before.items():
        found.add(pid, group)
    moved = data.draw(st.dictionaries(st.sampled_from(sorted(before)), st.integers(0, 20)))
    more = found.missed(moved)
    assert len(more) == len(set(more))
    assert not set(more) & set(found.targets())
    for pid, group in moved.items():
        assert (-group in more) != (pid in more)
        assert (pid in more) == (group in (0, 9) or -group in found.targets())


# --- daemons, docker exec, and who comes after the signal


def test_with_d_a_step_into_the_background_begins_no_shutdown() -> None:
    policy = Policy(TERM, True, None)
    assert not policy.process_ended(0, is_main=False, is_step=True)
    assert policy.signal_due(0.0) is None
    assert policy.process_ended(0, is_main=False)


@given(codes.filter(bool))
def test_a_step_that_fails_or_without_d_begins_the_shutdown(code: int) -> None:
    assert Policy(TERM, True, None).process_ended(code, is_main=False, is_step=True)
    assert Policy(TERM, False, None).process_ended(0, is_main=False, is_step=True)


@given(codes, st.booleans())
def test_an_orphan_of_an_outer_session_begins_no_shutdown_but_its_code_counts(code: int, daemon: bool) -> None:
    policy = Policy(TERM, daemon, None)
    assert not policy.process_ended(code, is_main=False, is_outsider=True)
    assert policy.exit_code == code
    assert policy.signal_due(0.0) is None


def test_newcomers_are_looked_for_after_each_end_and_not_before_the_last_look_has_paid_off() -> None:
    policy = Policy(TERM, False, None)
    policy.process_ended(0, is_main=True)
    assert policy.newcomers_due(0.0) is None
    assert policy.signal_due(0.0) == TERM
    assert policy.timeout(0.0) is None
    policy.process_ended(0, is_main=False)
    assert policy.newcomers_due(1.0) == TERM
    policy.looked(1.0, took=0.1)
    policy.process_ended(0, is_main=False)
    wait = policy.timeout(1.1)
    assert wait is not None and 0.1 < wait < 1.0
    assert policy.newcomers_due(1.1) is None
    assert policy.newcomers_due(1.1 + wait) == TERM
    assert policy.newcomers_due(1.1 + wait) is None
    assert policy.timeout(2.0) is None


def test_where_newcomers_could_not_be_looked_for_it_is_tried_again() -> None:
    policy = Policy(TERM, False, None)
    policy.process_ended(0, is_main=True)
    assert policy.signal_due(0.0) == TERM
    policy.process_ended(0, is_main=False)
    assert policy.newcomers_due(1.0) == TERM
    policy.could_not_look(1.0)
    wait = policy.timeout(1.0)
    assert wait is not None and 0.0 < wait < 1.0
    assert policy.newcomers_due(1.0 + wait) == TERM


@given(st.lists(st.dictionaries(st.integers(2, 20), st.integers(0, 6), max_size=9), max_size=9))
def test_each_process_and_each_group_is_served_once(looks: list[dict[int, int]]) -> None:
    served = Served()
    pids: set[int] = set()
    groups: set[int] = set()
    for look in looks:
        found = Recipients({0, 1})
        for pid, group in look.items():
            found.add(pid, group)
        targets = served.newcomers(found, {0, 1}).targets()
        alone = {target for target in targets if target > 0}
        assert not alone & pids
        assert not {-target for target in targets if target < 0} & groups
        assert len(targets) == len(set(targets))
        groups |= {-target for target in targets if target < 0}
        pids |= look.keys()
        assert all(group in groups or pid in alone or group < 2 or pid in pids for pid, group in look.items())


def test_who_is_forgotten_is_served_again() -> None:
    served = Served()
    found = Recipients({0, 1})
    found.add(5, 5)
    found.add(6, 1)
    assert sorted(served.newcomers(found, {0, 1}).targets()) == [-5, 6]
    assert served.newcomers(found, {0, 1}).targets() == []
    served.ended(5)
    served.ended(6)
    assert served.newcomers(found, {0, 1}).targets() == [6]
    served.ended(5)
    served.group_ended(5)
    assert served.newcomers(found, {0, 1}).targets() == [-5]
