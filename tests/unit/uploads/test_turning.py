"""Turns of pictures."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.uploads.turning import check_turnable, parse_rotation, turned_region


@pytest.mark.parametrize(
    ("quarters", "expected"),
    [(1, (5, 10, 20, 30)), (2, (60, 5, 30, 20)), (3, (25, 60, 20, 30))],
)
def test_a_region_is_turned_with_its_picture(
    quarters: int, expected: tuple[int, int, int, int]
) -> None:
    assert turned_region((10, 25, 30, 20), (100, 50), quarters) == expected


def test_rotations_are_quarter_turns() -> None:
    assert [parse_rotation(text) for text in ("", "90", "180", "-90")] == [1, 1, 2, 3]
    for text in ("45", "270", "x", "90.0"):
        with pytest.raises(InvalidInput):
            parse_rotation(text)
    for extension in ("svg", "heic", "tif", "avif"):
        with pytest.raises(InvalidInput):
            check_turnable(extension)
