"""Contract, "Signals": no signal is lost on a process that changes its process group while the signal is sent."""

import os
import platform
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import STRACE
from harness import Started, Starter, children, open_gate, status, wait_until

KILL_NUMBER = {"x86_64": "62", "aarch64": "129"}[platform.machine()]

MOVER = """
import os, signal, sys
fifo, first, then = sys.argv[1:]
group = os.getpgrp()
exec(first)
print("mover", os.getpid(), flush=True)
open(fifo).close()
exec(then)
signal.pause()
"""


@pytest.fixture
def held(start: Starter, tmp_path: Path) -> Callable[..., Started]:
    """Starts the binary so that the given one of its calls of kill(2) is held back, with a command that leaves a mover.

    The command ends when its stdin does.
    This is a process that does something first, and something else then, once move() is called. Another process may
    come before it. It is strace(1), in a session of its own, that holds the call back for as long as it lives.
    """
    os.mkfifo(tmp_path / "fifo")

    def start_held(which: int, then: str, first: str = "", other: str = "", options: tuple[str, ...] = ()) -> Started:
        held = ["-e", "trace=kill", "-e", f"inject=kill:delay_enter=3600s:when={which}"]
        prefix = [STRACE, "-DDD", "--quiet=all", "-o", str(tmp_path / "trace"), *held]
        script = f'{other} "$@" & read told; exit 3'
        words = [sys.executable, "-I", "-S", "-c", MOVER, str(tmp_path / "fifo"), first, then]
        return start(*options, "sh", "-c", script, "sh", *words, prefix=prefix, stdin=-1)

    return start_held


def mover(started: Started) -> int:
    """The pid of the mover, once it has done what comes first."""
    return int(wait_until(lambda: re.findall(r"mover (\d+)\n", started.out()), "the mover's pid")[0])


def move(started: Started, pid: int, tmp_path: Path) -> int:
    """Wait until `run` is about to send the signal, have the mover move, and then have the signal sent.

    Returns the group that the mover has moved to.
    """
    call = Path(f"/proc/{started.pid}/syscall")
    wait_until(lambda: call.read_text().split()[0] == KILL_NUMBER, "run calls kill(2)")
    before = os.getpgid(pid)
    open_gate(tmp_path / "fifo")
    wait_until(lambda: os.getpgid(pid) != before, "the mover is in another group")
    after = os.getpgid(pid)
    os.kill(int(status(started.pid)["TracerPid"]), signal.SIGKILL)
    return after


@pytest.mark.parametrize("other", ["", "sleep 1000 &"], ids=["nobody-stays", "another-stays"])
def test_who_leaves_the_group_at_this_moment_gets_the_signal_of_s(
    held: Callable[..., Started], other: str, tmp_path: Path
) -> None:
    started = held(1, "os.setsid()", other=other, options=("-s", "TERM"))
    pid = mover(started)
    group = os.getpgid(pid)
    started.close_stdin()
    move(started, pid, tmp_path)
    assert started.wait() == 143
    assert f"pid {pid}: killed by TERM (15)" in started.log()
    groups = [group, pid] if other else [pid]
    assert f"sending TERM (15) to {', '.join(f'group {number}' for number in groups)}\n" in started.log()


def test_who_leaves_the_group_at_this_moment_gets_a_forwarded_signal(
    held: Callable[..., Started], tmp_path: Path
) -> None:
    started = held(1, "os.setsid()", other="setsid sleep 1000 &")
    pid = mover(started)
    group = os.getpgid(pid)
    started.close_stdin()
    started.wait_log("exited with code 3")
    daemon = wait_until(lambda: [child for child in children(started.pid) if os.getpgid(child) == child], "a daemon")[0]
    started.send(signal.SIGTERM)
    move(started, pid, tmp_path)
    assert started.wait() == 143
    assert f" to group {daemon}, group {pid}\n" in started.log()
    assert f"group {group}" not in started.log()


def test_who_enters_a_group_that_has_the_signal_already_gets_it_alone(
    held: Callable[..., Started], tmp_path: Path
) -> None:
    started = held(2, "os.setpgid(0, group)", "os.setpgid(0, 0)", other="sleep 1000 &", options=("-s", "TERM"))
    pid = mover(started)
    started.close_stdin()
    group = move(started, pid, tmp_path)
    assert started.wait() == 143
    assert f"sending TERM (15) to group {group}, pid {pid}\n" in started.log()
