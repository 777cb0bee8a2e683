"""What is told of it: a table, and the file RESULTS.md."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    """How it went in one engine."""

    name: str
    version: str = ""
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    seconds: float = 0.0

    def cells(self) -> tuple[str, ...]:
        """The cells of its row."""
        cases = len(self.passed) + len(self.failed)
        return self.name, self.version or "-", f"{cases}", f"{len(self.passed)}", f"{self.seconds:.0f}"


HEAD = ("engine", "version", "cases", "passed", "seconds")


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines in which the cells of a column are below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def table(rows: list[Row], others: list[str]) -> list[str]:
    """What is printed at the end."""
    lines = aligned([HEAD, *(row.cells() for row in rows)])
    for row in rows:
        if row.missing:
            lines.append(f"CANNOT RUN: {row.name}: {row.missing}")
        lines += [f"FAILED: {row.name}: {name}: {why.splitlines()[0]}" for name, why in row.failed.items()]
        lines += [f"not to be had: {row.name}: {name}: {why}" for name, why in row.lacks.items()]
    return lines + [f"not asked for: {name} (make elsewhere ENGINES={name})" for name in others]


BEGIN, END = "<!-- make elsewhere -->", "<!-- end of make elsewhere -->"
"""What stands between these lines is written by this program."""


def details(row: Row) -> list[str]:
    """What there is to say besides, as lines of Markdown."""
    lines = [f"- `{row.name}`: cannot run: {one_line(row.missing)}"] if row.missing else []
    lines += [f"- `{row.name}`: {name}: FAILED: {one_line(why)}" for name, why in row.failed.items()]
    return lines + [f"- `{row.name}`: {name}: not to be had: {why}" for name, why in row.lacks.items()]


def one_line(text: str) -> str:
    """The first line of a text."""
    return next(iter(text.splitlines()), "")


def of(name: str, line: str) -> bool:
    """Whether a line of the file is an engine's."""
    return line.startswith((f"| {name} |", f"- `{name}`: "))


def parted(text: str, begin: str, end: str) -> tuple[str, str, str]:
    """What is before, between and after two lines."""
    before, _, rest = text.partition(begin)
    return before, *rest.partition(end)[::2]


def write(path: Path, rows: list[Row], order: list[str]) -> None:
    """Write the table into a file, between two lines of it; what it says of other engines stays.

    RESULTS.md tells the details, too.
    """
    before, old, after = parted(path.read_text(), BEGIN, END)
    known = {name: [line for line in old.splitlines() if of(name, line)] for name in order}
    for row in rows:
        known[row.name] = [f"| {' | '.join(row.cells())} |", *details(row)]
    lines = [line for name in order for line in known[name]]
    made = [BEGIN, f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
    made += [line for line in lines if line.startswith("|")]
    if path.name == "RESULTS.md":
        made += ["", *(line for line in lines if line.startswith("-"))]
    path.write_text(before + "\n".join([*made, END]) + after)


MACHINES = "<!-- machines -->", "<!-- end of machines -->"
"""Between these lines is what was noted of other machines and distributions."""


def copy_machines(results: Path, target: Path) -> None:
    """Copy the table of machines from RESULTS.md into another file, between the same lines."""
    table_of_machines = parted(results.read_text(), *MACHINES)[1]
    before, _, after = parted(target.read_text(), *MACHINES)
    target.write_text(before + MACHINES[0] + table_of_machines + MACHINES[1] + after)
