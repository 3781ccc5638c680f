"""The canvas of a rotated image: the rectangle that contains it (Image API 3.0, section 4.3)."""

from __future__ import annotations

import math
from fractions import Fraction

from orchestrator.iiif.scale import Dimensions, fit_within_area

_ROUNDING = 1e-6
"""Sides that exceed a whole pixel by less than this are rounded down: it is the error of floats."""


def canvas_size(size: Dimensions, rotation: Fraction | float) -> Dimensions:
    """(width, height) of the canvas that contains an image of `size`, rotated by `rotation`
    degrees.
    """
    angle = math.radians(float(rotation % 180))
    cosine, sine = abs(math.cos(angle)), math.sin(angle)
    width, height = size
    return (
        math.ceil(width * cosine + height * sine - _ROUNDING),
        math.ceil(width * sine + height * cosine - _ROUNDING),
    )


def canvas_area(size: Dimensions, rotation: Fraction | float) -> int:
    """Pixels of that canvas."""
    width, height = canvas_size(size, rotation)
    return width * height


def fit_canvas(
    region: Dimensions, size: Dimensions, rotation: Fraction, max_area: int
) -> Dimensions:
    """The largest size up to `size`, with the aspect ratio of `region`, whose canvas has at most
    `max_area` pixels; at least 1 x 1.
    """
    area = max_area
    while area > 1 and (canvas := canvas_area(size, rotation)) > max_area:
        area = max(1, min(area - 1, size[0] * size[1] * max_area // canvas))
        size = fit_within_area(region, size, area)
    return size
