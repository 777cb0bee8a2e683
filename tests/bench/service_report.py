"""What the benchmark says of many services, as Markdown."""

from managers import BARE, versions
from measure import SLOW_ROUNDS, SLOW_SECONDS
from rows import Measured
from service_rows import Bench
from table import row_table

CHART = "results-services.svg"
SUMMARY = ("start200", "memory", "rate", "crash", "stop")
"""The rows that the README shows."""

TOLD = f"""\
Each is told the same: start all services at once, pass on what they write, start anew whoever has ended. runit, s6 and
daemontools have a logger for each service, svlogd, s6-log and multilog, which counts as a part of them. `{BARE}` does
nothing but the thing itself: a program in C that forks, executes and waits; for the output, `cat`. What needs more than
{SLOW_SECONDS} s takes part in every {SLOW_ROUNDS}th round. dinit, which would belong here, is not in Debian 12.
"""


def names(bench: Bench) -> list[str]:
    """The columns."""
    compared = bench.others or bench.relays
    return [bench.ours.name, BARE, *(manager.name for manager in compared)]


def _head(bench: Bench) -> str:
    return f"{versions(bench.others or bench.relays)}. In brackets: times that of {bench.ours.name}.\n"


def section(bench: Bench, found: Measured) -> str:
    """All that was measured."""
    chart = f"![Times the cost of {bench.ours.name}]({CHART})\n" if bench.others else ""
    parts = ["## Many services\n", chart, _head(bench), TOLD, row_table(found.rows, names(bench))]
    return "\n".join(part for part in parts if part)


def summary(bench: Bench, found: Measured, folder: str) -> str:
    """What the README says of it."""
    chart = f"![Times the cost of {bench.ours.name}]({folder}/{CHART})\n"
    rows = [row for row in found.rows if row.key in SUMMARY]
    return "\n".join(["Many services:\n", chart, _head(bench), row_table(rows, names(bench))])
