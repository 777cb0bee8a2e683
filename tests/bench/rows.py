"""From measurements to the rows of the tables: medians, percentiles, and the limits of our own builds.

A new measure is a function that returns a Row, called in gather(); a limit for it is a line in LIMITS.
"""

import lzma
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
from bundles import MARK
from measure import Values
from peers import Peer, is_program
from table import Bound, Limit, Row

MB = 1e6
ORPHANS = 20_000
FEWER_ORPHANS = 500
SERVICES = 200
SIGNALS = 2000
CONTAINERS = 10

SNAPSHOT, PLAIN, STATICX = "run", "run (SNAPSHOT=0)", "run (staticx)"
"""Our builds, by how they begin: with the initialized interpreter, without it, and by unpacking themselves."""

FROZEN = "PyInstaller + staticx"
"""The same program, as these two make it by default."""

LIMITS = {
    SNAPSHOT: (
        Bound("start", 1.8, to="tini"),
        Bound("start", 0.35, to="python"),
        Bound("instructions", 0.6),
        Bound("memory", 0.9),
        Bound("containers", 1.3),
        Bound("size", 9.1),
        Bound("compressed", 2.1),
        Bound("signal", 1.7, to="tini"),
        Bound("services", 1.15, to="tini"),
        Bound("orphans", 1.1, to="tini"),
        Bound("switches", 0),
        Bound("end", 1),
    ),
    PLAIN: (
        Bound("start", 1, to="python"),
        Bound("memory", 3),
        Bound("size", 7),
        Bound("orphans", 1.1, to="tini"),
        Bound("switches", 0),
        Bound("end", 1),
    ),
    STATICX: (
        Bound("start", 4, to="python"),
        Bound("memory", 10),
        Bound("size", 13),
        Bound("switches", 0),
    ),
}
"""What each may cost: the row, and what its value may be, in the row's unit or as times that of another program."""


@dataclass
class Measured:
    """All that was measured."""

    rows: list[Row]
    limits: list[Limit]


def kind_of(binary: str) -> str:
    """Which of our builds a file is."""
    content = Path(binary).read_bytes()
    return STATICX if MARK in content else SNAPSHOT if b"\0.snapshot\0" in content else PLAIN


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
        Row("start", f"start to the end of `/bin/true`, median of {rounds}", "ms", medians(seconds, 1e3), notes),
        Row("start99", "the same, 99th percentile", "ms", percentile_99(seconds, 1e3), drawn=False),
    ]


def instructions_row(peers: Sequence[Peer]) -> Row:
    """What it executes for that."""
    found = measure.instructions([peer for peer in peers if peer.ends])
    return Row("instructions", "instructions in user space meanwhile", "million", medians(found, 1e-6), drawn=False)


def idle_rows(peers: Sequence[Peer], command: str) -> list[Row]:
    """What an init costs that waits for one child."""
    found = measure.idle(peers, command, 3)
    idle = f"context switches in {measure.IDLE_SECONDS:g} idle seconds"
    return [
        Row("memory", "private memory, idle with one child", "MB", medians(found["memory"], 1 / MB)),
        Row("switches", idle, "", medians(found["switches"]), compared=False),
        Row("processes", "number of processes", "", medians(found["processes"]), compared=False),
    ]


def cgroup_rows(peers: Sequence[Peer], command: str, everything: bool) -> list[Row]:
    """What memory cgroups are charged with."""
    many = medians(measure.cgroup_memory(peers, command, CONTAINERS), 1 / MB)
    rows = [Row("containers", f"memory of the cgroup, each of {CONTAINERS} containers of one image", "MB", many)]
    if everything:
        first = medians(measure.cgroup_memory(peers, command, 1, is_cold=True), 1 / MB)
        rows.append(Row("first", "the same, of one that has to read the file from the disk", "MB", first, drawn=False))
    return rows


def size_rows(peers: Sequence[Peer]) -> list[Row]:
    """Bytes of the files; a script is only the smallest part of what it needs, and left out."""
    files = {peer.name: Path(peer.file).read_bytes() for peer in peers if is_program(peer.file)}
    notes = {peer.name: "a script, of many files, for Python" for peer in peers if not is_program(peer.file)}
    sizes = {name: len(content) / MB for name, content in files.items()}
    compressed = {name: len(lzma.compress(content)) / MB for name, content in files.items()}
    return [
        Row("size", "size of the file", "MB", sizes, notes),
        Row("compressed", "the same, as xz compresses it", "MB", compressed, drawn=False),
    ]


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
    title = f"{ORPHANS} orphans made and reaped, start included, median of {rounds}"
    return [
        Row("orphans", title, "s", found, notes),
        Row("each", "CPU time for each orphan", "µs", medians(cpu, 1e6)),
    ]


def signal_rows(peers: Sequence[Peer], command: str) -> list[Row]:
    """How fast signals are passed on."""
    latency = measure.signal_latency([peer for peer in peers if peer.forwards], command, SIGNALS)
    notes = {peer.name: "it forwards none, by design" for peer in peers if not peer.forwards}
    return [
        Row("signal", f"INT to the command's answer, median of {SIGNALS}", "µs", medians(latency, 1e6), notes),
        Row("signal99", "the same, 99th percentile", "µs", percentile_99(latency, 1e6), drawn=False),
    ]


def service_rows(peers: Sequence[Peer], command: str, rounds: int) -> list[Row]:
    """How fast many services are started and ended."""
    started = [peer for peer in peers if not peer.from_file]
    whole = medians(measure.services(started, command, SERVICES, rounds), 1e3)
    notes = {peer.name: "it starts them itself, not `sh`" for peer in peers if peer.from_file}
    ending = medians(measure.shutdown(peers, command, SERVICES, rounds), 1e3)
    title = f"{SERVICES} services started by `sh` and stopped by TERM, median of {rounds}"
    return [
        Row("services", title, "ms", whole, notes),
        Row("shutdown", f"TERM to the end of {SERVICES} services, median of {rounds}", "ms", ending),
    ]


def end_row(peers: Sequence[Peer], command: str, rounds: int) -> Row:
    """What an init does at its end."""
    found = measure.exit_cpu([peer for peer in peers if peer.ends], command, rounds)
    return Row("end", "CPU time from the last child's end to its own", "ms", medians(found, 1e3), drawn=False)


def limits_of(name: str, rows: Sequence[Row], limits: Mapping[str, Sequence[Bound]]) -> list[Limit]:
    """What was measured of a build of ours, against its limits."""
    by_key = {row.key: row for row in rows}
    return [Limit(name, by_key[bound.key], bound) for bound in limits.get(name, ())]


def gather(peers: Sequence[Peer], command: str, python: str, rounds: int, everything: bool) -> Measured:
    """Measure it all, or, if not everything, what there are limits for."""
    say("start")
    rows = start_rows(peers, command, python, rounds)
    starts = rows[0].values
    rows.append(instructions_row(peers))
    say("memory")
    rows += idle_rows(peers, command)
    rows += cgroup_rows(peers, command, everything)
    rows += size_rows(peers)
    say("signals")
    rows += signal_rows(peers, command)
    say("services")
    rows += service_rows(peers, command, max(rounds // 10, 5))
    say("orphans")
    rows += orphan_rows(peers, command, max(rounds // 14, 3), starts)
    say("end")
    rows.append(end_row(peers, command, max(rounds // 5, 3)))
    return Measured(rows, [limit for peer in peers for limit in limits_of(peer.name, rows, LIMITS)])
