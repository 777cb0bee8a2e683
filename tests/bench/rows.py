"""From measurements to the rows of the tables: medians, percentiles, and the limits of our own builds."""

import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
from bundles import MARK
from measure import Values
from peers import Peer, is_program
from table import Limit, Row

MB = 1e6
ORPHANS = 20_000
FEWER_ORPHANS = 500
SERVICES = 200
SIGNALS = 2000

STATIC_LIMITS = {"start": 2.1, "memory": 4.0, "size": 7.0, "orphans": 1.1, "switches": 0.0, "exit": 1.0}
STATICX_LIMITS = {"start": 4.0, "memory": 13.0, "size": 14.0, "switches": 0.0}
"""What the two ways of linking may cost: times the bare interpreter, megabytes, times tini, and milliseconds."""

TITLES = {
    "start": "start, to that of `python3 -I -S -c pass`",
    "memory": "private memory",
    "size": "size of the file",
    "orphans": f"{ORPHANS} orphans, to that of tini",
    "switches": f"context switches in {measure.IDLE_SECONDS:g} idle seconds",
    "exit": "CPU time from the last child's end to its own",
}
UNITS = {"start": "x", "memory": "MB", "size": "MB", "orphans": "x", "switches": "", "exit": "ms"}


@dataclass
class Measured:
    """All that was measured."""

    rows: list[Row]
    limits: list[Limit]


def is_staticx(binary: str) -> bool:
    """Whether one of our builds was linked with LINK=staticx."""
    return MARK in Path(binary).read_bytes()


def medians(values: Values, scale: float = 1) -> dict[str, float]:
    """The median of each peer that has values."""
    return {name: statistics.median(numbers) * scale for name, numbers in values.items() if numbers}


def percentile_99(values: Values, scale: float) -> dict[str, float]:
    """What 99 of 100 values do not exceed: of few values, the largest."""
    return {name: sorted(numbers)[len(numbers) * 99 // 100] * scale for name, numbers in values.items() if numbers}


def say(what: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"bench: {what}", file=sys.stderr)


def start_rows(peers: Sequence[Peer], command: str, python: str, rounds: int) -> list[Row]:
    """The time from start to end, beside an interpreter that does nothing."""
    seconds = measure.start_to_end(peers, command, python, rounds)
    notes = {peer.name: "until its command runs, since it does not end with it" for peer in peers if not peer.ends}
    return [
        Row(f"start to the end of `/bin/true`, median of {rounds}", "ms", medians(seconds, 1e3), notes),
        Row("the same, 99th percentile", "ms", percentile_99(seconds, 1e3), drawn=False),
    ]


def idle_rows(peers: Sequence[Peer], command: str, everything: bool) -> list[Row]:
    """What an init costs that waits for one child."""
    found = measure.idle(peers, command, 3)
    rows = [
        Row("private memory, idle with one child", "MB", medians(found["memory"], 1 / MB)),
        Row(
            f"context switches in {measure.IDLE_SECONDS:g} idle seconds", "", medians(found["switches"]), compared=False
        ),
        Row("number of processes", "", medians(found["processes"]), compared=False),
    ]
    if everything:
        charged = medians(measure.cgroup_memory(peers, command, 3), 1 / MB)
        rows.insert(1, Row("memory of its cgroup, child included", "MB", charged))
    return rows


def size_row(peers: Sequence[Peer]) -> Row:
    """Bytes of the files; a script is only the smallest part of what it needs, and left out."""
    sizes = {peer.name: os.stat(peer.file).st_size / MB for peer in peers if is_program(peer.file)}
    notes = {peer.name: "a script, of many files, for Python" for peer in peers if not is_program(peer.file)}
    return Row("size of the file", "MB", sizes, notes)


def orphan_rows(peers: Sequence[Peer], command: str, rounds: int, starts: dict[str, float]) -> list[Row]:
    """The time and work to reap many orphans. As PID 1, which all of them are made for, if this is root's run."""
    root = os.geteuid() == 0
    able = [peer for peer in peers if peer.ends and (root or peer.subreaper)]
    seconds, cpu = measure.orphans(able, command, ORPHANS, rounds, pid_1=root)
    found, notes = medians(seconds), {}
    for slow in (peer for peer in peers if root and not peer.ends):
        few, few_cpu = measure.orphans([slow], command, FEWER_ORPHANS, 1, pid_1=True)
        start = starts[slow.name] / 1e3
        found[slow.name] = start + (few[slow.name][0] - start) * ORPHANS / FEWER_ORPHANS
        cpu |= few_cpu
        notes[slow.name] = f"extrapolated from {FEWER_ORPHANS}: it reaps 100 in a second"
    return [
        Row(f"{ORPHANS} orphans made and reaped, start included, median of {rounds}", "s", found, notes),
        Row("CPU time for each orphan", "µs", medians(cpu, 1e6)),
    ]


def signal_rows(peers: Sequence[Peer], command: str, rounds: int) -> list[Row]:
    """How fast signals are passed on, and many services ended."""
    latency = measure.signal_latency([peer for peer in peers if peer.forwards], command, SIGNALS)
    notes = {peer.name: "it forwards none, by design" for peer in peers if not peer.forwards}
    ending = medians(measure.shutdown(peers, command, SERVICES, rounds), 1e3)
    return [
        Row(f"INT to the command's answer, median of {SIGNALS}", "µs", medians(latency, 1e6), notes),
        Row("the same, 99th percentile", "µs", percentile_99(latency, 1e6), drawn=False),
        Row(f"TERM to the end of {SERVICES} services, median of {rounds}", "ms", ending),
    ]


def exit_row(peers: Sequence[Peer], command: str, rounds: int) -> Row:
    """What an init does at its end."""
    found = measure.exit_cpu([peer for peer in peers if peer.ends], command, rounds)
    return Row("CPU time from the last child's end to its own", "ms", medians(found, 1e3), drawn=False)


def limits_of(peer: Peer, rows: dict[str, Row]) -> list[Limit]:
    """What was measured of a build of ours, against its limits."""

    def ratio(row: Row, other: str) -> float | None:
        return row.values[peer.name] / row.values[other] if {peer.name, other} <= row.values.keys() else None

    limits = STATICX_LIMITS if is_staticx(peer.file) else STATIC_LIMITS
    values = {name: row.values.get(peer.name) for name, row in rows.items()}
    values |= {"start": ratio(rows["start"], "python"), "orphans": ratio(rows["orphans"], "tini")}
    return [Limit(peer.name, TITLES[name], values[name], limit, UNITS[name]) for name, limit in limits.items()]


def gather(peers: Sequence[Peer], command: str, python: str, rounds: int, everything: bool) -> Measured:
    """Measure it all, or, if not everything, what there are limits for."""
    say("start")
    start = start_rows(peers, command, python, rounds)
    say("memory")
    idle = idle_rows(peers, command, everything)
    say("signals")
    signals = signal_rows(peers, command, max(rounds // 20, 1)) if everything else []
    say("orphans")
    reaping = orphan_rows(peers, command, max(rounds // 14, 3), start[0].values)
    say("end")
    ending = exit_row(peers, command, max(rounds // 5, 3))
    size = size_row(peers)
    limited = {"start": start[0], "memory": idle[0], "size": size, "orphans": reaping[0], "exit": ending}
    limited["switches"] = next(row for row in idle if row.title == TITLES["switches"])
    ours = [peer for peer in peers if peer.name.startswith("run")]
    return Measured(
        [*start, *idle, size, *signals, *reaping, ending],
        [limit for peer in ours for limit in limits_of(peer, limited)],
    )
