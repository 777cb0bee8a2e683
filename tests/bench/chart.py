"""The results as an SVG chart: times the cost of one program, on one logarithmic scale."""

import math
from collections.abc import Sequence
from html import escape

from rows import FROZEN, PLAIN, SNAPSHOT, STATICX
from table import Row, number

COLORS = {SNAPSHOT: "#1f6feb", PLAIN: "#4e8ff5", STATICX: "#79b0ff", FROZEN: "#d29922"}
OTHERS = "#8b949e"
COLUMNS, WIDTH, LABELS, BAR, HEAD, GAP = 2, 880, 118, 13, 20, 12
LEAST, MOST = 0.3, 1000.0
EXPLAINED = "shorter is better, each line is ten times the one before"
GRID = (1, 10, 100, 1000)
NUMBERS = 88
"""Room for a number behind the longest bar."""


def _across(ratio: float) -> float:
    """Where a ratio is on the scale of a panel."""
    share = math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LABELS + 6 + share * (WIDTH / COLUMNS - LABELS - 6 - NUMBERS)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'


def _panel(row: Row, names: Sequence[str], x: float, y: float) -> list[str]:
    """One measure: a title, and a bar per program, from 1 x to its own ratio."""
    parts = [_text(x + 8, y + 13, row.title.replace("`", ""), ' font-weight="bold"')]
    top, bottom = y + HEAD, y + HEAD + BAR * len(names)
    for tick in GRID:
        color = "#57606a" if tick == 1 else "#d0d7de"
        parts.append(f'<path d="M{x + _across(tick):.1f} {top}V{bottom}" stroke="{color}"/>')
    for i, name in enumerate(names):
        line = top + BAR * i
        parts.append(_text(x + LABELS, line + 10, name, ' text-anchor="end"'))
        if name not in row.values:
            parts.append(_text(x + _across(1) + 4, line + 10, "-"))
            continue
        ratio = 1.0 if name == row.base else row.ratio(name) or 1.0
        left, right = sorted((x + _across(1), x + _across(ratio)))
        color = COLORS.get(name, OTHERS)
        parts.append(
            f'<rect x="{left:.1f}" y="{line + 2}" width="{max(right - left, 1.5):.1f}" height="9" fill="{color}"/>'
        )
        label = number(row.values[name], row.unit)
        parts.append(_text(right + 4, line + 10, label if name == row.base else f"{number(ratio)} x · {label}"))
    return parts


def svg(rows: Sequence[Row], names: Sequence[str], base: str) -> str:
    """A panel per row, in columns, on a background of its own: it must be legible on a dark page too."""
    rows = [row for row in rows if row.drawn and row.compared]
    panel = HEAD + BAR * len(names) + GAP
    height = 34 + panel * math.ceil(len(rows) / COLUMNS) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif" font-size="10.5" fill="#1f2328">',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff" stroke="#d0d7de"/>',
        _text(8, 22, f"Times the cost of {base}: {EXPLAINED}", ' font-size="13"'),
    ]
    for i, row in enumerate(rows):
        parts += _panel(row, names, i % COLUMNS * WIDTH / COLUMNS, 34 + i // COLUMNS * panel)
    return "\n".join([*parts, "</svg>\n"])
