"""Contract, "When a process ends", "Signals" and "Bad days": system calls that fail while the command runs.

None of them ends `run` before the command: it says once what fails, and goes on.
"""

import os
import re
import signal
import subprocess
import sys

import pytest
from faults import ALWAYS, GOING_ON, HELD, LISTS, ONCE, OPEN, ORDINARY, Trace, Traced, assert_told, every_errno, went_on
from harness import children, state, wait_until

# -- waitid: CPython calls it wait4 -----------------------------------------------------------------------------------

LIES = ("ECHILD", "EINTR")
"""What wait4(2) may say that means something else than "it cannot be done": see the tests of their own."""

FAILS_FOR_EVER = re.compile(r"\d+\+")


@every_errno("waitid", ONCE, "2", "3", ALWAYS, drawn=3, calls=3, but=LIES)
def test_waiting_that_fails_at_times_is_survived(trace: Trace, error: str, when: str) -> None:
    """At whatever moment, also when nobody lives any more; it makes at least three calls, for two ends and for none."""
    traced = trace("wait4", error, when, *ORDINARY).finish()
    if FAILS_FOR_EVER.fullmatch(when):
        traced.assert_gave_up(error)
    else:
        traced.assert_went_on("processes", error)


@every_errno("waitid", ALWAYS, but=LIES)
def test_while_the_command_lives_no_failure_to_wait_ends_run(trace: Trace, error: str, when: str) -> None:
    traced = trace("wait4", error, when, *HELD, stdin=subprocess.PIPE)
    traced.wake_until_failed(3)
    traced.close_stdin()
    traced.finish().assert_gave_up(error)
    assert traced.log.startswith(went_on("processes", error))


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EPERM"])
def test_while_a_daemon_lives_no_failure_to_wait_ends_run(trace: Trace, error: str) -> None:
    """The main command has ended, and was reaped; the daemon gets signals all the same."""
    script = "cat <&3 >/dev/null & trap 'exit 3' TERM; read _"
    words = ("-q", "/bin/sh", "-c", f'exec 3<&0; setsid sh -c "{script}" <&3 & echo started; exit 7')
    traced = trace("wait4", error, "4+", *words, stdin=subprocess.PIPE)
    traced.wake_until_failed(3)
    traced.close_stdin()
    traced.finish().assert_gave_up(error)
    assert traced.log.startswith(went_on("processes", error))


def test_a_zombie_that_could_not_be_reaped_is_reaped_soon(trace: Trace) -> None:
    """Though nothing else happens: the signal that told of its end has been taken."""
    script = "echo started; read _; ( (exit 9) & ); echo left; read _; exit 7"
    traced = trace("wait4", "EPERM", "2", "-q", "/bin/sh", "-c", script, stdin=subprocess.PIPE)
    assert traced.line() == "started\n"
    wait_until(lambda: traced.run and state(traced.run) == "S" and len(traced.calls) == 1, "run waits")
    assert traced.process.stdin is not None
    traced.process.stdin.write(b"\n")
    assert traced.line() == "left\n"
    wait_until(lambda: traced.failed and len(children(traced.run)) == 1, "the orphan is reaped")
    traced.close_stdin()
    assert traced.finish().code == 9
    assert traced.log == went_on("processes", "EPERM")


@pytest.mark.fault("waitid", "EINTR")
@pytest.mark.parametrize("when", [ONCE, "2", "3", "1..20", "1+2", "2+3"])
def test_waiting_that_is_interrupted_is_done_again(trace: Trace, when: str) -> None:
    traced = trace("wait4", "EINTR", when, *ORDINARY).finish()
    traced.assert_ran()


@pytest.mark.fault("waitid", "ECHILD")
@pytest.mark.parametrize("when", [ONCE, "2", "3", ALWAYS, "2+", "1+2", "2+2"])
def test_no_success_is_claimed_when_the_kernel_knows_no_child(trace: Trace, when: str) -> None:
    """So it would be if something reaped behind the back of `run`. What was never reaped did not exit with 0."""
    traced = trace("wait4", "ECHILD", when, *ORDINARY[1:]).finish()
    reaped = [int(code) for code in re.findall(r"exited with code (\d+)\n", traced.log)]
    errors = "".join(re.findall(r"^run: \[error\] [^\n]+\n", traced.log, re.M))
    if 7 in reaped:  # then it is as if the orphan had ended elsewhere
        assert traced.code == max(reaped)
        assert errors in ("", went_on("processes", "ECHILD"))
    else:
        assert traced.code == 125, traced.log
        last = went_on("processes", "ECHILD").replace(GOING_ON, "")
        assert errors in (last, went_on("processes", "ECHILD") + last)


# With -s it looks, by waitid, before it reaps.


@every_errno("waitid", "2", "3", "2+", drawn=2, calls=3, but=LIES)
def test_looking_before_reaping_that_fails_does_not_end_run(trace: Trace, error: str, when: str) -> None:
    """The first call, before the start, asks for children from before; where looking fails it reaps at once."""
    script = "echo started; read _; sleep 1000 & exit 7"
    traced = trace("waitid", error, when, "-q", "-s", "TERM", "/bin/sh", "-c", script, stdin=subprocess.PIPE)
    traced.wake_until_failed()
    traced.close_stdin()
    traced.finish()
    assert (traced.code, traced.out) == (143, "started\n"), traced.log
    assert re.fullmatch(r"(run: \[error\] cannot [^\n]+; going on as well as possible\n)?", traced.log), traced.log


# -- sigwaitinfo: rt_sigtimedwait -------------------------------------------------------------------------------------

WAIT_AGAIN = ("EAGAIN", "EINTR")


@every_errno("sigwaitinfo", ONCE, "2", ALWAYS, drawn=4, calls=4)
def test_waiting_for_a_signal_that_fails_does_not_end_run(trace: Trace, error: str, when: str) -> None:
    """Nothing has to be said where trying again makes sense: EAGAIN and EINTR."""
    traced = trace("rt_sigtimedwait", error, when, *HELD, stdin=subprocess.PIPE)
    traced.wake_until_failed()
    traced.close_stdin()
    traced.finish()
    if error in WAIT_AGAIN:
        traced.assert_ran()
    else:
        traced.assert_went_on("signals", error)


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EPERM"])
def test_signals_are_forwarded_though_waiting_for_processes_fails(trace: Trace, error: str) -> None:
    script = "trap 'echo told; exit 3' USR1; echo started; while :; do sleep 0.01; done"
    traced = trace("wait4", error, "2+", "-q", "/bin/sh", "-c", script)
    assert traced.line() == "started\n"
    traced.wake_until_failed(2)
    os.kill(traced.run, signal.SIGUSR1)
    traced.finish()
    assert (traced.code, traced.out) == (125, "told\n"), traced.log


# -- kill -------------------------------------------------------------------------------------------------------------


@every_errno("kill", ONCE)
def test_when_TERM_cannot_be_sent_KILL_is_enough(trace: Trace, error: str, when: str) -> None:
    words = ("-q", "-s", "TERM", "-t0.3", "/bin/sh", "-c", "echo started; sleep 1000 & exit 7")
    traced = trace("kill", error, when, *words).finish()
    assert len(traced.failed) == 1
    assert (traced.code, traced.out) == (137, "started\n")
    assert_told(traced.log, error, ["TERM"])


@every_errno("kill", "2")
def test_when_KILL_cannot_be_sent_once_it_is_sent_again(trace: Trace, error: str, when: str) -> None:
    """With whatever happens next, here a signal to be forwarded."""
    words = ("-q", "-s", "TERM", "-t0.3", "/bin/sh", "-c", "trap '' TERM; echo started; sleep 1000 & exit 7")
    traced = trace("kill", error, when, *words)
    wait_until(lambda: traced.failed or traced.process.poll() is not None, "KILL was tried")
    assert traced.process.poll() is None, traced.log
    os.kill(traced.run, signal.SIGURG)
    traced.finish()
    assert (traced.code, traced.out) == (137, "started\n")
    assert_told(traced.log, error, ["KILL"])


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


# -- signals that are forwarded ---------------------------------------------------------------------------------------

LISTENER = """
import os, signal
every = set(range(34, 65)) | {15}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
os.write(1, b"%d\\n" % os.getpid())
while (signum := signal.sigwait(every)) != 15: os.write(1, b"%d\\n" % signum)
os._exit(7)
"""
FIRST, COUNT = 35, 8
SENT = range(FIRST, FIRST + COUNT)


LISTENING = ("-q", sys.executable, "-I", "-S", "-c", LISTENER)
"""A command that writes down its pid and, until TERM, each signal that it gets."""


def send_all(traced: Traced) -> int:
    """Send `run` all signals, once its command is ready for them; return the command's pid."""
    pid = int(traced.line())
    for signum in SENT:
        os.kill(traced.run, signum)
    return pid


def received(traced: Traced, pid: int, count: int) -> list[int]:
    """Wait until the command has got so many signals, end it, and return them: it got no more."""
    lines = [traced.line() for _ in range(count)]
    assert traced.process.poll() is None, traced.log
    os.kill(pid, signal.SIGTERM)
    traced.finish()
    assert (traced.code, traced.out) == (7, "")
    return [int(line) for line in lines]


@every_errno("kill", ONCE, "3", ALWAYS, drawn=4, calls=COUNT)
def test_of_the_forwarded_signals_only_those_that_fail_are_lost(trace: Trace, error: str, when: str) -> None:
    traced = trace("kill", error, when, *LISTENING)
    command = send_all(traced)
    wait_until(lambda: len(traced.calls) == COUNT or traced.process.poll() is not None, "all were forwarded")
    lost = [number for number, call in enumerate(traced.calls, FIRST) if call in traced.failed]
    assert received(traced, command, COUNT - len(lost)) == [signum for signum in SENT if signum not in lost]
    assert_told(traced.log, error, [f"RTMIN+{signum - 34}" for signum in lost])


@every_errno("open", ONCE, "1..3", ALWAYS)
def test_none_of_the_forwarded_signals_is_lost_when_the_list_of_children_cannot_be_opened(
    trace: Trace, error: str, when: str
) -> None:
    """It is tried again for each, until it is open; the main group gets those before."""
    traced = trace(OPEN, error, when, *LISTENING, paths=(LISTS["children"],))
    assert received(traced, send_all(traced), COUNT) == [*SENT]
    assert traced.log == ""


@pytest.mark.parametrize("call", ["lseek", "readv"])
@every_errno("read", ONCE, ALWAYS, drawn=1, calls=COUNT)
def test_none_of_the_forwarded_signals_is_lost_when_the_list_of_children_cannot_be_read(
    trace: Trace, call: str, error: str, when: str
) -> None:
    """It is opened again then."""
    traced = trace(call, error, when, *LISTENING)
    assert received(traced, send_all(traced), COUNT) == [*SENT]
    assert traced.failed
    assert traced.log == ""


@every_errno("open", ONCE)
def test_none_is_lost_when_nobody_can_tell_at_first_whose_proc_it_is(trace: Trace, error: str, when: str) -> None:
    traced = trace(OPEN, error, when, *LISTENING, paths=(LISTS["self"],))
    assert received(traced, send_all(traced), COUNT) == [*SENT]
    assert len(traced.failed) == 1
    assert traced.log == ""
