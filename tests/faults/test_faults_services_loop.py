"""Contract, "Bad days": system calls that fail while services run. None ends `run`: it says so, and goes on."""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import ALWAYS, GOING_ON, ONCE, Trace, Traced, every_errno, failed
from harness import wait_until
from serving import Server, Services

LINES = 200

FAST = {"restart_delay": 0.05, "restart_max_delay": 0.05}

BESIDE = {"output": "null", "essential": False}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that the services wait for."""
    return tmp_path / "gate"


def held(gate: Path) -> Services:
    """Services that write, crash and leave orphans, and one that ends with 7 when the gate is open.

    None has to be stopped for `run` to end: perhaps no signal can be sent.
    """
    wait = f"until [ -e {gate} ]; do sleep 0.01; done"
    return {
        "web": {"command": f"echo started; {wait}; i=0; while [ $((i += 1)) -le {LINES} ]; do echo $i; done; exit 7"},
        "shaky": {"command": "echo shaky; exit 3", "restart": "always", **FAST},
        "orphans": {"command": f"until [ -e {gate} ]; do (/bin/true &); sleep 0.05; done", **BESIDE},
    }


def leaving(gate: Path, seconds: int) -> str:
    """A script that ends with 7 when the gate is open, and leaves a process in a session of its own."""
    away = f"setsid sh -c 'touch {gate}.away; exec sleep {seconds}' & until [ -e {gate}.away ]; do sleep 0.01; done"
    return f"{away}; echo started; until [ -e {gate} ]; do sleep 0.01; done; exit 7"


def run_to_the_end(traced: Traced, gate: Path, count: int = 1) -> Traced:
    """Wait until so many calls have failed while services run, then open the gate, and wait for the end."""
    traced.wake_until_failed(count)
    gate.touch()
    return traced.finish()


def wait_started(traced: Traced) -> None:
    """Wait until the service that is waited for has begun."""
    seen: list[str] = []
    while not (seen and seen[-1].endswith("| started\n")):
        seen.append(traced.line())
        assert seen[-1], f"run has ended: {seen}, {traced.log}"
    traced.seen = "".join(seen)


def assert_survived(traced: Traced, code: int = 7) -> None:
    """The service that was waited for has ended, all it has written is there, and nothing was said twice."""
    assert traced.code == code, traced.log
    lines = [line for line in (traced.seen + traced.out).splitlines() if line.startswith("web   | ")]
    assert lines == ["web   | started", *(f"web   | {number}" for number in range(1, LINES + 1))]
    assert_said(traced)


def assert_said(traced: Traced) -> None:
    """What was said about failures is one clear line for each kind, and one for each life that has failed."""
    lives = re.compile(r"run: \[error\] (back|shaky): cannot start [^\n]+: fork: ")
    errors = [line for line in traced.log.splitlines() if "[error]" in line and not lives.match(line)]
    assert len(errors) == len(set(errors)), errors
    assert all(line.endswith(GOING_ON) for line in errors), errors
    assert not re.search(r"internal|Errno|Error\b|Traceback", traced.log), traced.log


# -- epoll -------------------------------------------------------------------------------------------------------------


@every_errno("epoll_wait", ONCE, "2", ALWAYS, drawn=2, calls=5)
def test_waiting_that_fails(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """Output, ends and signals are seen all the same."""
    traced = trace("?epoll_wait,?epoll_pwait", error, when, "-q", "-f", str(serve.file(held(gate))))
    assert_survived(run_to_the_end(traced, gate))


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EPERM"])
def test_where_waiting_always_fails_TERM_stops_all(trace: Trace, serve: Server, gate: Path, error: str) -> None:
    traced = trace("?epoll_wait,?epoll_pwait", error, ALWAYS, "-q", "-f", str(serve.file(held(gate))))
    wait_started(traced)
    traced.wake_until_failed(2)
    os.kill(traced.run, signal.SIGTERM)
    traced.finish()
    assert traced.code in (0, 3), traced.log
    assert_said(traced)


@every_errno("epoll_ctl", "9", "9+", "9+2")
def test_what_is_to_be_waited_for_later_and_cannot_be(
    trace: Trace, serve: Server, gate: Path, error: str, when: str
) -> None:
    """Behind the calls before the start: the reports of a keeper. Without them it cannot be kept."""
    keys = {"command": "sleep 1000 & exit 0", "daemon": True, "restart": "on-failure:2", "essential": False, **FAST}
    traced = trace("epoll_ctl", error, when, "-q", "-f", str(serve.file({**held(gate), "back": keys})))
    wait_started(traced)
    gate.touch()
    traced.finish()
    assert_survived(traced)


@every_errno("epoll_ctl", "5", "6", "7", "5+", "6+", "7+", "6+2")
def test_what_cannot_be_waited_for_or_looked_away_from_while_a_reader_is_slow(
    trace: Trace, serve: Server, gate: Path, error: str, when: str
) -> None:
    """The calls before are for signals, orders, and both streams of the service."""
    line = "0123456789" * 10
    services = {"web": {"command": f"i=0; while [ $((i += 1)) -le 20000 ]; do echo {line}; done; exit 7"}}
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as reader:
        traced = trace("epoll_ctl", error, when, "-q", "-f", str(serve.file(services)), stdout=writes)
        os.close(writes)
        wait_until(lambda: len(traced.calls) > 5 or traced.process.poll() is not None, "the reader is waited for")
        with ThreadPoolExecutor() as pool:
            written = pool.submit(reader.read)
            traced.finish()
            lines = written.result().decode().splitlines()
    assert traced.code == 7, traced.log
    assert (set(lines), len(lines)) == ({f"web | {line}"}, 20000)
    assert_said(traced)


# -- Reading and writing -----------------------------------------------------------------------------------------------


@pytest.fixture
def trace_reads(trace: Trace, binary: str, tmp_path: Path) -> Callable[..., Traced]:
    """The same for read(2), counted from the first call that is not for the file: how many those are is Python's."""
    (tmp_path / "file").write_text("[services.web]\ncommand = 'true'\n")
    words = ["strace", "-qq", "-o", str(tmp_path / "reads"), "-e", "trace=read", binary, "-nf", str(tmp_path / "file")]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    before = (tmp_path / "reads").read_text().count("read(")

    def traced(error: str, when: str, *words: str) -> Traced:
        first, *more = re.split(r"(?<=\d)(?=\+)", when)
        later = "..".join(str(int(number) + before) for number in first.split(".."))
        return trace("read", error, "".join([later, *more]), *words)

    return traced


@pytest.mark.static_only("the dynamic loader reads, too")
@every_errno("read", ONCE, "2", "3", "4..7", "1+2", "2+3")
def test_reading_output_that_fails_at_times(
    trace_reads: Callable[..., Traced], serve: Server, gate: Path, error: str, when: str
) -> None:
    """It is read later."""
    traced = trace_reads(error, when, "-q", "-f", str(serve.file(held(gate))))
    assert_survived(run_to_the_end(traced, gate))


@pytest.mark.static_only("the dynamic loader reads, too")
@every_errno("read", ALWAYS)
def test_output_that_can_never_be_read(
    trace_reads: Callable[..., Traced], serve: Server, gate: Path, error: str, when: str
) -> None:
    """It is lost; services run, end, restart and are stopped."""
    traced = trace_reads(error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate, 5)
    assert traced.code == 7, traced.log
    assert_said(traced)


BENIGN = ("EAGAIN", "EINTR")
"""What is tried again."""


@every_errno("write", ONCE, "2", "1+2")
def test_writing_output_that_fails_at_times(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """What was for that moment is dropped, and that is said; the rest arrives."""
    traced = trace("writev", error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert traced.code == 7
    assert_said(traced)
    if error in BENIGN:
        assert_survived(traced)
    else:
        assert f"standard output: {os.strerror(getattr(errno, error))}: what services write" in traced.log
        assert traced.out.count("\n") >= 1 or when == "1+2"


@every_errno("write", ALWAYS)
def test_output_that_can_never_be_written(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    traced = trace("writev", error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert traced.code == 7, traced.log
    assert_said(traced)


@every_errno("poll", ONCE, ALWAYS)
def test_a_reader_that_cannot_be_waited_for_at_the_end(trace: Trace, serve: Server, error: str, when: str) -> None:
    """What it has not taken is dropped, and the exit code stays."""
    services = {"web": {"command": f"i=0; while [ $((i += 1)) -le 2000 ]; do echo {'0123456789' * 10}; done; exit 3"}}
    traced = trace("?poll,?ppoll", error, when, "-q", "-f", str(serve.file(services))).finish()
    assert traced.code == 3
    assert re.search(r"^run: \[warn\] standard output: \d+ bytes were dropped", traced.log, re.MULTILINE), traced.log
    assert_said(traced)


@every_errno("ioctl", "3", "4", "3..4", "3+")
def test_a_pipe_that_does_not_tell_how_much_is_in_it(
    trace: Trace, serve: Server, gate: Path, error: str, when: str
) -> None:
    """FIONREAD, at the end of a life. The calls before ask whether there is a terminal."""
    traced = trace("ioctl", error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert "FIONREAD" in traced.failed[0]
    assert_survived(traced)


# -- Processes ---------------------------------------------------------------------------------------------------------


LIES = ("ECHILD", "EINTR")


@every_errno("waitid", ONCE, "2", "3", "4", "2+", ALWAYS, drawn=3, calls=8, but=LIES)
def test_looking_for_ends_that_fails(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """They are reaped at once. The first call, before the start, asks for children from before."""
    traced = trace("waitid", error, when, "-q", "-f", str(serve.file(held(gate))))
    assert_survived(run_to_the_end(traced, gate))
    if failed(traced.calls[1:]):
        assert "cannot look at processes before they are reaped: " in traced.log


@every_errno("waitid", ONCE, "2", "3", "1..3", "2+2", drawn=2, calls=6, but=LIES)
def test_reaping_that_fails_at_times(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """An end that was noted is noted once."""
    traced = trace("wait4", error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert "cannot wait for processes: " in traced.log
    if re.fullmatch(r"\d+\+", when):
        assert traced.code == 125, traced.log
    else:
        assert_survived(traced)


@every_errno("waitid", ALWAYS, but=LIES)
def test_while_a_service_lives_no_failure_to_reap_ends_run(
    trace: Trace, serve: Server, gate: Path, error: str, when: str
) -> None:
    """Afterwards it is 125, since nobody can be waited for."""
    traced = trace("wait4", error, when, "-q", "-f", str(serve.file(held(gate))))
    wait_started(traced)
    traced.wake_until_failed(3)
    gate.touch()
    traced.finish()
    assert traced.code == 125, traced.log
    assert "cannot wait for processes: " in traced.log and "internal" not in traced.log


@every_errno("kill", ONCE, "2", drawn=2, calls=6)
def test_signals_that_cannot_be_sent_at_times(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """KILL to what a crash has left, the question whether a group is gone, stop signals."""
    traced = trace("kill", error, when, "-q", "-t0.5", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert traced.code == 7, traced.log
    assert "internal" not in traced.log


@every_errno("getpgid", ALWAYS, but=("ESRCH",))
def test_groups_that_are_not_told(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """They are asked for when what belongs to no service is to be stopped: it gets the signal alone.

    ESRCH would say that it has ended.
    """
    services = {"web": {"command": leaving(gate, 1000)}}
    traced = trace("getpgid", error, when, "-q", "-t1", "-f", str(serve.file(services)))
    wait_started(traced)
    gate.touch()
    traced.finish()
    assert traced.code == 7 and "internal" not in traced.log


@every_errno("sigwaitinfo", ONCE, "3", ALWAYS, drawn=2, calls=6)
def test_signals_that_cannot_be_taken(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """Ends are told by a signal; so those are looked for all the same."""
    traced = trace("rt_sigtimedwait", error, when, "-q", "-f", str(serve.file(held(gate))))
    run_to_the_end(traced, gate)
    assert traced.code == 7, traced.log
    assert_said(traced)


@every_errno("open", ALWAYS)
def test_without_any_file_of_proc(trace: Trace, serve: Server, gate: Path, error: str, when: str) -> None:
    """Signals are passed on to nobody, and what belongs to no service gets its signal as it can."""
    services = {"web": {"command": leaving(gate, 3)}}
    paths = ("/proc/self/status", "/proc/thread-self/children")
    traced = trace("?open,openat", error, when, "-q", "-t1", "-f", str(serve.file(services)), paths=paths)
    wait_started(traced)
    gate.touch()
    traced.finish()
    assert traced.code == 7 and "internal" not in traced.log, traced.log


def test_a_refused_pipe_for_a_keeper_is_a_failed_life(trace: Trace, serve: Server) -> None:
    """The third pipe: after the two for its output."""
    keys = {
        "command": "sleep 0.2 & echo started; exit 0",
        "daemon": True,
        "restart": "on-failure:2",
        "restart_delay": 0.01,
    }
    traced = trace("?pipe,pipe2", "EMFILE", "3", "-q", "-f", str(serve.file({"d": keys}))).finish()
    assert len(traced.failed) == 1
    assert traced.code == 0 and "d | started" in traced.out
    assert "internal" not in traced.log
