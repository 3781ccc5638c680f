"""The section of docs/performance.md about curves (P17), and its plot: one panel for each curve, a
logarithmic scale of milliseconds, p50 drawn full and p99 dashed.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from loadtests.svg import frame_plot

_SECTION = """## How the cost grows

P17 measures our server alone: milliseconds of an answer (p50, p99) and of the processor for each
request. Sources are files as the default policies write them, on local disk; `ranges of S3` are
those of a pyramid TIFF that is never copied. Tiles have 512 pixels and are requested for the first
time, except the hot tile. One serve process; the clients run on the same machine.

![Milliseconds of an answer by scale factor, megapixels and clients](curves.svg)

| curve | of | at | p50 | p99 | processor each |
|---|---|---|---|---|---|
{rows}
"""
_COLOURS = ("#2a7a3b", "#b3541e", "#2b5aa0", "#777777")
_WIDTH, _PANEL, _LEFT, _RIGHT = 780, 230, 80, 190
_DECADES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
_FLAT = "tier"
"""The curve that is a list: it has no plot."""

Points = list[dict[str, Any]]


def section(points: Points) -> str:
    """The section, or nothing without results."""
    if not points:
        return ""
    rows = [
        f"| {each['curve']} | {each['line']} | {each['at']} | {_ms(each['p50_ms'])} "
        f"| {_ms(each['p99_ms'])} | {_ms(each['processor_ms'])} |"
        for each in points
    ]
    return _SECTION.format(rows="\n".join(rows))


def plot(points: Points) -> str:
    """The panels, one below the other."""
    curves = {
        name: list(members)
        for name, members in groupby(
            sorted((each for each in points if each["curve"] != _FLAT), key=_curve), key=_curve
        )
    }
    parts: list[str] = []
    for number, (name, members) in enumerate(curves.items()):
        parts += _draw(name, members, _PANEL * number)
    return frame_plot(_WIDTH, _PANEL * len(curves), parts)


def _draw(name: str, members: Points, top: int) -> list[str]:
    places = sorted({each["at"] for each in members}, key=float)
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(places) - 1)
    x = {at: _LEFT + step * number for number, at in enumerate(places)}
    parts = [f'<text x="{_LEFT}" y="{top + 14}" font-weight="bold">{escape(name)}</text>']
    for value in _DECADES:
        y = top + _height(value)
        parts += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g} ms</text>',
        ]
    parts += [
        f'<text x="{x[at]:.1f}" y="{top + _PANEL - 8}" text-anchor="middle">{escape(at)}</text>'
        for at in places
    ]
    for number, line in enumerate(dict.fromkeys(each["line"] for each in members)):
        colour, own = _COLOURS[number % len(_COLOURS)], [m for m in members if m["line"] == line]
        for figure, dashes in (("p50_ms", ""), ("p99_ms", ' stroke-dasharray="4 3"')):
            corners = " ".join(
                f"{x[each['at']]:.1f},{top + _height(each[figure]):.1f}" for each in own
            )
            parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}"{dashes}/>')
        y = top + 34 + 16 * number
        parts.append(
            f'<text x="{_WIDTH - _RIGHT + 10}" y="{y}" fill="{colour}">{escape(line)}</text>'
        )
    return parts


def _height(milliseconds: float) -> float:
    """Pixels below the top of a panel."""
    low, high = math.log10(_DECADES[0]), math.log10(_DECADES[-1])
    share = (math.log10(max(milliseconds, _DECADES[0])) - low) / (high - low)
    return 24 + (_PANEL - 54) * (1 - min(1.0, share))


def _curve(point: dict[str, Any]) -> str:
    return str(point["curve"])


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
