"""Contract, "When a process ends", "Signals" and "Bad days": system calls that fail while the command runs.

The command runs to its end, or `run` says in one clear line why it gives up, and the command goes with it.
"""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from faults import ALWAYS, ONCE, ORDINARY, Drawn, Trace, assert_told, every_errno
from harness import children, wait_until

# -- waitid: CPython calls it wait4 -----------------------------------------------------------------------------------

LIES = ("ECHILD", "EINTR")
"""What wait4(2) may say that means something else than "it cannot be done": see the tests of their own."""


@every_errno("waitid", ONCE, "2", "3", ALWAYS, drawn=3, calls=4, but=LIES)
def test_waiting_that_fails_is_survived_or_one_line_and_125(trace: Trace, error: str, when: str) -> None:
    traced = trace("wait4", error, when, *ORDINARY).finish()
    assert traced.failed or isinstance(when, Drawn) or when == "3"
    if not traced.failed:
        traced.assert_ran()
    traced.assert_ran_or_gave_up(error)


@pytest.mark.fault("waitid", "EINTR")
@pytest.mark.parametrize("when", [ONCE, "2", "3", "1..20", "1+2", "2+3"])
def test_waiting_that_is_interrupted_is_done_again(trace: Trace, when: str) -> None:
    traced = trace("wait4", "EINTR", when, *ORDINARY).finish()
    assert traced.failed or when == "3"
    traced.assert_ran()


@pytest.mark.fault("waitid", "ECHILD")
@pytest.mark.parametrize("when", [ONCE, "2", "3", "4", ALWAYS, "2+", "1+2", "2+2"])
def test_no_success_is_claimed_when_the_kernel_knows_no_child(trace: Trace, when: str) -> None:
    """So it would be if something reaped behind the back of `run`. What was never reaped did not exit with 0."""
    traced = trace("wait4", "ECHILD", when, *ORDINARY[1:]).finish()
    reaped = [int(code) for code in re.findall(r"exited with code (\d+)\n", traced.log)]
    if 7 in reaped:  # then it is as if the orphan had ended elsewhere
        assert traced.code == max(reaped)
        assert "[error]" not in traced.log
    else:
        assert traced.code == 125, traced.log
        assert len(re.findall(r"^run: \[error\] [^\n]+$", traced.log, re.M)) == 1 and "internal" not in traced.log


# -- sigwaitinfo: rt_sigtimedwait -------------------------------------------------------------------------------------

WAIT_AGAIN = ("EAGAIN", "EINTR")


@every_errno("sigwaitinfo", ONCE, "2", ALWAYS, drawn=4, calls=4)
def test_waiting_for_a_signal_that_fails(trace: Trace, error: str, when: str) -> None:
    """The end of the command ends `run` all the same where trying again makes sense: EAGAIN and EINTR."""
    traced = trace("rt_sigtimedwait", error, when, *ORDINARY).finish()
    assert traced.failed or isinstance(when, Drawn) or when == "2" or traced.never_called("rt_sigtimedwait")
    if error in WAIT_AGAIN or not traced.failed:
        traced.assert_ran()
    traced.assert_ran_or_gave_up(error)


@pytest.mark.parametrize("call", ["wait4", "rt_sigtimedwait"])
@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EPERM"])
def test_when_run_gives_up_the_command_gets_its_parent_death_signal(trace: Trace, call: str, error: str) -> None:
    script = "trap 'echo told; exit 3' USR1; echo started; while :; do sleep 0.01; done"
    traced = trace(call, error, "2+", "-q", "-s", "USR1", "/bin/sh", "-c", script)
    assert traced.line() == "started\n"
    run = children(traced.process.pid)[0]

    def has_given_up() -> bool:
        try:
            os.kill(run, signal.SIGURG)  # a signal to forward, which the command ignores
        except ProcessLookupError:
            pass
        return traced.process.poll() is not None

    wait_until(has_given_up, "run gives up")
    assert traced.finish().failed
    traced.assert_refused(error, "told\n")


# -- kill -------------------------------------------------------------------------------------------------------------


@every_errno("kill", ONCE, "2")
def test_of_the_stop_signals_that_fail_one_is_enough(trace: Trace, error: str, when: str) -> None:
    """First TERM, then KILL."""
    traced = trace(
        *("kill", error, when, "-q", "-s", "TERM", "-t0.3" if when == ONCE else "-t3600"),
        *("/bin/sh", "-c", "echo started; sleep 1000 & exit 7"),
    )
    traced.finish()
    assert bool(traced.failed) == (when == ONCE)
    assert (traced.code, traced.out) == (137 if when == ONCE else 143, "started\n")
    assert_told(traced.log, error, ["TERM"] if when == ONCE else [])


@every_errno("kill", ALWAYS)
def test_when_no_signal_can_be_sent_run_waits_for_the_end(trace: Trace, error: str, when: str) -> None:
    script = "sleep 1000 & echo $!; exit 7"
    traced = trace("kill", error, when, "-q", "-s", "TERM", "-t0.1", "/bin/sh", "-c", script)
    sleep = int(traced.line())
    wait_until(lambda: len(traced.failed) > 1 or traced.process.poll() is not None, "TERM and KILL were tried")
    assert traced.process.poll() is None, traced.log
    os.kill(sleep, signal.SIGUSR1)
    traced.finish()
    assert traced.code == 128 + signal.SIGUSR1
    assert_told(traced.log, error, ["TERM", "KILL"])


RECORDER = """
import os, signal
every = set(range(34, 65)) | {15}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
os.write(1, b"%d\\n" % os.getpid())
while (signum := signal.sigwait(every)) != 15: os.write(1, b"%d\\n" % signum)
os._exit(7)
"""
FIRST, COUNT = 35, 8


@every_errno("kill", ONCE, "3", ALWAYS, drawn=4, calls=COUNT)
def test_of_the_forwarded_signals_only_those_that_fail_are_lost(
    trace: Trace, tmp_path: Path, error: str, when: str
) -> None:
    file = tmp_path / "out"
    with file.open("wb") as out:
        traced = trace("kill", error, when, "-q", sys.executable, "-I", "-S", "-c", RECORDER, stdout=out)

    def lines(count: int) -> list[int]:
        """What the command has written, once it is as many lines or `run` has ended."""
        wait_until(lambda: file.read_bytes().count(b"\n") >= count or traced.process.poll() is not None, "a line more")
        return [int(line) for line in file.read_text().splitlines()]

    [command] = lines(1)
    [run] = children(traced.process.pid)
    for signum in range(FIRST, FIRST + COUNT):
        os.kill(run, signum)
    wait_until(lambda: len(traced.calls) == COUNT or traced.process.poll() is not None, "all were forwarded")
    lost = [number for number, call in enumerate(traced.calls, FIRST) if call in traced.failed]
    _, *received = lines(1 + COUNT - len(lost))
    assert traced.process.poll() is None, traced.log
    os.kill(command, signal.SIGTERM)
    traced.finish()
    assert lost or isinstance(when, Drawn)
    assert traced.code == 7
    assert received == [signum for signum in range(FIRST, FIRST + COUNT) if signum not in lost]
    assert_told(traced.log, error, [f"RTMIN+{signum - 34}" for signum in lost])
