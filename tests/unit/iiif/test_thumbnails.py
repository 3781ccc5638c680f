"""Thumbnail policies: known sizes, and entries that must be refused."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.iiif.scale import Dimensions
from orchestrator.iiif.thumbnail_sizes import (
    MAX_THUMBNAIL_EDGE,
    thumbnail_size,
    thumbnail_sizes,
)


@pytest.mark.parametrize(
    ("dimensions", "entry", "expected"),
    [
        ((3000, 2000), "!1024,1024", (1024, 683)),
        ((1609, 2398), "!1000,1000", (671, 1000)),
        ((1609, 2398), "1000,", (1000, 1490)),
        ((1609, 2398), ",1000", (671, 1000)),
        ((5000, 3333), "400,", (400, 267)),
        ((1000, 900), "!400,200", (222, 200)),
        ((1000, 300), "!1200,200", (667, 200)),
        ((300, 1000), "!200,1200", (200, 667)),
        ((800, 600), "!1024,1024", (800, 600)),
        ((800, 600), "1024,", (800, 600)),
        ((800, 600), ",1024", (800, 600)),
        ((800, 600), "^1024,", (1024, 768)),
        ((800, 600), "^,768", (1024, 768)),
        ((800, 600), "^!1024,1024", (1024, 768)),
        ((90, 60), "!100,100", (90, 60)),
        ((3, 7000), "!100,100", (1, 100)),
        ((1, 1), 100, (1, 1)),
        ((1200, 900), 400, (400, 300)),
        ((1200, 900), "400", (400, 300)),
    ],
)
def test_a_policy_entry_gives_the_known_size(
    dimensions: Dimensions, entry: int | str, expected: Dimensions
) -> None:
    assert thumbnail_size(dimensions, entry) == expected


@pytest.mark.parametrize("entry", ["1000,", "^1000,", "^!99999,99999"])
def test_no_thumbnail_of_a_long_strip_is_longer_than_a_jpeg_can_be(entry: str) -> None:
    assert max(thumbnail_size((1000, 70_000), entry)) == MAX_THUMBNAIL_EDGE


WRONG = "max full pct:50 400,300 ^400,300 ! , !400, !,400 0 0, !0,5 -5 4e2 100000 ٤, ^ square"


@pytest.mark.parametrize("entry", WRONG.split())
def test_an_entry_that_distorts_or_does_not_parse_is_refused(entry: str) -> None:
    with pytest.raises(InvalidInput, match="thumbnail size"):
        thumbnail_size((1200, 900), entry)


@pytest.mark.parametrize("entry", [0, -1, 10**9])
def test_a_number_that_is_not_a_valid_edge_is_refused(entry: int) -> None:
    with pytest.raises(InvalidInput):
        thumbnail_size((1200, 900), entry)


def test_the_sizes_of_a_policy_are_distinct_and_largest_first() -> None:
    assert thumbnail_sizes((1200, 900), [100, 400, "400,", "!400,400", 1000, 200]) == [
        (1000, 750),
        (400, 300),
        (200, 150),
        (100, 75),
    ]


def test_an_image_smaller_than_all_entries_has_one_thumbnail() -> None:
    assert thumbnail_sizes((1, 1), [1000, 400, 200, 100]) == [(1, 1)]
    assert thumbnail_sizes((90, 60), [1000, 400, 200, 100]) == [(90, 60)]
