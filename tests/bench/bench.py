"""How fast and how small `run` is, measured beside other inits in the same run, and held against limits.

    python tests/bench/bench.py --binary dist/run

prints Markdown, and exits with 0 if every limit holds, 1 if one does not, 2 if something could not be measured. With
--frozen it measures all peers and tries what works where; without it, tini alone, and of what starts many services
those that limits name. `make bench` calls it so.
Megabytes are those of 1 000 000 bytes.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import processes
import service_report
import service_rows
import service_trials
from chart import svg
from crew import PROGRAM_NAME
from measure import SLOW_ROUNDS, SLOW_SECONDS
from peers import Peer, build_of_ours, debian_peers, versions
from processes import MeasureError, compile_program
from rows import FROZEN, Measured, gather, kind_of
from table import BASE, limit_table, row_table, summary_table, trial_table
from trials import try_all

VENV = Path(".work/bench/venv")
README_FOLDER = "tests/bench"
TRIAL = "bench-trial"
WITH_SERVICES = """\
The same for many services. Each has the plainest files for it, without scripts that would do the rest. runit and
daemontools have no loggers here, so that services write to their stdout.
"""
COUNTED = """\
Private memory is what the process has written to: its private dirty pages, smaps_rollup of proc(5). The unchanged
pages of the file are not counted: the kernel has them once, for all containers that run the same file.
"""
BEGIN, END = "<!-- make bench -->\n", "<!-- end of make bench -->\n"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure `run` beside other inits, and hold it against its limits.")
    parser.add_argument("--binary", action="append", help="a `run` to measure, again for others (default: dist/run)")
    parser.add_argument("--frozen", help="the same program as made by PyInstaller and staticx: measure all peers")
    parser.add_argument("--python", default="/usr/bin/python3", help="the interpreter that the start is held against")
    parser.add_argument("--rounds", type=int, default=100, help="of the start (default: 100); the rest has a share")
    parser.add_argument("--gigabytes", type=float, default=1, help="of output that services write (default: 1)")
    parser.add_argument("--venv", type=Path, default=VENV, help=f"where honcho and circus are (default: {VENV})")
    parser.add_argument("--results", type=Path, help="write RESULTS.md and the charts into this folder")
    parser.add_argument("--readme", type=Path, help="put the main figures into this file, between its two marks")
    return parser.parse_args()


def chosen_peers(options: argparse.Namespace) -> list[Peer]:
    """Our builds first, then what they are compared with."""
    binaries = options.binary or ["dist/run"]
    for binary in [*binaries, options.frozen or "/bin/sh"]:
        if not os.access(binary, os.X_OK):
            raise MeasureError(f"{binary} is not there, or not executable")
    if len({kind_of(binary) for binary in binaries}) < len(binaries):
        raise MeasureError("two binaries that are built in the same way")
    ours = [build_of_ours(kind_of(binary), binary) for binary in binaries]
    others = debian_peers()
    if not others or others[0].name != "tini":
        raise MeasureError("tini is not installed")
    if not options.frozen:
        return [*ours, others[0]]
    return [*ours, *others, build_of_ours(FROZEN, options.frozen)]


def machine(peers: Sequence[Peer]) -> str:
    """What it was measured on, and which versions."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    cpu = f"{os.cpu_count()} x {names[0] if names else platform.machine()}"
    return f"{cpu}, Linux {platform.release()}, {system}, Python {platform.python_version()}; {versions(peers)}."


def costs(peers: Sequence[Peer], found: Measured) -> str:
    """What it costs, as Markdown."""
    names = [peer.name for peer in peers] + ["python"]
    return "\n".join(
        [
            f"Made by `make bench`, all in one run. {machine(peers)}\n",
            "In brackets: times that of tini. Each measure takes the programs in turn, round by round; what needs",
            f"more than {SLOW_SECONDS} s to start is started in every {SLOW_ROUNDS}th round. MB: 1 000 000 bytes.",
            "`python` is the interpreter alone: `python3 -I -S -c pass`.\n",
            COUNTED,
            row_table(found.rows, names),
        ]
    )


def summary(peers: Sequence[Peer], found: Measured) -> str:
    """What the README says of it, as Markdown."""
    return f"{machine(peers)} In brackets: times that of tini.\n\n" + summary_table(
        found.rows, [peer.name for peer in peers]
    )


def report(found: Sequence[Measured], costs: str, services: str, works: str) -> str:
    """All that was found, as Markdown."""
    head = "# What the benchmark found\n\n![Times the cost of tini](results.svg)\n\n## What it costs\n\n"
    limits = [limit for part in found for limit in part.limits]
    return head + "\n".join([costs, services, "## Limits\n", limit_table(limits), works])


def put_into(readme: Path, text: str) -> None:
    """Replace what stands between the two marks of a file. Raises MeasureError where they are missing."""
    head, begin, rest = readme.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise MeasureError(f"{readme} has no {BEGIN.strip()} and {END.strip()}")
    readme.write_text(head + begin + text + end + tail)


def what_works(peers: Sequence[Peer], bench: service_rows.Bench, command: str, options: argparse.Namespace) -> str:
    """The tables of what works where, as Markdown."""
    where, trials = try_all(peers, command, bench.folder)
    if not trials:
        return f"## What works where\n\nNot tried: {where}.\n"
    program = compile_program(bench.folder, "trial.c", TRIAL)
    managers = [bench.ours, *bench.others]
    many = service_trials.try_all(managers, program, options.venv, bench.folder)[1]
    head = f"## What works where\n\nEach cell was tried, in {where}, with the program as PID 1.\n\n"
    one = head + trial_table(trials, [peer.name for peer in peers])
    return f"{one}\n{WITH_SERVICES}\n" + trial_table(many, [manager.name for manager in managers])


@dataclass(frozen=True)
class Outcome:
    """What came of it all: Markdown, charts by the names of their files, and whether every limit holds."""

    text: str
    summary: str
    charts: dict[str, str]
    holds: bool


def measure_all(options: argparse.Namespace, folder: Path) -> Outcome:
    """Measure everything that was asked for, in a folder that is empty."""
    peers = chosen_peers(options)
    options.venv = options.venv.absolute()
    everything = bool(options.frozen)
    # Some of them leave files behind, in these two places.
    os.chdir(folder)
    processes.ENVIRONMENT["TMPDIR"] = str(folder)
    command = compile_program(folder, "command.c")
    service = compile_program(folder, "service.c", PROGRAM_NAME)
    bench = service_rows.bench_of(peers[0], service, folder, options)
    one = gather(peers, command, options.python, options.rounds, everything)
    many = service_rows.gather(bench, next(row for row in one.rows if row.key == "memory"))
    works = what_works(peers, bench, command, options) if everything else ""
    os.chdir("/")
    columns = [peer.name for peer in peers]
    return Outcome(
        report([one, many], costs(peers, one), service_report.section(bench, many), works),
        summary(peers, one) + "\n" + service_report.summary(bench, many, README_FOLDER),
        {
            "results.svg": svg(one.rows, columns, BASE),
            service_report.CHART: svg(many.rows, service_report.names(bench), bench.ours.name),
        },
        all(limit.holds for limit in [*one.limits, *many.limits]),
    )


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments()
    results = options.results and options.results.absolute()
    readme = options.readme and options.readme.absolute()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            outcome = measure_all(options, Path(name))
        if readme:
            put_into(readme, outcome.summary)
    except (MeasureError, AssertionError) as error:  # the latter is how engine.py tells
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(outcome.text, end="")
    if results:
        (results / "RESULTS.md").write_text(outcome.text)
        for file, chart in outcome.charts.items():
            (results / file).write_text(chart)
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
