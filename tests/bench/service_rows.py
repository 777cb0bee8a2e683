"""From the measurements of many services to the rows of their table, and the limits of our own build.

A new measure is a function that returns rows, called in gather(); a limit for it is a line in LIMITS.
"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import flow
import services
from managers import BARE, PIECES, Manager, bare_manager, cat_manager, other_managers, run_manager
from measure import IDLE_SECONDS
from peers import Peer
from processes import MeasureError
from rows import MB, SNAPSHOT, Measured, limits_of, medians, percentile_99, say
from table import Bound, Row

FEW, MANY, SOME = 5, 200, 10
ENDS = 500
ONE_COMMAND = "one command"
PLAIN = "plain"

LIMITS = {
    SNAPSHOT: (
        Bound("one", 1.5, to=ONE_COMMAND),
        Bound("few", 0.8),
        Bound("wake-ups", 0),
        Bound("flow-cpu", 1, to="runit"),
        Bound("flow", 1.2, to=BARE),
        Bound("flow", 0.05, to="honcho"),
        Bound("blocked", 1),
        Bound(f"start{MANY}", 1.3, to=BARE),
        Bound("stop", 1.3, to=BARE),
        Bound("noticed", 5),
        Bound("noticed-slow", 5),
    ),
}
"""What each may cost, as in rows.py. At least 20 times as fast as honcho is at most 0.05 of its time."""


@dataclass(frozen=True)
class Bench:
    """What is measured, and how much of it."""

    ours: Manager
    others: list[Manager]
    """What ours is compared with in everything; none if only what there are limits for is measured."""
    relays: list[Manager]
    """The same for the output."""
    program: str
    """What the services are, service.c."""
    folder: Path
    rounds: int
    gigabytes: float

    @property
    def bare(self) -> Manager:
        """What ours is held against at the start and at the end."""
        return bare_manager(self.program)

    def notes(self, key: str) -> dict[str, str]:
        """What there is to say of the others in such a row."""
        return {manager.name: manager.notes[key] for manager in self.others or self.relays if key in manager.notes}

    def row(self, key: str, title: str, unit: str, values: dict[str, float], **more: bool) -> Row:
        """A row that compares with ours."""
        return Row(key, title, unit, values, self.notes(key), base=self.ours.name, **more)


def start_rows(bench: Bench) -> list[Row]:
    """How fast services are started, and how fast many are stopped."""
    rows = []
    for count in (1, SOME) if bench.others else ():
        found = services.starts([bench.ours, bench.bare, *bench.others], bench.program, count, bench.rounds)
        title = f"start until {count} service{'s are' if count > 1 else ' is'} executed, median of {bench.rounds}"
        rows.append(bench.row(f"start{count}", title, "ms", medians(found, 1e3), drawn=count == 1))
    starts, stops = services.lives([bench.ours, bench.bare, *bench.others], bench.program, MANY, bench.rounds)
    title = f"start until {MANY} services are executed, median of {bench.rounds}"
    rows.append(bench.row(f"start{MANY}", title, "ms", medians(starts, 1e3)))
    title = f"TERM until all {MANY} have ended, median of {bench.rounds}"
    rows.append(bench.row("stop", title, "ms", medians(stops, 1e3)))
    return rows


def one_row(bench: Bench) -> Row:
    """What a file costs that has one service, beside one command."""
    found = medians(services.one_service(bench.ours.program, bench.folder, bench.rounds * 10), 1e3)
    title = f"`run -qf FILE` with one service, `true`, start to end, median of {bench.rounds * 10}"
    return Row("one", title, "ms", {bench.ours.name: found["service"], ONE_COMMAND: found["command"]})


def memory_rows(bench: Bench, one_command: float) -> list[Row]:
    """What idle services cost; ours, with a few of them, beside its own cost with one command."""
    memory, processes = services.idle_memory([bench.ours, *bench.others], bench.program, SOME, 3)
    few, _ = services.idle_memory([bench.ours], bench.program, FEW, 3)
    name = bench.ours.name
    extra = medians(few, 1 / MB)[name] - one_command
    switches = services.wake_ups([bench.ours, *bench.others], bench.program, MANY)
    idle = f"context switches in {IDLE_SECONDS:g} seconds, idle with {MANY} services"
    return [
        bench.row("memory", f"private memory, idle with {SOME} services", "MB", medians(memory, 1 / MB)),
        bench.row("processes", "number of processes", "", medians(processes), compared=False),
        bench.row("wake-ups", idle, "", medians(switches), compared=False),
        Row("few", f"private memory, idle with {FEW} services, beyond that with one command", "MB", {name: extra}),
    ]


def flow_rows(bench: Bench) -> list[Row]:
    """What it costs to pass on what services write."""
    plain = run_manager(PLAIN, bench.ours.program, "-q", output="plain")
    relays = [bench.ours, plain, cat_manager(), *bench.relays]
    seconds, cpu = flow.relayed(relays, bench.program, bench.gigabytes, 3)
    wall, used = medians(seconds), medians(cpu)
    nameless = {m.name: wall[m.name] for m in relays if m.notes.get("flow") == PIECES}
    nameless[bench.ours.name] = wall.pop(PLAIN)
    used.pop(PLAIN)
    shares = {m.name: m.share * bench.gigabytes for m in relays}
    scaled = {name: f"scaled up from {share * 1e3:g} MB" for name, share in shares.items() if share != 1}
    rate = {name: 1e9 / flow.LINE / value / 1e6 for name, value in wall.items()}
    title = f"1 GB of lines of {flow.LINE} bytes from {flow.WRITERS} services, median of 3"
    without_names = '1 GB of such lines, passed on without names before them (`output = "plain"`)'
    return [
        bench.row("flow", title, "s", wall),
        Row("rate", "that is, lines in a second", "million", rate, scaled, drawn=False, base=bench.ours.name),
        Row("flow-plain", without_names, "s", nameless, scaled, base=bench.ours.name),
        bench.row("flow-cpu", "CPU time to pass on 1 GB of such lines", "s", used),
    ]


def crash_row(bench: Bench) -> Row:
    """How soon a service that has crashed runs again."""
    able = [manager for manager in [bench.ours, *bench.others] if manager.restarts]
    found = services.restarts(able, bench.program, bench.rounds)
    title = f"a service's crash to its new life, with the smallest delay that can be set, median of {bench.rounds}"
    return bench.row("crash", title, "ms", medians(found, 1e3))


def load_rows(bench: Bench) -> list[Row]:
    """What ours does while services write without end."""
    name = bench.ours.name
    blocked = flow.memory_while_blocked(bench.ours, bench.program) / MB
    loud = run_manager(name, bench.ours.program)
    title = _while(flow.SLOW_WRITERS, "private memory beyond the idle one", "slowly")
    rows = [Row("blocked", title, "MB", {name: blocked})]
    for key, writers, how, words in (
        ("noticed", flow.WRITERS, "as fast as they write", flow.AT_ONCE),
        ("noticed-slow", flow.SLOW_WRITERS, "slowly", flow.SLOWLY),
    ):
        seconds = {name: flow.exits_noticed(loud, bench.program, writers, words, ENDS)}
        title = _while(writers, f"a service's end to its line in the log, 99th percentile of {ENDS}", how)
        rows.append(Row(key, title, "ms", percentile_99(seconds, 1e3)))
    return rows


def _while(writers: int, what: str, how: str) -> str:
    return f"{what}, while {writers} services write without end and are read {how}"


def bench_of(build: Peer, program: str, folder: Path, options: Namespace) -> Bench:
    """What there is to measure: one of our builds, beside others in everything, or only where a limit names them."""
    others = other_managers(options.venv)
    named = {bound.to for bounds in LIMITS.values() for bound in bounds}
    missing = named - {manager.name for manager in others} - {BARE, ONE_COMMAND, ""}
    if missing:
        raise MeasureError(f"{', '.join(sorted(missing))} is not installed")
    ours = run_manager(build.name, build.file, "-q")
    relays = others if options.frozen else [manager for manager in others if manager.name in named]
    rounds = max(options.rounds // 10, 5)
    return Bench(ours, others if options.frozen else [], relays, program, folder, rounds, options.gigabytes)


def gather(bench: Bench, one_command: Row) -> Measured:
    """Measure it all: the rows that compare, and all limits."""
    say("starts of many services")
    rows = [one_row(bench), *start_rows(bench)]
    say("memory of many services")
    rows += memory_rows(bench, one_command.values[bench.ours.name])
    say("output")
    rows += flow_rows(bench)
    rows += load_rows(bench)
    if bench.others:
        say("crashes")
        rows.append(crash_row(bench))
    limits = limits_of(bench.ours.name, rows, LIMITS)
    return Measured([row for row in rows if row.base == bench.ours.name], limits)
