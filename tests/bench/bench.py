"""How fast and how small `run` is, measured beside tini in the same run, and held against limits.

    python3 tests/bench/bench.py --binary dist/run

prints a Markdown table, and exits with 0 if every limit holds, else 1. Only the standard library is used, and a C
compiler for the commands that the inits start. Megabytes are those of 1 000 000 bytes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import measure
from measure import Values
from peers import OTHERS, TINI, Peer, installed, named
from processes import MeasureError, compile_command
from table import Row, markdown, svg

MB = 1e6
ORPHANS = 20_000
SERVICES = 200

STATIC_LIMITS = {"start": 2.1, "memory": 4.0, "size": 7.0, "orphans": 1.1, "exit": 1.0}
STATICX_LIMITS = {"start": 4.0, "memory": 13.0, "size": 14.0}
"""What the two ways of linking may cost: times the bare interpreter, megabytes, times tini, and milliseconds."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure `run` beside other inits, and hold it against its limits.")
    parser.add_argument("--binary", default="dist/run", help="the `run` to measure (default: dist/run)")
    parser.add_argument("--python", default="/usr/bin/python3", help="the interpreter that the start is held against")
    parser.add_argument("--rounds", type=int, default=50, help="of the start (default: 50); the rest has a share")
    parser.add_argument("--peers", action="store_true", help="more rows, and dumb-init, catatonit, supervisord")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=WORDS", help="one more, and how it starts")
    parser.add_argument("--svg", type=Path, help="write a chart of the table to this file")
    return parser.parse_args()


def provide_tini() -> bool:
    """Whether tini is there; root gets it from Debian."""
    if not installed(TINI) and os.geteuid() == 0 and shutil.which("apt-get"):
        print("bench: installing the package tini", file=sys.stderr)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "tini"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    return bool(installed(TINI))


def chosen_peers(options: argparse.Namespace) -> list[Peer]:
    """`run` first, then what it is compared with."""
    binary = str(Path(options.binary).absolute())
    if not os.access(binary, os.X_OK):
        raise MeasureError(f"{binary} is not there, or not executable")
    peers = [Peer("run", (binary, "-q"))]
    for peer in (TINI, *OTHERS) if options.peers else (TINI,):
        if provide_tini() if peer is TINI else installed(peer):
            peers.append(peer)
        else:
            print(f"bench: {peer.name} is not installed, and left out", file=sys.stderr)
    return peers + [named(text) for text in options.peer]


def limits_of(binary: str) -> dict[str, float]:
    """The limits for this binary, by the way in which it was linked."""
    return STATICX_LIMITS if b".staticx.archive" in Path(binary).read_bytes() else STATIC_LIMITS


def medians(values: Values, scale: float = 1) -> dict[str, float]:
    """The median of each peer that has values."""
    return {name: statistics.median(numbers) * scale for name, numbers in values.items() if numbers}


def percentile_99(values: Values, scale: float) -> dict[str, float]:
    """What 99 of 100 values do not exceed."""
    return {name: sorted(numbers)[len(numbers) * 99 // 100] * scale for name, numbers in values.items() if numbers}


def ratio(values: dict[str, float], name: str, other: str) -> float | None:
    """How many times the other's value the first one's is; None if one was not measured."""
    return values[name] / values[other] if name in values and other in values else None


def start_rows(peers: Sequence[Peer], options: argparse.Namespace) -> list[Row]:
    """The time from start to end, beside an interpreter that does nothing."""
    commands: dict[str, list[str]] = {p.name: [*p.prefix, "/bin/true"] for p in peers if p.ends}
    commands["python"] = [options.python, "-I", "-S", "-c", "pass"]
    seconds = measure.start_to_end(commands, options.rounds)
    found = medians(seconds, 1e3)
    return [
        Row(
            f"start to the command's end, median of {options.rounds}, to that of `python3 -I -S -c pass`",
            *("ms", found, limits_of(options.binary)["start"], ratio(found, "run", "python"), "x"),
        ),
        Row("the same, 99th percentile", "ms", percentile_99(seconds, 1e3)),
    ]


def size_row(peers: Sequence[Peer], limit: float) -> Row:
    """Bytes of the files; a script is only the smallest part of what it needs, and left out."""
    sizes = {peer.name: os.stat(peer.file).st_size / MB for peer in peers if is_program(peer.file)}
    return Row("size of the file", "MB", sizes, limit, sizes.get("run"), "MB")


def is_program(path: str) -> bool:
    """Whether a file is machine code: elf(5)."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def orphan_rows(peers: Sequence[Peer], command: str, rounds: int, limit: float | None) -> list[Row]:
    """The time and work to reap many orphans."""
    seconds, cpu = measure.orphans([peer for peer in peers if peer.reaps], command, ORPHANS, rounds)
    found = medians(seconds)
    title = f"{ORPHANS} orphans made and reaped, median of {rounds}, to that of tini"
    return [
        Row(title, "s", found, limit, ratio(found, "run", "tini"), "x"),
        Row("CPU time of the init for each orphan", "µs", medians(cpu, 1e6)),
    ]


def limit_rows(peers: Sequence[Peer], command: str, options: argparse.Namespace) -> list[Row]:
    """A row for each limit, and those that come with them."""
    limits = limits_of(options.binary)
    memory = medians(measure.idle_memory(peers, command), 1 / MB)
    switches = medians(measure.idle_switches(peers, command))
    ending = [peer for peer in peers if peer.ends]
    exit_cpu = medians(measure.exit_cpu(ending, command, max(options.rounds // 5, 3)), 1e3)
    idle = f"context switches in {measure.IDLE_SECONDS:g} idle seconds"
    return [
        *start_rows(peers, options),
        Row("private dirty memory, idle with one child", "MB", memory, limits["memory"], memory.get("run"), "MB"),
        size_row(peers, limits["size"]),
        *orphan_rows(peers, command, max(options.rounds // 7, 3), limits.get("orphans")),
        Row(idle, "", switches, 0, switches.get("run")),
        Row(
            "CPU time from the last child's end to its own",
            "ms",
            exit_cpu,
            limits.get("exit"),
            exit_cpu.get("run"),
            "ms",
        ),
    ]


def more_rows(peers: Sequence[Peer], command: str, options: argparse.Namespace) -> list[Row]:
    """Rows without a limit."""
    forwarding = [peer for peer in peers if peer.forwards]
    latency = measure.signal_latency(forwarding, command, 200, max(options.rounds // 10, 1))
    shutdown = measure.shutdown(forwarding, command, SERVICES, max(options.rounds // 10, 1))
    return [
        Row("USR1 to the command's answer, median", "µs", medians(latency, 1e6)),
        Row("the same, 99th percentile", "µs", percentile_99(latency, 1e6)),
        Row(f"TERM to the end of {SERVICES} services", "ms", medians(shutdown, 1e3)),
        Row("processes beside the command", "", medians(measure.idle_processes(peers, command))),
        Row("memory of the cgroup, idle with one child", "MB", medians(measure.cgroup_memory(peers, command), 1 / MB)),
    ]


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            peers = chosen_peers(options)
            command = compile_command(Path(folder))
            rows = limit_rows(peers, command, options)
            if options.peers:
                rows += more_rows(peers, command, options)
    except MeasureError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    names = [peer.name for peer in peers] + ["python"]
    print(markdown(rows, names), end="")
    if options.svg:
        options.svg.write_text(svg(rows, names))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
