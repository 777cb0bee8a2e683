"""Contract, "Bad days" and "Signals": system calls that fail in PID 1 of a pid namespace.

When PID 1 ends, the kernel ends all else in the namespace.
"""

import os
import signal
from pathlib import Path

import pytest
from faults import ALWAYS, HELD, LISTS, ONCE, OPEN, ORDINARY, TWO_GROUPS, Trace, assert_told, every_errno, went_on
from harness import children, wait_until


@every_errno("prctl", ONCE)
def test_a_command_without_a_parent_death_signal_is_not_started(trace_pid_1: Trace, error: str, when: str) -> None:
    """The child makes one call. PID 1 needs to be no subreaper; each process's calls are counted anew."""
    traced = trace_pid_1("prctl", error, when, *ORDINARY, children=True).finish()
    assert "PDEATHSIG" in traced.failed[-1]
    traced.assert_refused(error)


@every_errno("waitid", ONCE, ALWAYS, drawn=1, calls=3, but=("ECHILD", "EINTR"))
def test_waiting_that_fails_does_not_end_run_before_the_command(trace_pid_1: Trace, error: str, when: str) -> None:
    traced = trace_pid_1("wait4", error, when, *HELD)
    traced.wake_until_failed(3 if when == ALWAYS else 1)
    traced.close_stdin()
    traced.finish()
    if when.endswith("+"):
        traced.assert_gave_up(error)
        assert traced.log.startswith(went_on("processes", error))
    else:
        traced.assert_went_on("processes", error)


@pytest.mark.fault("waitid", "EINTR")
@pytest.mark.parametrize("when", [ONCE, "2", "1..20"])
def test_waiting_that_is_interrupted_is_done_again(trace_pid_1: Trace, when: str) -> None:
    traced = trace_pid_1("wait4", "EINTR", when, *ORDINARY).finish()
    traced.assert_ran()


@pytest.mark.fault("waitid", "ECHILD")
@pytest.mark.parametrize("when", [ONCE, ALWAYS])
def test_the_command_is_waited_for_though_the_kernel_knows_no_child(trace_pid_1: Trace, when: str) -> None:
    traced = trace_pid_1("wait4", "ECHILD", when, *HELD)
    traced.wake_until_failed()
    traced.close_stdin()
    traced.finish()
    if when == ALWAYS:
        traced.assert_gave_up("ECHILD")
    else:
        traced.assert_went_on("processes", "ECHILD")


@every_errno("sigwaitinfo", ONCE, ALWAYS, drawn=1, calls=3)
def test_waiting_for_a_signal_that_fails_does_not_end_run(trace_pid_1: Trace, error: str, when: str) -> None:
    traced = trace_pid_1("rt_sigtimedwait", error, when, *HELD)
    traced.wake_until_failed()
    traced.close_stdin()
    traced.finish()
    if error in ("EAGAIN", "EINTR"):
        traced.assert_ran()
    else:
        traced.assert_went_on("signals", error)


@every_errno("kill", ONCE)
def test_when_TERM_cannot_be_sent_KILL_is_enough(trace_pid_1: Trace, error: str, when: str) -> None:
    words = ("-q", "-s", "TERM", "-t0.3", "/bin/sh", "-c", "echo started; sleep 1000 & exit 7")
    traced = trace_pid_1("kill", error, when, *words).finish()
    assert len(traced.failed) == 1
    assert (traced.code, traced.out) == (137, "started\n")
    assert_told(traced.log, error, ["TERM"])


@every_errno("kill", ALWAYS)
def test_when_no_signal_can_be_sent_run_waits_for_the_end(trace_pid_1: Trace, error: str, when: str) -> None:
    words = ("-q", "-s", "TERM", "-t0.1", "/bin/sh", "-c", "sleep 1000 & exit 7")
    traced = trace_pid_1("kill", error, when, *words)
    wait_until(lambda: len(traced.failed) > 1 or traced.process.poll() is not None, "TERM and KILL were tried")
    assert traced.process.poll() is None, traced.log
    [run] = children(traced.process.pid)
    [sleep] = children(run)
    os.kill(sleep, signal.SIGUSR1)
    traced.finish()
    assert traced.code == 128 + signal.SIGUSR1
    assert_told(traced.log, error, ["TERM", "KILL"])


@pytest.mark.parametrize("file", LISTS)
@every_errno("open", ALWAYS, but=("EINTR",))
def test_when_the_children_cannot_be_listed_everything_is_signalled(
    trace_pid_1: Trace, tmp_path: Path, file: str, error: str, when: str
) -> None:
    words = ("-s", "TERM", "/bin/sh", "-c", TWO_GROUPS, str(tmp_path / "told"))
    traced = trace_pid_1(OPEN, error, when, *words, paths=(LISTS[file],)).finish()
    assert traced.code == 143
    assert traced.log.count("killed by TERM (15)\n") == 2 and "[warn]" not in traced.log
