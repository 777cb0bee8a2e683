"""The measurements of many services, but for their output: each takes managers, in turn within each round.

Each returns a list of values per name.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from crew import READY, at_work, many
from managers import Manager
from measure import IDLE_SECONDS, SLOW_ROUNDS, SLOW_SECONDS, Values
from processes import ENVIRONMENT, MeasureError

LIFE_SECONDS = 1.2
"""How long a life lasts before it is ended: after this all managers restart at once."""


def starts(managers: Sequence[Manager], program: str, count: int, rounds: int) -> Values:
    """Seconds from the start of each manager until so many services are executed."""
    return lives(managers, program, count, rounds, stopped=False)[0]


def lives(
    managers: Sequence[Manager], program: str, count: int, rounds: int, stopped: bool = True
) -> tuple[Values, Values]:
    """The same, and, if they are to be stopped, seconds from telling it until all of them, and itself, have ended.

    What is slow takes part now and then.
    """
    begins: Values = {manager.name: [] for manager in managers}
    ends: Values = {manager.name: [] for manager in managers}
    slow: set[str] = set()
    for round_number in range(rounds):
        for manager in managers:
            if round_number % SLOW_ROUNDS and manager.name in slow:
                continue
            with at_work(manager, many(program, count, "idle", READY)) as crew:
                begins[manager.name].append(crew.seconds)
                if stopped:
                    crew.wait_idle()
                    ends[manager.name].append(crew.stop())
            if max(begins[manager.name][-1:] + ends[manager.name][-1:]) > SLOW_SECONDS:
                slow.add(manager.name)
    return begins, ends


def idle_memory(managers: Sequence[Manager], program: str, count: int, rounds: int) -> tuple[Values, Values]:
    """Bytes of private memory of each with so many idle services, and the number of its processes."""
    memory: Values = {manager.name: [] for manager in managers}
    processes: Values = {manager.name: [] for manager in managers}
    os.sync()  # as in measure.idle
    for _ in range(rounds):
        for manager in managers:
            with at_work(manager, many(program, count, "idle", READY)) as crew:
                crew.wait_idle()
                memory[manager.name].append(crew.memory())
                processes[manager.name].append(len(crew.processes()))
    return memory, processes


def wake_ups(managers: Sequence[Manager], program: str, count: int) -> Values:
    """Context switches of each, while all of its services are idle."""
    values: Values = {}
    for manager in managers:
        with at_work(manager, many(program, count, "idle", READY)) as crew:
            crew.wait_idle()
            before = crew.switches()
            time.sleep(IDLE_SECONDS)
            values[manager.name] = [crew.switches() - before]
    return values


def restarts(managers: Sequence[Manager], program: str, rounds: int) -> Values:
    """Seconds from the crash of a service until it is executed again, with the smallest delay that each allows."""
    eager = [replace(manager, write=manager.eager or manager.write) for manager in managers]
    values: Values = {manager.name: [] for manager in managers}
    with ExitStack() as stack:
        crews = [stack.enter_context(at_work(manager, many(program, 1, "idle", READY))) for manager in eager]
        for _ in range(rounds):
            time.sleep(LIFE_SECONDS)
            for crew in crews:
                begin = time.perf_counter()
                os.kill(crew.pids[0], signal.SIGKILL)
                crew.replace(crew.pids[0])
                values[crew.name].append(time.perf_counter() - begin)
    return values


def one_service(binary: str, folder: Path, rounds: int) -> Values:
    """Seconds from the start of `run -qf FILE`, with /bin/true as its one service, to its end; and of one command."""
    file = folder / "true.toml"
    file.write_text('[services.true]\ncommand = "/bin/true"\n')
    words = {"service": [binary, "-qf", str(file)], "command": [binary, "-q", "/bin/true"]}
    values: Values = {name: [] for name in words}
    for round_number in range(rounds + 3):  # the first few fill the caches
        for name, argv in words.items():
            begin = time.perf_counter()
            pid = os.posix_spawn(binary, argv, ENVIRONMENT)
            if os.waitpid(pid, 0)[1]:
                raise MeasureError(f"{' '.join(argv)} did not end with 0")
            if round_number >= 3:
                values[name].append(time.perf_counter() - begin)
    return values
