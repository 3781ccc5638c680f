"""The chart of requests per second by tier: stacked bars, as numbers for SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.web.api.request_rates import TIERS, WINDOW_S, Interval

WIDTH, HEIGHT = 720, 140


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle in the units of the chart, from its upper left corner."""

    tier: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, and the number of requests per second at the upper edge."""

    bars: tuple[Bar, ...]
    top: float
    width: int = WIDTH
    height: int = HEIGHT
    window_s: float = WINDOW_S


def draw_chart(intervals: Sequence[Interval]) -> Chart:
    """Return the chart of these intervals. Each is as wide as it was long; now is at the right."""
    top = _round_up(max((each.total for each in intervals), default=0.0))
    bars: list[Bar] = []
    for each in intervals:
        left = WIDTH * max(0.0, 1 - each.began_s / WINDOW_S)
        right = WIDTH * (1 - each.ended_s / WINDOW_S)
        floor = float(HEIGHT)
        for tier in TIERS:
            height = HEIGHT * each.per_second.get(tier, 0.0) / top
            if height > 0:
                floor -= height
                bars.append(Bar(tier, left, floor, right - left, height))
    return Chart(tuple(bars), top)


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2 or 5 times a power of ten; at least 1."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)
