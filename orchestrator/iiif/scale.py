"""Scales dimensions in whole pixels: exact arithmetic, halves rounded up, at least one pixel.

Thumbnails, info documents and rendering all use these functions, so the sizes that a document
advertises are the sizes that a request gets.
"""

from __future__ import annotations

import math
from fractions import Fraction

Dimensions = tuple[int, int]
"""(width, height) in pixels."""


def round_half_up(value: Fraction) -> int:
    """The nearest whole number of pixels, at least 1. Halves are rounded up."""
    return max(1, (2 * value.numerator + value.denominator) // (2 * value.denominator))


def scaled(length: int, numerator: int, denominator: int) -> int:
    """`length * numerator / denominator` pixels, halves rounded up, at least 1; all positive."""
    return max(1, (2 * length * numerator + denominator) // (2 * denominator))


def fit_within(size: Dimensions, box: Dimensions) -> Dimensions:
    """The largest (width, height) that fits in `box` and has the aspect ratio of `size`. It is
    larger than `size` if the box is.
    """
    (width, height), (box_width, box_height) = size, box
    if box_width * height <= box_height * width:
        return box_width, scaled(height, box_width, width)
    return scaled(width, box_height, height), box_height


def fit_within_area(size: Dimensions, box: Dimensions, max_area: int) -> Dimensions:
    """As `fit_within`, with at most `max_area` pixels after rounding."""
    fitted = fit_within(size, box)
    if fitted[0] * fitted[1] <= max_area:
        return fitted
    long, short = max(size), min(size)
    edge = max(1, math.isqrt(max_area * long // short))
    side = scaled(short, edge, long)
    if edge * side > max_area:  # rounding exceeded it, or the short side cannot be below one pixel
        edge = max(1, max_area // side)
        side = scaled(short, edge, long)
    return (edge, side) if size[0] >= size[1] else (side, edge)
