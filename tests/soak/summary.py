"""What was done and what came of it, as a Markdown table."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from services_stress import ServicesResult
from services_subject import KILLED
from stress import FAST, PHASES, Result
from subject import Vitals

R = TypeVar("R")


def number(value: int) -> str:
    """A number for a reader: 1 234 567."""
    return f"{value:,}".replace(",", " ")


def per_phase(result: Result, value: Callable[[str], str]) -> str:
    """A value for each way in which stderr was read."""
    return " / ".join(value(kind) for kind in PHASES if result.tallies[kind].seconds)


def both(result: Result | ServicesResult, value: Callable[[Vitals], int]) -> str:
    """The highest in the warm-up, and at the end."""
    looks = (result.warm_up, result.at_end)
    return ", then ".join("not reached" if look is None else number(value(look)) for look in looks)


def rates(result: Result, field: str) -> str:
    """How many there were in a second, for each way in which stderr was read."""
    tallies = result.tallies
    return per_phase(result, lambda kind: number(round(getattr(tallies[kind], field) / tallies[kind].seconds)))


OF_VITALS: list[tuple[str, Callable[[Result | ServicesResult], str]]] = [
    ("zombies in the warm-up, then at the end", lambda r: both(r, lambda v: v.zombies)),
    ("open descriptors", lambda r: both(r, lambda v: v.fds)),
    ("own memory, kB: highest in the warm-up, then lowest of the last looks", lambda r: both(r, lambda v: v.memory)),
    ("living small objects, kB: the same", lambda r: both(r, lambda v: v.objects)),
]
"""What both tables say of `run` itself."""

ways = " / ".join(PHASES)
ROWS: list[tuple[str, Callable[[Result], str]]] = [
    ("time", lambda r: f"{r.seconds:.0f} s"),
    ("processes forked by the load", lambda r: number(r.made.forks)),
    ("orphans made, all reaped", lambda r: number(r.made.orphans)),
    ("of these, killed by a signal", lambda r: number(sum(r.made.ended[129:]))),
    ("of these, stopped and continued before", lambda r: number(r.made.stops)),
    ("signals sent, all received by the command and by a daemon, once", lambda r: number(r.sent.total())),
    ("lines of the log checked against these counts", lambda r: number(r.tallies[FAST].lines)),
    (
        "lines dropped by design, where stderr was read too slowly",
        lambda r: number(sum(t.dropped for t in r.tallies.values())),
    ),
    (f"orphans in a second, with stderr read {ways}", lambda r: rates(r, "orphans")),
    (f"signals in a second, with stderr read {ways}", lambda r: rates(r, "signals")),
    (
        f"slowest answer, with stderr read {ways}",
        lambda r: per_phase(r, lambda k: f"{r.tallies[k].slowest * 1e3:.0f} ms"),
    ),
    *OF_VITALS,
    ("exit code, the highest that was reaped", lambda r: str(r.exit_code)),
    ("holds", lambda r: "**no**" if r.violations or r.at_end is None else "yes"),
]


OF_SERVICES: list[tuple[str, Callable[[ServicesResult], str]]] = [
    ("time", lambda r: f"{r.seconds:.0f} s"),
    ("lives of 50 services", lambda r: number(r.lives)),
    ("of these, ended by a signal", lambda r: number(sum(n for code, n in r.ended.items() if code > 128))),
    ("of these, hung and killed", lambda r: number(r.ended[KILLED])),
    ("orphans made, all reaped", lambda r: number(r.orphans)),
    ("probes of healthchecks", lambda r: number(r.probes)),
    ("lines written, each read once and whole", lambda r: number(r.lines)),
    ("lines of the log checked against these counts", lambda r: number(r.log_lines)),
    ("lines of the log dropped by design, where nobody read", lambda r: number(r.dropped)),
    ("clients answered: start, stop, restart", lambda r: answers(r, "start", "stop", "restart")),
    ("clients answered: signal, status, json, health", lambda r: answers(r, "signal", "status", "json", "health")),
    ("signals sent, all received by both services that catch them, once", lambda r: number(r.sent.total())),
    *OF_VITALS,
    ("exit code, that of what hung", lambda r: str(r.exit_code)),
    ("holds", lambda r: "**no**" if r.violations or r.at_end is None else "yes"),
]


def answers(result: ServicesResult, *actions: str) -> str:
    """How many clients were answered that had asked for one of these."""
    return number(sum(result.answered[action] for action in actions))


def markdown(results: Mapping[str, Result]) -> str:
    """The table of `run` with one command, with a column for each."""
    return _table(results, ROWS)


def markdown_of_services(results: Mapping[str, ServicesResult]) -> str:
    """The table of `run` with many services."""
    return _table(results, OF_SERVICES)


def _table(results: Mapping[str, R], rows: list[tuple[str, Callable[[R], str]]]) -> str:
    if not results:
        return ""
    lines = [["", *results], ["---"] * (len(results) + 1)]
    lines += [[title, *map(value, results.values())] for title, value in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
