"""What a client without access rights may see of a restricted image."""

from __future__ import annotations

import math

import pytest

from orchestrator.iiif.geometry import within_public_edge
from orchestrator.iiif.scale import Dimensions
from tests.unit.iiif.resolving import resolve_text


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("full/500,", True),
        ("full/!500,500", True),
        ("full/501,", False),
        ("full/max", False),
        ("full/100,500", True),
        ("full/100,501", False),
        ("0,0,512,512/128,", True),
        ("0,0,512,512/256,", False),
        ("0,0,10,10/1,", True),
        ("600,400,1,1/1,", False),
        ("600,0,1,900/1,375", False),
        ("0,0,1200,1/500,1", False),
        ("1024,768,176,132/44,33", True),
        ("0,0,100,100/^200,", False),
    ],
)
def test_the_scale_of_the_whole_image_decides(text: str, allowed: bool) -> None:
    assert within_public_edge(resolve_text(text), (1200, 900), 500) is allowed


def test_an_edge_as_long_as_the_image_allows_everything_and_an_edge_of_zero_nothing() -> None:
    assert within_public_edge(resolve_text("full/max"), (1200, 900), 1200)
    assert within_public_edge(resolve_text("full/^max"), (1200, 900), 5000)
    assert not within_public_edge(resolve_text("full/1,"), (1200, 900), 0)


@pytest.mark.parametrize("dimensions", [(2001, 1501), (1537, 2049), (1024, 1024), (4097, 3)])
@pytest.mark.parametrize("tile", [256, 512])
def test_every_tile_of_a_level_that_fits_the_edge_is_allowed(
    dimensions: Dimensions, tile: int
) -> None:
    width, height = dimensions
    for factor in (1, 2, 4, 8, 16):
        edge = math.ceil(max(dimensions) / factor)
        for x in range(0, width, tile * factor):
            for y in range(0, height, tile * factor):
                w, h = min(tile * factor, width - x), min(tile * factor, height - y)
                size = f"{math.ceil(w / factor)},{math.ceil(h / factor)}"
                resolved = resolve_text(f"{x},{y},{w},{h}/{size}", dimensions=dimensions)
                assert within_public_edge(resolved, dimensions, edge)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("full/max", (500, 375)),
        ("full/^max", (500, 375)),
        ("0,0,600,450/max", (249, 187)),
        ("0,0,512,512/max", (213, 213)),
        ("full/1000,", (1000, 750)),
    ],
)
def test_max_is_scaled_to_the_public_edge_and_other_sizes_are_not_changed(
    text: str, size: Dimensions
) -> None:
    resolved = resolve_text(text, public_edge=500)
    assert resolved.size == size
    if "max" in text:
        assert within_public_edge(resolved, (1200, 900), 500)


def test_the_canonical_form_of_a_public_max_names_its_size() -> None:
    assert resolve_text("full/max", public_edge=500).canonical == "full/500,375/0/default.jpg"
    assert resolve_text("full/max", 2, public_edge=500).canonical == "full/500,/0/default.jpg"
    assert resolve_text("full/max", public_edge=5000).canonical == "full/max/0/default.jpg"


def test_an_edge_of_zero_scales_nothing() -> None:
    assert resolve_text("full/max", public_edge=0).size == (1200, 900)
