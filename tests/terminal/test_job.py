"""Who has the terminal, and what follows when the job is stopped, decided without a terminal: contract, "Signals"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run.one.job import COMMAND, LEND, NOBODY, NOTHING, OTHERS, RUN, SUSPEND, Job
from run.signals import CONT, STOP, TSTP, TTIN, TTOU

GROUP = 12


@pytest.mark.parametrize(("foreground", "may"), [(RUN, True), (COMMAND, False), (OTHERS, False), (NOBODY, False)])
def test_the_terminal_is_lent_only_by_whom_it_belongs_to(foreground: str, may: bool) -> None:
    assert Job().may_be_lent(foreground) is may


@pytest.mark.parametrize(("foreground", "back"), [(RUN, False), (COMMAND, True), (OTHERS, False), (NOBODY, False)])
def test_the_terminal_is_taken_back_only_from_whom_it_was_lent_to(foreground: str, back: bool) -> None:
    job = Job()
    job.lent(GROUP)
    assert job.must_be_taken_back(foreground) is back
    assert not job.must_be_taken_back(COMMAND), "it was taken back already"


def test_what_was_never_lent_is_not_taken_back() -> None:
    assert not Job().must_be_taken_back(COMMAND)


@pytest.mark.parametrize("foreground", [RUN, OTHERS, NOBODY])
def test_the_terminal_is_not_lent_any_more_once_a_shell_has_given_it_to_somebody_else(foreground: str) -> None:
    job = Job()
    job.lent(GROUP)
    job.may_be_lent(foreground)
    assert job.lent_to == 0


@pytest.mark.parametrize("signum", [TTIN, TTOU])
def test_a_command_that_is_stopped_for_want_of_the_terminal_gets_it_if_run_has_it(signum: int) -> None:
    assert Job().child_stopped(signum, GROUP, is_main=True, main_lives=True, foreground=RUN) == LEND
    assert Job().child_stopped(signum, GROUP, is_main=True, main_lives=True, foreground=OTHERS) == SUSPEND


def test_with_the_command_the_job_stops_and_the_command_is_continued_with_the_job() -> None:
    job = Job()
    assert job.child_stopped(TSTP, GROUP, is_main=True, main_lives=True, foreground=COMMAND) == SUSPEND
    assert job.continued() == {GROUP}
    assert job.continued() == set()


@pytest.mark.parametrize("signum", [STOP, CONT])
def test_a_stop_that_is_not_the_terminals_is_somebody_elses_doing(signum: int) -> None:
    assert Job().child_stopped(signum, GROUP, is_main=True, main_lives=True, foreground=COMMAND) == NOTHING


@given(st.sampled_from([STOP, TSTP, TTIN, TTOU]), st.booleans(), st.booleans())
def test_without_a_terminal_nothing_follows_from_a_stop(signum: int, is_main: bool, main_lives: bool) -> None:
    assert Job().child_stopped(signum, GROUP, is_main, main_lives, NOBODY) == NOTHING


def test_once_the_command_has_ended_the_job_stops_with_those_that_were_told_to() -> None:
    job = Job()
    assert job.stop_typed({GROUP, 13}) == NOTHING
    assert job.child_stopped(TSTP, 99, is_main=False, main_lives=False, foreground=RUN) == NOTHING
    assert job.child_stopped(TSTP, GROUP, is_main=False, main_lives=True, foreground=RUN) == NOTHING
    assert job.child_stopped(TSTP, GROUP, is_main=False, main_lives=False, foreground=RUN) == SUSPEND
    assert job.continued() == {GROUP, 13}


def test_where_nobody_is_left_to_be_told_run_stops_alone() -> None:
    assert Job().stop_typed(set()) == SUSPEND
