"""Whole-pixel arithmetic: how long a side becomes when scaled. Round half up, never below one
pixel, always exact.

The one set of functions behind thumbnails, info documents and rendering (decisions.md, rounding).
"""

from __future__ import annotations

import math
from fractions import Fraction

Dimensions = tuple[int, int]
"""(width, height) in pixels."""


def round_half_up(value: Fraction) -> int:
    """The nearest whole number of pixels, halves upwards, at least 1."""
    return max(1, (2 * value.numerator + value.denominator) // (2 * value.denominator))


def scaled(length: int, numerator: int, denominator: int) -> int:
    """`length * numerator / denominator` pixels, rounded half up, at least 1; all positive."""
    return max(1, (2 * length * numerator + denominator) // (2 * denominator))


def fit_within(size: Dimensions, box: Dimensions) -> Dimensions:
    """The largest (width, height) of the ratio of `size` inside `box`, enlarging if the box is
    larger.
    """
    (width, height), (box_width, box_height) = size, box
    if box_width * height <= box_height * width:
        return box_width, scaled(height, box_width, width)
    return scaled(width, box_height, height), box_height


def fit_within_area(size: Dimensions, box: Dimensions, max_area: int) -> Dimensions:
    """As `fit_within`, and of at most `max_area` pixels after rounding."""
    fitted = fit_within(size, box)
    if fitted[0] * fitted[1] <= max_area:
        return fitted
    long, short = max(size), min(size)
    edge = max(1, math.isqrt(max_area * long // short))
    side = scaled(short, edge, long)
    if edge * side > max_area:  # rounding went over, or the short side is held at one pixel
        edge = max(1, max_area // side)
        side = scaled(short, edge, long)
    return (edge, side) if size[0] >= size[1] else (side, edge)
