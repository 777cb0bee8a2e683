"""Contract, "Bad days": refused lookups of process groups, and close_range(2) refused where there is no /proc."""

import os
import signal
import subprocess

import pytest
from faults import ALWAYS, Trace, Traced
from harness import WITHOUT_PROC, children, state, wait_until


def assert_CONT_is_forwarded(traced: Traced) -> None:
    """The command gets it, and ends."""
    assert traced.line() == "ready\n"
    os.kill(traced.run, signal.SIGCONT)
    assert (traced.finish().code, traced.log) == (7, "")


ENDS_BY_CONT = ("-q", "sh", "-c", "trap 'exit 7' CONT; echo ready; while :; do sleep 0.01; done")


@pytest.mark.fault("getpgid", "EACCES")
def test_CONT_is_forwarded_where_getpgid_is_refused(trace: Trace) -> None:
    assert_CONT_is_forwarded(trace("getpgid", "EACCES", ALWAYS, *ENDS_BY_CONT))


@pytest.mark.fault("getpgid", "EACCES")
def test_CONT_is_forwarded_by_PID_1_where_getpgid_is_refused(trace_pid_1: Trace) -> None:
    assert_CONT_is_forwarded(trace_pid_1("getpgid", "EACCES", ALWAYS, *ENDS_BY_CONT))


@pytest.mark.fault("getpgid", "EACCES")
def test_a_stopped_command_is_waited_for_where_getpgid_is_refused(trace: Trace) -> None:
    traced = trace("getpgid", "EACCES", ALWAYS, "sh", "-c", "kill -STOP $$; exit 7")
    wait_until(lambda: "stopped by" in traced.log or traced.process.poll() is not None, "the stop is logged")
    assert traced.process.poll() is None, traced.log
    [command] = children(traced.run)
    wait_until(lambda: state(command) == "T", "the command is stopped")
    os.kill(command, signal.SIGCONT)
    assert traced.finish().code == 7, traced.log


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_stdout_is_closed_without_close_range_and_proc(trace: Trace, error: str) -> None:
    """The command closes its own, and waits for us to see the end of it."""
    command = ("sh", "-c", "exec >&-; echo closed >&2; read _; exit 5")
    traced = trace("close_range", error, ALWAYS, "-q", *command, prefix=WITHOUT_PROC, stdin=subprocess.PIPE)
    assert traced.line() == ""
    traced.close_stdin()
    assert (traced.finish().code, traced.log) == (5, "closed\n")
