"""A bar chart of ratios as SVG: one row per workload, a bar per rival, a line at 1.

The axis is logarithmic, so that twice as fast and half as fast look equally far from 1. A bar that
would leave the axis ends at its edge; its number tells the rest.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, BAR, GAP, TOP, BOTTOM = 860, 220, 60, 11, 10, 56, 28
COLOURS = ("#2b6cb0", "#dd8a2b", "#7a8794")
INK, GRID = "#24292f", "#d8dee4"


def _ticks(low: float, high: float) -> list[float]:
    return [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= t <= high]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{INK}">{escape(text)}</text>'
    )


class _Axis:
    """Positions of ratios, held between `low` and `high`."""

    def __init__(self, ratios: list[float]) -> None:
        self.low = max(0.25, min(0.5, *(r * 0.9 for r in ratios)))
        self.high = min(8.0, max(2.0, *(r * 1.1 for r in ratios)))

    def x(self, ratio: float) -> float:
        ratio = min(max(ratio, self.low), self.high)
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def ratio_chart(title: str, series: list[str], rows: list[tuple[str, list[float | None]]]) -> str:
    """rows: workload and one ratio per series; None leaves a gap."""
    ratios = [r for _, values in rows for r in values if r]
    if not ratios:
        return ""
    axis = _Axis(ratios)
    row_height = BAR * len(series) + GAP
    height = TOP + row_height * len(rows) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(12, 22, title, size=15),
    ]
    parts += _legend(series)
    for tick in _ticks(axis.low, axis.high):
        x = axis.x(tick)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - BOTTOM}" '
            f'stroke="{INK if tick == 1 else GRID}"/>'
        )
        parts.append(_text(x, height - BOTTOM + 16, f"{tick:g}×", "middle"))
    for number, (label, values) in enumerate(rows):
        parts += _row(axis, TOP + number * row_height, label, values)
    return "\n".join([*parts, "</svg>", ""])


def _legend(series: list[str]) -> list[str]:
    parts, x = [], 12.0
    for colour, name in zip(COLOURS, series):
        parts.append(f'<rect x="{x:.0f}" y="32" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, 42, name))
        x += 40 + 7 * len(name)
    return parts


def _row(axis: _Axis, top: float, label: str, values: list[float | None]) -> list[str]:
    parts = [_text(LEFT - 38, top + BAR * len(values) / 2 + 4, label, "end")]
    one = axis.x(1)
    for i, ratio in enumerate(values):
        if not ratio:
            continue
        x, y = axis.x(ratio), top + i * BAR
        left, width = min(one, x), max(1.0, abs(x - one))
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" '
            f'fill="{COLOURS[i]}"/>'
        )
        # Beside the bar's free end.
        anchor, shift = ("start", 4) if ratio >= 1 else ("end", -4)
        shown = f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"
        parts.append(_text(x + shift, y + BAR - 2, shown, anchor, size=10))
    return parts
