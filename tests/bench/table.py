"""The result as a Markdown table and as an SVG chart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Row:
    """One line of the result: a value per peer, and, if there is a limit, what is held against it."""

    title: str
    unit: str
    values: dict[str, float]
    limit: float | None = None
    measured: float | None = None
    """What is compared with the limit, such as a ratio; None if it could not be measured."""
    limit_unit: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds; None when there is none. What could not be measured does not hold."""
        if self.limit is None:
            return None
        return self.measured is not None and self.measured <= self.limit


def number(value: float | None, unit: str) -> str:
    """A value for a reader."""
    if value is None:
        return "not measured"
    digits = 0 if value == int(value) else 1 if value >= 100 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The table, with a column per peer."""
    heads = ["", *names, "measured", "limit", "holds"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [number(row.values[name], row.unit) if name in row.values else "-" for name in names]
        if row.limit is None:
            verdict = ["", "", ""]
        else:
            verdict = [
                number(row.measured, row.limit_unit),
                f"≤ {row.limit:g} {row.limit_unit}".rstrip(),
                "yes" if row.holds else "**no**",
            ]
        lines.append([row.title, *cells, *verdict])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


COLORS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b83280", "#718096")
WIDTH, BAR, GAP, LABELS, NUMBERS = 860, 16, 30, 120, 110


def svg(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A chart: for each row a bar per peer, as long as its share of the row's largest value."""
    parts: list[str] = []
    y = GAP
    for row in rows:
        largest = max(row.values.values(), default=0)
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(row.title)}</text>')
        y += 6
        for name in (name for name in names if name in row.values):
            value = row.values[name]
            length = (WIDTH - LABELS - NUMBERS) * value / largest if largest else 0
            color = COLORS[list(names).index(name) % len(COLORS)]
            parts.append(f'<text x="{LABELS - 8}" y="{y + BAR - 4}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{color}"/>')
            parts.append(f'<text x="{LABELS + length + 6:.1f}" y="{y + BAR - 4}">{number(value, row.unit)}</text>')
            y += BAR
        y += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    return "\n".join([head + ' font-family="sans-serif" font-size="12">', *parts, "</svg>\n"])
