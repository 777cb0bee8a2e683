"""The results as Markdown tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trials import Cell

BASE = "tini"
"""What everything is compared with, unless a row says otherwise."""

SUMMARY = ("start", "memory", "size", "signal", "orphans")
"""The rows that the README shows."""


@dataclass(frozen=True)
class Row:
    """One line of the result: a value per program."""

    key: str
    """A short name for it, for limits."""
    title: str
    unit: str
    values: dict[str, float]
    notes: dict[str, str] = field(default_factory=dict)
    """What there is to say about the value of a program, or about its absence."""
    compared: bool = True
    """Whether a ratio says something."""
    drawn: bool = True
    """Whether the chart shows it."""
    base: str = BASE
    """What it is compared with."""

    def ratio(self, name: str) -> float | None:
        """Times the value of the base; None for itself, and where there is nothing to compare."""
        if not self.compared or name == self.base or name not in self.values or not self.values.get(self.base):
            return None
        return self.values[name] / self.values[self.base]


@dataclass(frozen=True)
class Bound:
    """What a value may be at most: of which row, and as times that of which other program, if any."""

    key: str
    most: float
    to: str = ""


@dataclass(frozen=True)
class Limit:
    """What one of our builds may cost."""

    build: str
    row: Row
    bound: Bound

    @property
    def title(self) -> str:
        """What is limited."""
        return self.row.title + (f", to that of {self.bound.to}" if self.bound.to else "")

    @property
    def unit(self) -> str:
        """The unit of what was measured, and of the limit."""
        return "x" if self.bound.to else self.row.unit

    @property
    def measured(self) -> float | None:
        """What it costs, if that could be measured."""
        value, other = self.row.values.get(self.build), self.row.values.get(self.bound.to)
        if value is None or not self.bound.to:
            return value
        return value / other if other else None

    @property
    def holds(self) -> bool:
        """Whether the limit holds. What could not be measured does not hold."""
        return self.measured is not None and self.measured <= self.bound.most


class Notes:
    """Numbered notes below a table, each text once."""

    def __init__(self) -> None:
        """None so far."""
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """The mark of a note; nothing for no text."""
        if not text:
            return ""
        if text not in self._texts:
            self._texts.append(text)
        return f" [{self._texts.index(text) + 1}]"

    def __str__(self) -> str:
        """The notes as lines."""
        return "".join(f"\\[{number}] {text}  \n" for number, text in enumerate(self._texts, 1))


def number(value: float | None, unit: str = "") -> str:
    """A value for a reader, with three digits that count, or two after the point."""
    if value is None:
        return "not measured"
    digits = 0 if value == int(value) or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rest])


def row_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The measures, with a column per program."""
    notes = Notes()
    lines = [["", *names]]
    for row in rows:
        cells = []
        for name in names:
            cell = number(row.values[name], row.unit) if name in row.values else "-"
            ratio = row.ratio(name)
            cell += f" ({number(ratio)} x)" if ratio is not None else ""
            cells.append(cell + notes.mark(row.notes.get(name, "")))
        lines.append([row.title, *cells])
    return f"{_table(lines)}\n{notes}"


def summary_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The few measures that the README shows."""
    return row_table([row for row in rows if row.key in SUMMARY], names)


def limit_table(limits: Sequence[Limit]) -> str:
    """Our own builds, and what they may cost."""
    lines = [["", "", "measured", "limit", "holds"]]
    for limit in limits:
        allowed = f"≤ {limit.bound.most:g} {limit.unit}".rstrip()
        verdict = "yes" if limit.holds else "**no**"
        lines.append([limit.build, limit.title, number(limit.measured, limit.unit), allowed, verdict])
    return _table(lines)


def trial_table(trials: Mapping[str, Mapping[str, Cell]], names: Sequence[str]) -> str:
    """What works where, with a column per program."""
    notes = Notes()
    lines = [["", *names]]
    for title, cells in trials.items():
        words = {True: "yes", False: "**no**", None: "-"}
        lines.append([title, *(words[cells[name].works] + notes.mark(cells[name].note) for name in names)])
    return f"{_table(lines)}\n{notes}"
