"""Contract, "Signals": no signal is ever lost, from the moment that `run` is executed, nor confused with a timer."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import DEADLINE, Started, Starter, alive, are_blocked_by_run, children, signals, state, status, wait_until
from signal_notes import RECORD, RECORDER, got, wait_got, wait_ready

RTMIN_3 = signal.SIGRTMIN + 3


@pytest.fixture(autouse=True)
def default_actions() -> Iterator[None]:
    """A test runner in the background may have been given signals that are ignored; the commands must die of them."""
    signums = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)
    saved = [(signum, signal.signal(signum, signal.SIG_DFL)) for signum in signums]
    yield
    for signum, handler in saved:
        signal.signal(signum, handler)


# -- At the start -----------------------------------------------------------------------------------------------------


def is_executed(pid: int, binary: str) -> bool:
    """Whether this process is `run`, and its first instructions have blocked the signals."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return binary.encode() in words[:2] and are_blocked_by_run(signals(pid, "SigBlk"))


def pid_when_executed(started: Started, binary: str, pid_1: bool) -> int:
    """Wait for the moment that `run` is executed, as closely as can be seen from outside; return its pid."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        for pid in children(started.process.pid) if pid_1 else [started.process.pid]:
            if is_executed(pid, binary):
                return pid
    raise AssertionError("run has not blocked its signals")


def send_at_a_random_moment(start: Starter, signum: int, pid_1: bool, seed: int) -> str:
    """Send a signal to a `run` that has just been executed; say what went wrong, or ''.

    The command dies of the signal, so it was delivered if and only if `run` ends with 128 + n.
    """
    moment = random.Random(seed).uniform(0, 0.030)
    started = start("sleep", "600", pid_1=pid_1)
    pid = pid_when_executed(started, start.binary, pid_1)
    until = time.monotonic() + moment
    while time.monotonic() < until:
        pass
    os.kill(pid, signum)
    try:
        code = started.wait()
    except AssertionError as lost:
        return f"signal {signum} after {moment * 1000:.1f} ms: {lost}"
    return "" if code == 128 + signum else f"signal {signum} after {moment * 1000:.1f} ms: {code}\n{started.log()}"


def failures(binary: str, folder: Path, signums: list[int], pid_1: bool) -> list[str]:
    """Send each of these signals to a `run` of its own, several at once; return what went wrong."""

    def attempt(seed: int) -> str:
        start = Starter(binary, folder / str(seed))
        (folder / str(seed)).mkdir()
        try:
            return send_at_a_random_moment(start, signums[seed], pid_1, seed)
        finally:
            start.kill_all()

    with ThreadPoolExecutor(4) as pool:
        return [failure for failure in pool.map(attempt, range(len(signums))) if failure]


def test_as_PID_1_no_TERM_of_300_in_the_first_30_ms_is_lost(binary: str, tmp_path: Path) -> None:
    assert failures(binary, tmp_path, [signal.SIGTERM] * 300, True) == []


def test_not_as_PID_1_no_TERM_of_100_in_the_first_30_ms_is_lost(binary: str, tmp_path: Path) -> None:
    assert failures(binary, tmp_path, [signal.SIGTERM] * 100, False) == []


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid_1"])
def test_no_other_signal_of_100_in_the_first_30_ms_is_lost(binary: str, tmp_path: Path, pid_1: bool) -> None:
    others = [signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, RTMIN_3] * 25
    assert failures(binary, tmp_path, others, pid_1) == []


def pending_from_the_start() -> None:
    """Block all signals, and have some pending: both survive the exec of `run`. See signal(7)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for signum in [signal.SIGTERM, signal.SIGHUP, *[RTMIN_3] * 20]:
        os.kill(os.getpid(), signum)


def test_signals_sent_before_the_command_exists_are_delivered_once_it_does(start: Starter) -> None:
    started = start(*RECORDER, "main", preexec_fn=pending_from_the_start)
    wait_ready(started, "main")
    started.send(64)
    wait_got(started, "main", 64)
    assert got(started, "main") == [signal.SIGHUP, signal.SIGTERM, *[RTMIN_3] * 20, 64]


def test_a_signal_that_was_blocked_when_run_started_is_forwarded_nevertheless(start: Starter) -> None:
    started = start(
        *RECORDER, "main", preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    )
    wait_ready(started, "main")
    started.send(signal.SIGTERM)
    wait_got(started, "main", signal.SIGTERM)


def test_a_signal_that_was_ignored_when_run_started_is_forwarded_nevertheless(start: Starter) -> None:
    started = start(*RECORDER, "main", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_ready(started, "main")
    started.send(signal.SIGHUP)
    wait_got(started, "main", signal.SIGHUP)


# -- The timer --------------------------------------------------------------------------------------------------------


def test_an_ALRM_from_outside_is_forwarded_and_neither_fires_nor_delays_the_timer_of_t(start: Starter) -> None:
    grace = 2.0
    started = start("-s", "TERM", "-t", str(grace), "sh", "-c", f"{RECORD} left & read line", stdin=-1)
    (left,) = wait_ready(started, "left")
    before = time.monotonic()
    started.close_stdin()
    wait_got(started, "left", signal.SIGTERM)
    sent = 0

    def forwarded() -> bool:
        return got(started, "left").count(signal.SIGALRM) == sent or not alive(left)

    while alive(left):
        started.send(signal.SIGALRM)
        sent += 1
        wait_until(forwarded, "ALRM is forwarded")
        time.sleep(0.05)
        assert time.monotonic() < before + DEADLINE, "the timer was delayed"
    assert time.monotonic() - before >= grace, "the timer fired early"
    assert got(started, "left").count(signal.SIGALRM) >= sent - 1 > 0  # the last one may have come too late
    assert started.wait() == 137


def test_the_timer_of_t_survives_that_run_is_stopped_and_continued(start: Starter) -> None:
    started = start("-s", "TERM", "-t", "5", "sh", "-c", f"{RECORD} left & read line", stdin=-1)
    (left,) = wait_ready(started, "left")
    started.close_stdin()
    wait_got(started, "left", signal.SIGTERM)
    started.send(signal.SIGSTOP)
    wait_until(lambda: state(started.pid) in ("T", "Z"), "run is stopped, unless it has ended")
    started.send(signal.SIGCONT)
    wait_until(lambda: not alive(left), "the timer fires")
    assert started.wait() == 137


# -- Storm and silence ------------------------------------------------------------------------------------------------

ORPHANS = 2000
THOUSANDS_OF_ORPHANS = f"""
import os, signal, sys
for signum in (signal.SIGUSR1, signal.SIGRTMIN + 3):
    signal.signal(signum, signal.SIG_IGN)
held, holder = os.pipe()
if os.fork() == 0:
    for _ in range({ORPHANS}):
        if os.fork() == 0:
            os.close(holder)
            os.read(held, 1)
            os._exit(1)
    os._exit(0)
os.wait()
print("orphans ready", flush=True)
sys.stdin.readline()
os._exit(2)
"""
"""Its end closes the pipe that all the orphans read, so that they end at once."""


def test_a_signal_storm_while_thousands_of_orphans_end_loses_neither_signals_nor_orphans(start: Starter) -> None:
    script = f"(setsid {RECORD} daemon &) ; exec {sys.executable} -I -c '{THOUSANDS_OF_ORPHANS}'"
    started = start("sh", "-c", script, stdin=-1)
    (daemon,) = wait_ready(started, "daemon")
    started.wait_out("orphans ready")
    for i in range(400):
        started.send(RTMIN_3)
        started.send(signal.SIGUSR1)
        if i == 100:
            started.close_stdin()
    wait_got(started, "daemon", RTMIN_3, 400)
    wait_until(lambda: children(started.pid) == [daemon], "every orphan is reaped")
    started.send(64)
    wait_got(started, "daemon", 64)
    assert got(started, "daemon").count(RTMIN_3) == 400
    assert 1 <= got(started, "daemon").count(signal.SIGUSR1) <= 400
    assert started.log().count("exited with code 1\n") == ORPHANS
    os.kill(daemon, signal.SIGKILL)
    assert started.wait() == 137


def switches(pid: int) -> tuple[str, str]:
    """How often a process was put to sleep, and how often it had to give way while it ran: proc(5)."""
    fields = status(pid)
    return fields["voluntary_ctxt_switches"], fields["nonvoluntary_ctxt_switches"]


@pytest.mark.parametrize(
    ("options", "script"),
    [([], f"exec {RECORD} main"), (["-s", "TERM", "-t", "3600"], f"{RECORD} main & read line")],
    ids=["waiting", "with_t_pending"],
)
def test_run_does_not_wake_up_while_nothing_happens(start: Starter, options: list[str], script: str) -> None:
    started = start(*options, "sh", "-c", script, stdin=-1)
    wait_ready(started, "main")
    started.close_stdin()
    started.send(64)
    started.wait_log("forwarding RTMIN+30 (64)")
    if options:
        started.wait_log("sending TERM (15)")
    wait_until(lambda: state(started.pid) == "S", "run waits")
    assert status(started.pid)["Threads"] == "1"
    before = switches(started.pid)
    time.sleep(2)
    assert switches(started.pid) == before
