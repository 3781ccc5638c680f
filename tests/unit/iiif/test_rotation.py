"""The canvas of rotated images and the limit of its area."""

from __future__ import annotations

from fractions import Fraction

import pytest

from orchestrator.errors import InvalidImageRequest
from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.rotation import canvas_area, canvas_size
from tests.unit.iiif.resolving import resolve_text

LIMITS = Limits(max_area=50_000_000)
IMAGE = (8000, 6000)


@pytest.mark.parametrize(
    ("rotation", "canvas"),
    [
        (0, (300, 200)),
        (90, (200, 300)),
        (180, (300, 200)),
        (270, (200, 300)),
        (45, (354, 354)),
        (135, (354, 354)),
        (Fraction("0.5"), (302, 203)),
    ],
)
def test_the_canvas_contains_the_rotated_image(rotation, canvas):
    assert canvas_size((300, 200), rotation) == canvas


@pytest.mark.parametrize("size", ["^8000,", "8000,6000", "8000,", "pct:100"])
def test_a_rotated_image_larger_than_max_area_is_refused(size):
    assert resolve_text(f"full/{size}/0/default.jpg", 3, IMAGE, LIMITS).size == IMAGE
    assert resolve_text(f"full/{size}/90/default.jpg", 3, IMAGE, LIMITS).size == IMAGE
    with pytest.raises(InvalidImageRequest, match=r"maxArea.*max for the largest") as refused:
        resolve_text(f"full/{size}/45/default.jpg", 3, IMAGE, LIMITS)
    assert refused.value.parameter == "size"


@pytest.mark.parametrize("size", ["max", "^max", "!9000,9000", "^!9000,9000"])
def test_max_and_a_box_are_reduced_to_the_largest_canvas(size):
    resolved = resolve_text(f"full/{size}/45/default.jpg", 3, IMAGE, LIMITS)
    area = canvas_area(resolved.size, resolved.rotation)
    assert 0.99 * LIMITS.max_area < area <= LIMITS.max_area
    assert resolved.size[0] / resolved.size[1] == pytest.approx(4 / 3, rel=0.001)


def test_the_full_size_of_version_2_is_refused_on_a_canvas_that_is_too_large():
    with pytest.raises(InvalidImageRequest):
        resolve_text("full/full/45/default.jpg", 2, IMAGE, LIMITS)
