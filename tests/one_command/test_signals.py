"""Contract, "Signals": which signals are forwarded, and to whom. Every delivery is written down by recorder.py."""

import os
import signal

import pytest
from harness import Started, Starter, alive, children, state, wait_until
from signal_notes import FAULT_SIGNALS, FORWARDED, RECORD, RECORDER, got, wait_got, wait_ready

MARKER = 64
"""Of all pending signals it is taken last, so what was sent before it has been dealt with when it arrives."""

BOTH = pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid_1"])


def adopted(started: Started, count: int) -> list[int]:
    """Wait until so many processes, the main command among them, have `run` as their parent; return their pids."""
    wait_until(lambda: len(children(started.pid)) == count, f"run has {count} children")
    return children(started.pid)


# -- Which signals ----------------------------------------------------------------------------------------------------


@BOTH
def test_every_signal_that_can_be_caught_is_forwarded_once(start: Starter, pid_1: bool) -> None:
    started = start(*RECORDER, "main", pid_1=pid_1)
    wait_ready(started, "main")
    run = started.pid
    for signum in FORWARDED:
        os.kill(run, signum)
        wait_got(started, "main", signum)
    assert got(started, "main") == FORWARDED


@BOTH
def test_child_pipe_and_the_terminal_stops_are_not_forwarded_and_do_no_harm(start: Starter, pid_1: bool) -> None:
    started = start(*RECORDER, "main", pid_1=pid_1)
    wait_ready(started, "main")
    for signum in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, MARKER):
        started.send(signum)
    wait_got(started, "main", MARKER)
    assert got(started, "main") == [MARKER]
    wait_until(lambda: state(started.pid) == "S", "run waits again")


@pytest.mark.parametrize("fault", sorted(FAULT_SIGNALS))
def test_a_fault_sent_to_PID_1_is_not_forwarded_and_does_no_harm(start: Starter, fault: int) -> None:
    started = start(*RECORDER, "main", pid_1=True)
    wait_ready(started, "main")
    started.send(fault)
    started.send(MARKER)
    wait_got(started, "main", MARKER)
    assert got(started, "main") == [MARKER]


def test_a_fault_that_ends_run_is_not_forwarded_but_the_command_gets_its_parent_death_signal(start: Starter) -> None:
    started = start(*RECORDER, "main")
    (pid,) = wait_ready(started, "main")
    try:
        started.send(signal.SIGSEGV)
        assert started.wait() == -signal.SIGSEGV
        wait_got(started, "main", signal.SIGTERM)
        assert got(started, "main") == [signal.SIGTERM]
    finally:
        os.kill(pid, signal.SIGKILL)


@BOTH
def test_queued_real_time_signals_are_all_forwarded(start: Starter, pid_1: bool) -> None:
    started = start(*RECORDER, "main", pid_1=pid_1)
    wait_ready(started, "main")
    run = started.pid
    os.kill(run, signal.SIGSTOP)
    wait_until(lambda: state(run) == "T", "run is stopped")
    for _ in range(50):
        for signum in (signal.SIGRTMIN, signal.SIGRTMIN + 3, 32):
            os.kill(run, signum)
    os.kill(run, signal.SIGCONT)
    for signum in (signal.SIGRTMIN, signal.SIGRTMIN + 3, 32):
        wait_got(started, "main", signum, 50)
    os.kill(run, MARKER)
    wait_got(started, "main", MARKER)
    expected = [signal.SIGCONT] + [32, signal.SIGRTMIN, signal.SIGRTMIN + 3] * 50 + [MARKER]
    assert sorted(got(started, "main")) == sorted(expected)


@BOTH
def test_run_itself_may_be_stopped_and_continued(start: Starter, pid_1: bool) -> None:
    started = start(*RECORDER, "main", pid_1=pid_1)
    wait_ready(started, "main")
    run = started.pid
    for _ in range(3):
        os.kill(run, signal.SIGSTOP)
        wait_until(lambda: state(run) == "T", "run is stopped")
        os.kill(run, signal.SIGCONT)
        wait_until(lambda: state(run) == "S", "run waits again")
    os.kill(run, MARKER)
    wait_got(started, "main", MARKER)
    os.kill(children(run)[0], signal.SIGKILL)
    assert started.wait() == 137


# -- Who gets it ------------------------------------------------------------------------------------------------------

FAMILY = f"""
{RECORD} sibling &
setsid {RECORD} grandchild &
(setsid sh -c '({RECORD} daemon_child &) ; exec {RECORD} daemon' &)
exec {RECORD} main
"""
"""Two in the main group, a grandchild in a group of its own, and a daemon's group of two, both of them adopted."""


def ready_family(start: Starter, *options: str, pid_1: bool = False) -> Started:
    """Start FAMILY, and wait until all of it records and the orphans are adopted."""
    started = start(*options, "sh", "-c", FAMILY, pid_1=pid_1)
    wait_ready(started, "main", "sibling", "grandchild", "daemon", "daemon_child")
    adopted(started, 3)
    return started


@BOTH
def test_each_group_with_a_child_of_run_gets_a_signal_once_and_grandchildrens_own_groups_get_none(
    start: Starter, pid_1: bool
) -> None:
    started = ready_family(start, pid_1=pid_1)
    for signum in (40, 41, MARKER):
        started.send(signum)
    for name in ("main", "sibling", "daemon", "daemon_child"):
        wait_got(started, name, MARKER)
        assert got(started, name) == [40, 41, MARKER]
    assert got(started, "grandchild") == []


def test_a_signal_of_s_goes_to_the_same_groups(start: Starter) -> None:
    started = ready_family(start, "-s", "USR1")
    daemon = wait_ready(started, "daemon_child")[0]
    os.kill(daemon, signal.SIGKILL)
    for name in ("main", "sibling", "daemon"):
        wait_got(started, name, signal.SIGUSR1)
    started.send(MARKER)
    for name in ("main", "sibling", "daemon"):
        wait_got(started, name, MARKER)
        assert got(started, name) == [signal.SIGUSR1, MARKER]
    assert got(started, "grandchild") == []


@BOTH
def test_KILL_after_t_ends_all_and_then_what_is_re_parented_to_run(start: Starter, pid_1: bool) -> None:
    started = ready_family(start, "-s", "TERM", "-t", "0.5", pid_1=pid_1)
    pids = children(started.pid)
    os.kill(pids[-1], signal.SIGKILL)
    assert started.wait() == 137
    assert not any(map(alive, pids))
    assert f"pid {wait_ready(started, 'grandchild')[0]}: killed by KILL (9)" in started.log()


def test_a_process_in_runs_own_group_gets_a_signal_alone(start: Starter) -> None:
    # $PPID is run, and the leader of its group; the bystander is in that group too, but is a grandchild.
    script = f"{RECORD} bystander $PPID & exec {RECORD} main $PPID"
    started = start("sh", "-c", script, process_group=0)
    bystander, main = wait_ready(started, "bystander", "main")
    assert os.getpgid(main) == os.getpgid(bystander) == started.pid
    for signum in (40, MARKER):
        started.send(signum)
    wait_got(started, "main", MARKER)
    assert got(started, "main") == [40, MARKER]
    assert got(started, "bystander") == []


def test_KILL_for_a_process_in_runs_own_group_spares_run(start: Starter) -> None:
    script = f"{RECORD} bystander $PPID & (sleep 1000 &) ; exec {RECORD} main $PPID"
    # HUP counts as 129, so that 137 can only come from the KILL.
    started = start("-s", "KILL", "sh", "-c", script, process_group=0)
    _, main = wait_ready(started, "bystander", "main")
    sleeper = next(pid for pid in adopted(started, 2) if pid != main)
    os.kill(sleeper, signal.SIGHUP)
    assert started.wait() == 137


def test_a_daemon_is_still_signalled_after_the_main_command_has_ended(start: Starter) -> None:
    started = start("-d", "-s", "TERM", "sh", "-c", f"(setsid {RECORD} daemon &)")
    wait_ready(started, "daemon")
    started.wait_log("exited with code 0")
    started.send(signal.SIGHUP)
    wait_got(started, "daemon", signal.SIGHUP)
    assert got(started, "daemon") == [signal.SIGHUP]
