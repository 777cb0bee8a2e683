"""The measurements of what services write: how fast it is relayed, at what cost, and what waits for it."""

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader

from crew import GATE, READY, Crew, at_work, many
from managers import Manager, Service
from measure import Values
from processes import DEADLINE, ENVIRONMENT, MeasureError, read

LINE = 100
WRITERS = 4
SLOW_WRITERS = 3
AT_ONCE, SLOWLY = ("count", str(1 << 62)), ("slowly",)
"""How a reader reads: the words of service.c."""
SETTLED = 1.0
FLOOD_SECONDS = 3.0
SAMPLE_SECONDS = 0.1
BETWEEN = (0.002, 0.02)
END = b": killed by KILL (9); "


@contextmanager
def reader(program: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """What reads a pipe in its own way, and the end to write to; both are ended with the block."""
    reads, writes = os.pipe()
    process = subprocess.Popen([program, *words], stdin=reads, env=ENVIRONMENT)
    os.close(reads)
    try:
        yield process, writes
    finally:
        os.close(writes)
        process.kill()
        process.wait(DEADLINE)


def relayed(managers: Sequence[Manager], program: str, gigabytes: float, rounds: int) -> tuple[Values, Values]:
    """Seconds until all that four services write is read, and CPU seconds of the manager: both for 1 GB.

    What is slow gets less of it, and its share is scaled up.
    """
    seconds: Values = {manager.name: [] for manager in managers}
    cpu: Values = {manager.name: [] for manager in managers}
    for _ in range(rounds):
        for manager in managers:
            lines = max(int(gigabytes * manager.share * 1e9 / LINE / WRITERS), 1)
            scale = 1e9 / (lines * WRITERS * LINE)
            wall, used = _relay(manager, program, lines)
            seconds[manager.name].append(wall * scale)
            cpu[manager.name].append(used * scale)
    return seconds, cpu


def _relay(manager: Manager, program: str, lines: int) -> tuple[float, float]:
    services = many(program, WRITERS, "lines", READY, GATE, str(lines))
    with (
        reader(program, "count", str(lines * WRITERS)) as (process, stdout),
        at_work(manager, services, stdout) as crew,
    ):
        crew.wait_idle()
        before = crew.cpu_ns()
        begin = crew.open_gate()
        if manager.to_files:
            for _ in range(WRITERS):
                crew.next_line()
        else:
            _wait_for(process, manager.name)
        wall = time.perf_counter() - begin
        crew.wait_idle()
        return wall, (crew.cpu_ns() - before) / 1e9


def _wait_for(process: subprocess.Popen[bytes], name: str) -> None:
    """Wait until a reader has all lines. Raises MeasureError after the deadline."""
    fd = os.pidfd_open(process.pid)  # wait() with a deadline looks every 50 ms
    try:
        has_ended = select.select([fd], [], [], DEADLINE)[0]
    finally:
        os.close(fd)
    if not has_ended or process.wait():
        raise MeasureError(f"not within {DEADLINE} s: all lines that {name} was given")


def memory_while_blocked(manager: Manager, program: str) -> float:
    """Bytes of private memory, beyond those when idle, while services write without end and the reader is slow."""
    services = many(program, SLOW_WRITERS, "lines", READY, GATE, "0")
    with reader(program, *SLOWLY) as (_, stdout), at_work(manager, services, stdout) as crew:
        crew.wait_idle()
        before = crew.memory()
        crew.open_gate()
        most = before
        end = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < end:
            time.sleep(SAMPLE_SECONDS)
            most = max(most, crew.memory())
        return float(most - before)


def exits_noticed(manager: Manager, program: str, writers: int, how: Sequence[str], ends: int) -> list[float]:
    """Seconds from the end of a service until the log says so, while others write without end and are read somehow.

    The manager is `run`, with its log turned on.
    """
    services = many(program, writers, "lines", READY, GATE, "0")
    services.append(Service("victim", (program, "idle", READY)))
    reads, writes = os.pipe()
    with (
        os.fdopen(reads, "rb") as log,
        reader(program, *how) as (_, stdout),
        at_work(manager, services, stdout, writes) as crew,
    ):
        os.close(writes)
        crew.open_gate()
        time.sleep(SETTLED)
        with before_all_others():
            return [_notice(crew, log) for _ in range(ends)]


def _notice(crew: Crew, log: BufferedReader) -> float:
    victim = next(pid for pid in crew.pids if "\0idle\0" in read(f"/proc/{pid}/cmdline"))
    time.sleep(random.uniform(*BETWEEN))
    with ended(victim):
        begin = time.perf_counter()
        while END not in log.readline():
            pass
        seconds = time.perf_counter() - begin
    crew.replace(victim)
    return seconds


@contextmanager
def ended(pid: int) -> Iterator[None]:
    """A process that is killed, and has ended, which is when its parent is told: pidfd_open(2)."""
    fd = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll()
        yield
    finally:
        os.close(fd)


@contextmanager
def before_all_others() -> Iterator[None]:
    """Let this process, but none that it starts, run as soon as it can, where that is permitted: sched(7).

    Else what is measured is how long it waits itself.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
