"""Contract, "When a process ends": daemons that fork twice under -d, and who is left after the signal."""

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from faults import STRACE
from harness import Started, Starter, wait_until

STEPS = """
import os, signal, sys
path, code, forks, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
every = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
launcher = os.getpid()
if os.fork():
    os._exit(0)
os.setsid()
while os.getppid() == launcher: os.sched_yield()
for left in range(forks - 1):
    if own == "nothing": os._exit(code)
    step = os.getpid()
    ready, said = os.pipe()
    if os.fork():
        os.close(said)
        os.read(ready, 1)
        os._exit(code)
    if own == "group" and left == 0: os.setpgid(0, 0)
    os.close(said)
    while os.getppid() == step: os.sched_yield()
os.write(file, b"pid %d\\n" % os.getpid())
while True:
    signum = signal.sigwait(every)
    os.write(file, b"signal %d\\n" % signum)
    if signum == 10: os._exit(0)
    if signum in (12, 15): os._exit(5)
"""
"""A daemon that forks, calls setsid(2), and forks again: each step ends once it is an orphan itself."""

LEAVER = """
import os, signal, sys
count, depth = int(sys.argv[1]), int(sys.argv[2])
every = {10, 15}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
for number in range(count):
    ready, said = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for level in range(depth):
            inner, told = os.pipe()
            if os.fork():
                os.read(inner, 1)
                break
            os.setsid()
            os.write(told, b"x")
        os.write(1, b"ready\\n")
        os.write(said, b"x")
        signum = signal.sigwait(every)
        os.write(1, b"%d got %d\\n" % (os.getpid(), signum))
        os._exit(5)
    os.read(ready, 1)
    os.close(ready); os.close(said)
os.write(1, b"supervising\\n")
signal.sigwait(every)
os._exit(0)
"""
"""A supervisor that ends upon TERM, and leaves children in sessions of their own; each may be one in turn."""


def daemon(note: Path, code: int = 0, forks: int = 2, own: str = "session") -> list[str]:
    """A command that puts itself into the background by so many forks, the steps of which end with the code."""
    return ["python3", "-S", "-c", STEPS, str(note), str(code), str(forks), own]


def pid_in(note: Path) -> int:
    """The daemon's pid, once it has taken its last step."""
    found = wait_until(lambda: re.findall(r"pid (\d+)\n", note.read_text() if note.exists() else ""), "the daemon")
    return int(found[0])


def got(note: Path) -> list[int]:
    """The signals that the daemon has taken note of."""
    return [int(signum) for signum in re.findall(r"signal (\d+)\n", note.read_text() if note.exists() else "")]


SHAPES = {"fork-setsid-fork": (2, "session"), "a-group-of-its-own": (2, "group")}


@pytest.mark.parametrize("pid_1", [False, True])
@pytest.mark.parametrize(("forks", "own"), SHAPES.values(), ids=SHAPES)
def test_with_d_a_step_into_the_background_does_not_count(
    start: Starter, tmp_path: Path, forks: int, own: str, pid_1: bool
) -> None:
    """The USR2 that ends the daemon comes after every step was reaped; had one counted, TERM would have come first."""
    note = tmp_path / "note"
    started = start("-ds", "TERM", *daemon(note, forks=forks, own=own), pid_1=pid_1)
    wait_until(
        lambda: started.log().count("exited with code 0") >= forks or started.process.poll() is not None, "steps"
    )
    assert "shutdown" not in started.log(), started.log()
    os.kill(_outside(started.pid, pid_in(note), pid_1), signal.SIGUSR2)
    assert started.wait() == 5
    assert got(note) == [signal.SIGUSR2], started.log()


def _outside(run: int, pid: int, pid_1: bool) -> int:
    """The daemon's pid as seen from here: in a namespace of its own it is the only child of `run` that is left."""
    if not pid_1:
        return pid
    return wait_until(lambda: _only_child(run), "the daemon is the only child")


def _only_child(run: int) -> int:
    """The one child of a process, or 0."""
    found = Path(f"/proc/{run}/task/{run}/children").read_text().split()
    return int(found[0]) if len(found) == 1 else 0


@pytest.mark.parametrize(
    ("options", "code", "own"),
    [("-ds", 1, "session"), ("-s", 0, "session"), ("-ds", 0, "nothing")],
    ids=["a-step-that-fails", "without-d", "a-leader-that-leaves-nothing"],
)
def test_any_other_end_counts(start: Starter, tmp_path: Path, options: str, code: int, own: str) -> None:
    """Beside another daemon, which gets the signal."""
    note, other = tmp_path / "note", tmp_path / "other"
    wrapped = ["sh", "-c", f'python3 -S -c "$0" {other} 0 1 session; "$@"; exec sleep 1000', STEPS]
    started = start(options, "TERM", *wrapped, *daemon(note, code, own=own))
    assert started.wait() == 143
    begun = re.findall(r"shutdown, since pid (\d+) has ended", started.log())
    main = re.findall(r"pid (\d+): started", started.log())
    ends = re.findall(r"pid (\d+): exited with code (\d+)", started.log())
    assert begun == [next(pid for pid, ended in ends if int(ended) == code and pid not in main)], started.log()


@pytest.mark.parametrize(("signum", "code"), [("USR1", 5), ("USR2", 5), ("KILL", 137)])
def test_the_real_end_of_a_daemon_that_forked_twice_counts(
    start: Starter, tmp_path: Path, signum: str, code: int
) -> None:
    note, other = tmp_path / "note", tmp_path / "other"
    script = f'python3 -S -c "$0" {note} 0 2 session && python3 -S -c "$0" {other} 0 2 session'
    started = start("-ds", "TERM", "sh", "-ec", script, STEPS)
    wait_until(lambda: other.exists() or started.process.poll() is not None, "the second daemon")
    assert other.exists(), started.log()
    pid = pid_in(note)
    pid_in(other)
    wait_until(lambda: started.log().count("exited with code 0") >= 3 or started.process.poll() is not None, "steps")
    assert "shutdown" not in started.log(), started.log()
    assert got(note) == got(other) == [], started.log()
    os.kill(pid, signal.Signals[f"SIG{signum}"])
    assert started.wait() == code
    assert f"shutdown, since pid {pid} has ended" in started.log()
    assert got(other) == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("count", "depth"), [(1, 0), (5, 0), (1, 3), (2000, 0)], ids=["one", "five", "a-chain", "2000"]
)
def test_who_is_left_behind_by_a_supervisor_gets_the_signal_once(start: Starter, count: int, depth: int) -> None:
    """It ends upon TERM, after which its children are re-parented."""
    words = f'python3 -S -c "$0" {count} {depth} & read line; exit 3'
    started = start("-s", "TERM", "sh", "-c", words, LEAVER, stdin=-1)
    started.wait_out("supervising")
    started.close_stdin()
    assert started.wait() == 5
    found = re.findall(r"(\d+) got (\d+)", started.out())
    assert len(found) == len({pid for pid, _ in found}) == count * (depth + 1)


def test_a_look_that_was_held_up_keeps_nobody_waiting_who_is_left_behind_next(start: Starter, tmp_path: Path) -> None:
    """What counts for the pause after a look is the work, not for how long `run` stood still, as by docker pause."""
    trace = tmp_path / "trace"
    second = ("-e", "inject=lseek:delay_exit=8s:when=2")
    prefix = (STRACE, "-DDD", "-qq", "-o", str(trace), "-e", "trace=lseek", *second)
    words = 'python3 -S -c "$0" 1 3 & read line; exit 3'
    started = start("-s", "TERM", "sh", "-c", words, LEAVER, stdin=-1, prefix=prefix)
    started.wait_out("supervising")
    began = time.monotonic()
    started.close_stdin()
    assert started.wait() == 5
    assert time.monotonic() - began < 36, "four times as long"
    assert trace.read_text().count("(DELAYED)") == 1
    assert len(re.findall(r"\d+ got 15", started.out())) == 4


def test_runsvdir_and_its_services_end_by_TERM_without_t(start: Starter, tmp_path: Path) -> None:
    """It ends upon TERM, and leaves each runsv, with -P in a group of its own, which ends its service upon TERM."""
    for name in "one", "two":
        (tmp_path / "services" / name).mkdir(parents=True)
        script = tmp_path / "services" / name / "run"
        script.write_text(f"#!/bin/sh\necho service {name}\nexec sleep 1000\n")
        script.chmod(0o755)
    started = start("-s", "TERM", "sh", "-c", 'runsvdir -P "$0" & read line', str(tmp_path / "services"), stdin=-1)
    for name in "one", "two":
        started.wait_out(f"service {name}")
    started.close_stdin()
    started.wait()
    main = re.findall(r"pid (\d+): started", started.log())
    assert re.findall(r"shutdown, since pid (\d+) has ended", started.log()) == main
    assert len(re.findall(r"sending TERM", started.log())) >= 1, started.log()


MANY = """
import os, signal, sys
count, kind = int(sys.argv[1]), sys.argv[2]
signal.pthread_sigmask(signal.SIG_BLOCK, {10, 15})
go, gone = os.pipe()
ready, said = os.pipe()
for number in range(count):
    if os.fork() == 0:
        os.close(gone)
        if kind == "steps":
            os.setsid()
            if os.fork() == 0:
                os.write(said, b"x")
                signal.sigwait({10})
                os._exit(0)
        else:
            os.write(said, b"x")
        os.read(go, 1)
        os._exit(0)
for number in range(count): os.read(ready, 1)
os._exit(0)
"""
"""It leaves many orphans, or many steps of daemons, which end once it has ended itself."""


def calls_for(count: int, kind: str, options: list[str], binary: str, folder: Path) -> Counter[str]:
    """How often `run` itself makes which system call until it has reaped so many orphans, or steps of daemons.

    It ends with the last orphan, and its trace is read then; daemons stay, and so does `run`.
    """
    trace = folder / f"trace-{count}"
    words = ["-qq", "-o", str(trace), binary, *options, "python3", "-S", "-c", MANY, str(count), kind]
    place = folder / str(count)
    place.mkdir()
    started = Starter("strace", place)(*words)
    if kind == "orphans":
        assert started.wait() == 0, started.log()
    else:
        wait_until(lambda: ends(started) > count or started.process.poll() is not None, "all steps are reaped")
    assert ends(started) == 1 + count and "shutdown" not in started.log(), started.log()
    return Counter(line.partition("(")[0] for line in trace.read_text().splitlines() if line[0].isalpha())


def ends(started: Started) -> int:
    """How many ends the log tells of so far, all of them with code 0."""
    return started.log().count("exited with code 0")


MORE = 300


def growth(kind: str, options: list[str], binary: str, folder: Path) -> Counter[str]:
    """How often `run` makes which system call more for so many orphans than for none."""
    none, many = (calls_for(count, kind, options, binary, folder) for count in (0, MORE))
    return many - none


def test_without_s_an_orphan_costs_being_reaped_and_logged(binary: str, tmp_path: Path) -> None:
    more = growth("orphans", [], binary, tmp_path)
    # reaping, a line of the log (and whether stderr is still the same file), and waiting for the next signal
    assert set(more) <= {"wait4", "write", "newfstatat", "fstat", "rt_sigtimedwait"}, more
    assert more["write"] == MORE
    assert more.total() <= MORE * 5, more


def test_steps_into_the_background_cost_the_same_each_however_many(binary: str, tmp_path: Path) -> None:
    """Contract: work for n orphans grows as n does. Each daemon stays, so that 300 are children at the end."""
    more = growth("steps", ["-ds", "TERM"], binary, tmp_path)
    assert more.total() <= MORE * 20, more
