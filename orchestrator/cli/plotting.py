"""Hit ratio against quota as a picture: characters for a terminal, SVG for a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Protocol

_MARKS = "ox+*#"
_COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#7f8c8d")
_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 420, 60, 50


class Point(Protocol):
    """One outcome to be drawn."""

    @property
    def policy(self) -> str:
        """Which line it is on."""

    @property
    def quota(self) -> int:
        """Bytes: how far to the right, on a logarithmic scale."""

    @property
    def hit_ratio(self) -> float:
        """How high, 0 to 1."""


def terminal(points: Sequence[Point], width: int, height: int) -> str:
    """A plot of `width` by `height` characters, its scales and legend besides."""
    lines = _lines(points)
    rows = [[" "] * width for _ in range(height)]
    for mark, line in zip(_MARKS, lines.values(), strict=False):
        for x, y in _between(_scaled(line, points), width):
            rows[height - 1 - round(y * (height - 1))][x] = mark
    text = [f"{_percent(1 - n / (height - 1), n):>4} |{''.join(row)}" for n, row in enumerate(rows)]
    low, high = _ends(points)
    left, right = human(low), human(high)
    text.append(f"     +{'-' * width}")
    text.append(f"      {left}{right:>{max(width - len(left), 0)}}")
    legend = (f"{mark} {name}" for mark, name in zip(_MARKS, lines, strict=False))
    text.append(f"      {'   '.join(legend)}")
    return "\n".join(text)


def svg(points: Sequence[Point], title: str) -> str:
    """The plot as an SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="14">Hit ratio against quota: {escape(title)}</text>',
        *_grid(points),
    ]
    colours = dict(zip(_lines(points), _COLOURS, strict=False))
    for number, (name, line) in enumerate(_lines(points).items()):
        colour = colours.get(name, "black")
        places = [(_x(x), _y(y)) for x, y in _scaled(line, points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = _TOP + 20 + 18 * number
        parts.append(f'<text x="{_LEFT + 14}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _grid(points: Sequence[Point]) -> Iterator[str]:
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{_x(1)}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tenth * 10}%</text>'
    low, high = _ends(points)
    for quota in sorted({point.quota for point in points}):
        x = _x(_place(quota, low, high))
        yield f'<line x1="{x:.1f}" y1="{_y(0)}" x2="{x:.1f}" y2="{_y(1)}" stroke="#eee"/>'
        label = f'<text x="{x:.1f}" y="{_y(0) + 18}" text-anchor="middle">{human(quota)}</text>'
        yield label


def _lines(points: Iterable[Point]) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.quota):
        lines.setdefault(point.policy, []).append(point)
    return {name: lines[name] for name in dict.fromkeys(point.policy for point in points)}


def _scaled(line: Iterable[Point], points: Iterable[Point]) -> list[tuple[float, float]]:
    low, high = _ends(points)
    return [(_place(point.quota, low, high), point.hit_ratio) for point in line]


def _ends(points: Iterable[Point]) -> tuple[int, int]:
    quotas = [point.quota for point in points] or [1]
    return min(quotas), max(quotas)


def _place(quota: int, low: int, high: int) -> float:
    return math.log(quota / low) / math.log(high / low) if high > low else 0.5


def _between(line: list[tuple[float, float]], width: int) -> Iterator[tuple[int, float]]:
    """Every column's (x, ratio) of a line through these points."""
    columns = [(round(x * (width - 1)), y) for x, y in line]
    yield from columns[:1]
    for (x0, y0), (x1, y1) in pairwise(columns):
        for x in range(x0 + 1, x1 + 1):
            yield x, y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _percent(part: float, row: int) -> str:
    return f"{part:.0%}" if row % 5 == 0 else ""


def _x(place: float) -> float:
    return _LEFT + place * (_WIDTH - _LEFT - 40)


def _y(ratio: float) -> float:
    return _HEIGHT - 40 - ratio * (_HEIGHT - 40 - _TOP)


def human(size: int) -> str:
    """Bytes as text in decimal units: `1.5 GB`."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
