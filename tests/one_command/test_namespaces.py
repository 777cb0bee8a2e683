"""Contract, "Starting the command" and "Signals": who is the reaper, in pid namespaces, and where /proc misleads."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import WITHOUT_PROC, Started, Starter, alive, children, state, status, wait_until
from signal_notes import RECORD, RECORDER, got, wait_got, wait_ready

MARKER = 64
"""Of all pending signals it is taken last."""

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child=KILL"]
"""A new pid namespace, where the /proc of the outer one stays mounted."""

PID_1_WITHOUT_PROC = [*NAMESPACE, *WITHOUT_PROC[1:]]

FAMILY = f"""
setsid {RECORD} grandchild &
(setsid {RECORD} daemon &)
exec {RECORD} main
"""
NAMES = ("main", "grandchild", "daemon")

BOTH = pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid_1"])


@pytest.fixture
def victim() -> Iterator[int]:
    """A process outside of the namespace."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def ready_family(started: Started) -> Started:
    """Wait until all of FAMILY records, and the daemon is adopted."""
    wait_ready(started, *NAMES)
    wait_until(lambda: len(children(started.pid)) == 2, "the daemon is adopted")
    return started


def signalled(started: Started, *names: str) -> None:
    """Send a signal; these recorders get it once, the others not at all."""
    started.send(40)
    started.send(MARKER)
    for name in names:
        wait_got(started, name, MARKER)
        assert got(started, name) == [40, MARKER]
    for name in set(NAMES) - set(names):
        assert got(started, name) == []


# -- The reaper -------------------------------------------------------------------------------------------------------


@BOTH
def test_orphans_are_adopted_and_their_exit_codes_count(start: Starter, pid_1: bool) -> None:
    script = "(sh -c 'sleep 0.1; exit 9' &) ; (setsid -f sh -c 'sleep 0.2; exit 5' &) ; exit 3"
    code, _, log = start.result("sh", "-c", script, pid_1=pid_1)
    assert code == 9
    for number in (3, 5, 9):
        assert f"exited with code {number}\n" in log


@BOTH
def test_a_daemon_is_re_parented_to_run_and_stopped_by_the_signal_of_s(start: Starter, pid_1: bool) -> None:
    # The daemon is forked twice, as daemon(7) asks for; those in between are reaped by the shell.
    script = "setsid --wait sh -c '(sleep 600 &)'; exec sleep 601"
    started = start("-s", "TERM", "sh", "-c", script, pid_1=pid_1)
    wait_until(lambda: len(children(started.pid)) == 2, "the daemon is adopted")
    main, daemon = children(started.pid)
    assert status(daemon)["PPid"] == str(started.pid)
    os.kill(main, signal.SIGHUP)
    assert started.wait() == 143
    assert not alive(daemon)


def test_PID_1_adopts_the_orphans_of_its_namespace(start: Starter) -> None:
    started = start("sh", "-c", "(sleep 600 &) ; exec sleep 601", pid_1=True)
    wait_until(lambda: len(children(started.pid)) == 2, "the orphan is adopted")
    assert status(started.pid)["NSpid"].split()[-1] == "1"
    started.send(signal.SIGTERM)
    assert started.wait() == 143


# -- /proc ------------------------------------------------------------------------------------------------------------


def test_PID_1_with_its_own_proc_signals_the_groups_of_its_children(start: Starter) -> None:
    signalled(ready_family(start("sh", "-c", FAMILY, pid_1=True)), "main", "daemon")


def test_PID_1_without_proc_signals_everything_in_its_namespace(start: Starter, victim: int) -> None:
    started = ready_family(start("sh", "-c", FAMILY, prefix=PID_1_WITHOUT_PROC))
    signalled(started, *NAMES)
    assert alive(victim)


def test_PID_1_with_the_proc_of_the_outer_namespace_signals_everything_in_its_own(start: Starter, victim: int) -> None:
    # The daemon is given the pid that the victim has outside.
    if not Path("/proc/sys/kernel/ns_last_pid").exists():
        pytest.skip("this kernel was made without CONFIG_CHECKPOINT_RESTORE")
    script = f"""
        setsid {RECORD} grandchild &
        echo {victim - 2} > /proc/sys/kernel/ns_last_pid
        (setsid {RECORD} daemon &)
        exec {RECORD} main
    """
    started = ready_family(start("-s", "TERM", "-t", "0.5", "sh", "-c", script, prefix=NAMESPACE))
    assert wait_ready(started, "daemon") == [victim]
    signalled(started, *NAMES)
    os.kill(children(started.pid)[0], signal.SIGKILL)
    assert started.wait() == 137
    assert state(victim) == "S"


def test_a_subreaper_without_proc_signals_the_main_group(start: Starter) -> None:
    signalled(ready_family(start("sh", "-c", FAMILY, prefix=WITHOUT_PROC)), "main")


def test_a_subreaper_with_the_proc_of_the_outer_namespace_signals_the_main_group(start: Starter) -> None:
    # The shell is PID 1, and run its child.
    started = start("sh", "-c", FAMILY, prefix=[*NAMESPACE, "sh", "-c", '"$@"; exit $?', "sh"])
    wait_ready(started, *NAMES)
    run = wait_until(lambda: children(started.pid), "the shell has started run")[0]
    wait_until(lambda: len(children(run)) == 2, "the daemon is adopted")
    os.kill(run, 40)
    os.kill(run, MARKER)
    wait_got(started, "main", MARKER)
    assert [got(started, name) for name in NAMES] == [[40, MARKER], [], []]


def test_a_subreaper_without_proc_signals_nobody_once_the_main_group_is_gone(start: Starter) -> None:
    started = start("sh", "-c", f"setsid -f {RECORD} daemon", prefix=WITHOUT_PROC)
    (daemon,) = wait_ready(started, "daemon")
    started.wait_log("exited with code 0")
    started.send(40)
    os.kill(daemon, signal.SIGKILL)
    assert started.wait() == 137
    assert got(started, "daemon") == []
    assert "forwarding" not in started.log()


@pytest.mark.parametrize("prefix", [NAMESPACE, PID_1_WITHOUT_PROC], ids=["outer_proc", "no_proc"])
def test_KILL_after_t_empties_the_namespace_of_PID_1_whatever_proc_shows(
    start: Starter, prefix: list[str], victim: int
) -> None:
    started = ready_family(start("-s", "TERM", "-t", "0.5", "sh", "-c", FAMILY, prefix=prefix))
    pids = children(started.pid)
    os.kill(pids[0], signal.SIGKILL)
    assert started.wait() == 137
    assert not any(map(alive, pids))
    assert alive(victim)


# -- run under run ----------------------------------------------------------------------------------------------------


@BOTH
def test_the_processes_of_an_inner_run_are_its_own_business(start: Starter, pid_1: bool) -> None:
    started = start(start.binary, "sh", "-c", FAMILY, pid_1=pid_1)
    wait_ready(started, *NAMES)
    (inner,) = children(started.pid)
    wait_until(lambda: len(children(inner)) == 2, "the daemon is adopted by the inner run")
    signalled(started, "main", "daemon")
    for pid in [*children(inner), *(grandchild for child in children(inner) for grandchild in children(child))]:
        os.kill(pid, signal.SIGKILL)
    assert started.wait() == 137


def test_the_end_of_an_inner_runs_orphan_does_not_end_the_outer_runs_processes(start: Starter) -> None:
    script = f"(sh -c 'exit 3' &) ; exec {RECORD} main"
    started = start("-s", "TERM", start.binary, "sh", "-c", script)
    (main,) = wait_ready(started, "main")
    started.wait_log("exited with code 3")
    started.send(MARKER)
    wait_got(started, "main", MARKER)
    assert got(started, "main") == [MARKER]
    os.kill(main, signal.SIGKILL)
    assert started.wait() == 137


def test_the_exit_code_of_an_inner_run_is_that_of_the_outer_one(start: Starter) -> None:
    code, _, _ = start.result(start.binary, start.binary, "sh", "-c", "(sh -c 'sleep 0.1; exit 7' &) ; exit 3")
    assert code == 7


# -- When run itself is killed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], signal.SIGTERM), (["-s", "USR1"], signal.SIGUSR1), (["-s", "HUP", "-d", "-t", "9"], signal.SIGHUP)],
    ids=["default", "USR1", "HUP"],
)
def test_the_command_gets_the_signal_of_s_or_TERM_when_run_is_killed(
    start: Starter, options: list[str], expected: int
) -> None:
    started = start(*options, *RECORDER, "main")
    (main,) = wait_ready(started, "main")
    try:
        started.send(signal.SIGKILL)
        wait_got(started, "main", expected)
        assert got(started, "main") == [expected]
    finally:
        os.kill(main, signal.SIGKILL)


def test_the_command_is_killed_with_run_when_s_is_KILL(start: Starter) -> None:
    started = start("-s", "KILL", *RECORDER, "main")
    (main,) = wait_ready(started, "main")
    started.send(signal.SIGKILL)
    wait_until(lambda: not alive(main), "the command is killed")
