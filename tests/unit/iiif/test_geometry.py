"""Regions, sizes, limits and canonical forms for known images."""

from __future__ import annotations

from fractions import Fraction

import pytest

from orchestrator.errors import InvalidImageRequest
from orchestrator.iiif.geometry import Limits, decoded_pixels
from orchestrator.iiif.scale import Dimensions, fit_within, fit_within_area, round_half_up, scaled
from tests.unit.iiif.resolving import resolve_text


@pytest.mark.parametrize(
    ("region", "box", "whole"),
    [
        ("full", (0, 0, 1200, 900), True),
        ("0,0,1200,900", (0, 0, 1200, 900), True),
        ("0,0,5000,5000", (0, 0, 1200, 900), True),
        ("pct:0,0,100,100", (0, 0, 1200, 900), True),
        ("pct:0,0,200,200", (0, 0, 1200, 900), True),
        ("square", (150, 0, 900, 900), False),
        ("10,20,300,200", (10, 20, 300, 200), False),
        ("1100,850,500,500", (1100, 850, 100, 50), False),
        ("1199,899,1,1", (1199, 899, 1, 1), False),
        ("pct:10,10,20,20", (120, 90, 240, 180), False),
        ("pct:0.5,90.5,50,50", (6, 815, 600, 85), False),
        ("pct:0,0,0.01,0.01", (0, 0, 1, 1), False),
        ("pct:99.999,99.999,10,10", (1199, 899, 1, 1), False),
    ],
)
def test_a_region_past_the_edge_is_cropped_to_the_image(
    region: str, box: tuple[int, int, int, int], whole: bool
) -> None:
    resolved = resolve_text(f"{region}/max")
    assert (resolved.region, resolved.full_region) == (box, whole)


def test_the_square_of_a_square_image_is_the_whole_image() -> None:
    assert resolve_text("square/max", dimensions=(300, 300)).full_region
    assert resolve_text("square/max", dimensions=(300, 300)).canonical == "full/max/0/default.jpg"


@pytest.mark.parametrize(
    "region", ["1200,0,10,10", "0,900,10,10", "pct:100,0,10,10", "pct:0,100,1,1", "5000,5000,1,1"]
)
@pytest.mark.parametrize("version", [2, 3])
def test_a_region_that_starts_outside_the_image_is_refused(version: int, region: str) -> None:
    with pytest.raises(InvalidImageRequest, match="region") as refused:
        resolve_text(f"{region}/10,", version)
    assert refused.value.parameter == "region"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("full/333,", (333, 250)),
        ("full/,211", (281, 211)),
        ("full/pct:12.5", (150, 113)),
        ("full/150,220", (150, 220)),
        ("full/!240,200", (240, 180)),
        ("full/!2000,200", (267, 200)),
        ("full/max", (1200, 900)),
        ("full/1200,900", (1200, 900)),
        ("0,0,1,700/1,", (1, 700)),
        ("0,0,700,3/7,", (7, 1)),
        ("0,0,700,3/,1", (233, 1)),
        ("0,0,3,700/pct:1", (1, 7)),
        ("full/pct:0.00001", (1, 1)),
        ("full/1,1", (1, 1)),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_a_size_is_resolved_to_the_same_pixels_in_both_versions(
    version: int, text: str, size: Dimensions
) -> None:
    assert resolve_text(text, version).size == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0,0,100,80/^200,", (200, 160)),
        ("0,0,100,80/^,160", (200, 160)),
        ("0,0,100,80/^300,90", (300, 90)),
        ("0,0,100,80/^pct:150", (150, 120)),
        ("0,0,100,80/^!200,200", (200, 160)),
        ("0,0,100,80/^!50,200", (50, 40)),
        ("0,0,100,80/!200,200", (100, 80)),
        ("0,0,100,80/!200,40", (50, 40)),
        ("0,0,100,80/^max", (400, 320)),
        ("0,0,100,80/^!9999,9999", (400, 320)),
    ],
)
def test_version_three_enlarges_only_with_the_caret(text: str, size: Dimensions) -> None:
    assert resolve_text(text).size == size


@pytest.mark.parametrize("size", ["200,", ",90", "101,80", "50,81", "200,200"])
def test_version_three_refuses_a_size_above_the_region_without_the_caret(size: str) -> None:
    with pytest.raises(InvalidImageRequest, match=r"size .* \^") as refused:
        resolve_text(f"0,0,100,80/{size}")
    assert refused.value.parameter == "size"


@pytest.mark.parametrize(
    ("size", "expected"),
    [("200,", (200, 160)), ("pct:150", (150, 120)), ("300,90", (300, 90)), ("!200,200", (100, 80))],
)
def test_version_two_enlarges_to_a_size_that_names_a_number(
    size: str, expected: Dimensions
) -> None:
    assert resolve_text(f"0,0,100,80/{size}", 2).size == expected


@pytest.mark.parametrize(("version", "size"), [(2, "401,"), (3, "^401,"), (3, "^10,321")])
def test_enlarging_has_a_limit(version: int, size: str) -> None:
    with pytest.raises(InvalidImageRequest, match="4 times"):
        resolve_text(f"0,0,100,80/{size}", version)


NARROW = Limits(max_width=500, max_height=400, max_area=90_000)


@pytest.mark.parametrize(
    ("limits", "text", "size"),
    [
        (NARROW, "full/max", (346, 260)),
        (NARROW, "full/^max", (346, 260)),
        (Limits(500, 400), "full/max", (500, 375)),
        (Limits(500, 300), "full/max", (400, 300)),
        (NARROW, "full/!480,480", (346, 260)),
        (NARROW, "0,0,1200,10/max", (500, 4)),
        (NARROW, "0,0,100,100/^max", (300, 300)),
        (Limits(500, 400, 10), "full/max", (3, 2)),
        (Limits(500, 400, 1), "full/max", (1, 1)),
    ],
)
def test_max_and_confined_sizes_are_scaled_to_the_limits(
    limits: Limits, text: str, size: Dimensions
) -> None:
    assert resolve_text(text, limits=limits).size == size


@pytest.mark.parametrize(
    ("size", "limit"), [("501,", "maxWidth"), ("500,401", "maxHeight"), ("500,200", "maxArea")]
)
@pytest.mark.parametrize("version", [2, 3])
def test_a_size_above_a_limit_is_refused_and_the_error_names_the_limit(
    version: int, size: str, limit: str
) -> None:
    with pytest.raises(InvalidImageRequest, match=limit):
        resolve_text(f"full/{size}", version, limits=NARROW)


def test_version_twos_full_is_never_scaled() -> None:
    assert resolve_text("full/full", 2).size == (1200, 900)
    with pytest.raises(InvalidImageRequest, match="Or write max"):
        resolve_text("full/full", 2, limits=NARROW)


def test_the_setting_refuse_refuses_a_box_larger_than_the_region_as_the_validator_expects() -> None:
    refuse = Limits(oversize_confined="refuse")
    square = (1000, 1000)
    with pytest.raises(InvalidImageRequest, match=r"\^!w,h"):
        resolve_text("full/!2000,3000", dimensions=square, limits=refuse)
    assert resolve_text("full/!2000,500", dimensions=square, limits=refuse).size == (500, 500)
    assert resolve_text("full/!1000,2000", dimensions=square, limits=refuse).size == square
    assert resolve_text("full/^!2000,3000", dimensions=square, limits=refuse).size == (2000, 2000)
    assert resolve_text("full/^max", dimensions=square, limits=refuse).size == square
    assert resolve_text("full/!2000,3000", 2, dimensions=square, limits=refuse).size == square


@pytest.mark.parametrize(
    ("version", "text", "canonical"),
    [
        (3, "0,0,1200,900/max/0/default.jpg", "full/max/0/default.jpg"),
        (2, "0,0,1200,900/full/0/default.jpg", "full/full/0/default.jpg"),
        (2, "full/max/0/default.jpg", "full/full/0/default.jpg"),
        (3, "full/1200,900/0/default.jpg", "full/max/0/default.jpg"),
        (3, "0,0,512,512/256,/0/default.jpg", "0,0,512,512/256,256/0/default.jpg"),
        (2, "0,0,512,512/256,/0/default.jpg", "0,0,512,512/256,/0/default.jpg"),
        (2, "0,0,512,512/256,256/0/default.jpg", "0,0,512,512/256,/0/default.jpg"),
        (3, "0,0,512,256/pct:50/0/default.jpg", "0,0,512,256/256,128/0/default.jpg"),
        (2, "0,0,512,256/pct:50/0/default.jpg", "0,0,512,256/256,/0/default.jpg"),
        (3, "1100,850,500,500/50,25/0/default.jpg", "1100,850,100,50/50,25/0/default.jpg"),
        (3, "full/300,/0.0/default.jpg", "full/300,225/0/default.jpg"),
        (3, "full/300,/90.0/color.jpg", "full/300,225/90/default.jpg"),
        (2, "full/100,300/0/gray.png", "full/100,300/0/gray.png"),
        (3, "full/300,/!.50/bitonal.png", "full/300,225/!0.5/bitonal.png"),
        (3, "full/300,/360/default.jpg", "full/300,225/0/default.jpg"),
        (3, "full/300,/!360/default.jpg", "full/300,225/!0/default.jpg"),
        (3, "full/^!600,600/0/default.jpg", "full/600,450/0/default.jpg"),
        (3, "0,0,100,80/^200,/0/default.jpg", "0,0,100,80/^200,160/0/default.jpg"),
        (3, "0,0,100,80/^400,/0/default.jpg", "0,0,100,80/^max/0/default.jpg"),
        (3, "square/90,/0/default.jpg", "150,0,900,900/90,90/0/default.jpg"),
    ],
)
def test_the_canonical_form_follows_the_version(version: int, text: str, canonical: str) -> None:
    assert resolve_text(text, version).canonical == canonical


@pytest.mark.parametrize(
    "spellings",
    [
        [
            "full/300,",
            "full/300,225",
            "0,0,1200,900/,225",
            "full/pct:25",
            "pct:0,0,100,100/!300,300",
        ],
        ["0,0,600,450/max", "pct:0,0,50,50/600,450", "0,0,600,450/pct:100"],
        ["full/300,/0/color.jpg", "full/300,/360/default.jpg", "full/300,/0.0/default.jpg"],
    ],
)
def test_the_same_pixels_have_the_same_product_in_every_spelling(spellings: list[str]) -> None:
    products = {
        resolve_text(spelling, version).product for spelling in spellings for version in (2, 3)
    }
    assert len(products) == 1


def test_the_product_is_written_in_pixels() -> None:
    assert (
        resolve_text("full/300,/!22.50/gray.webp").product == "0,0,1200,900/300,225/!22.5/gray.webp"
    )


@pytest.mark.parametrize(
    ("dimensions", "size", "expected"),
    [
        ((1024, 651), "!200,100", (157, 100)),
        ((651, 1024), "!200,100", (64, 100)),
        ((1024, 651), "!100,200", (100, 64)),
        ((651, 1024), "!400,300", (191, 300)),
        ((1024, 651), "200,", (200, 127)),
        ((651, 1024), "200,", (200, 315)),
        ((1024, 651), ",200", (315, 200)),
        ((1024, 651), "127,", (127, 81)),
        ((651, 1024), ",127", (81, 127)),
        ((1024, 651), "!180,180", (180, 114)),
        ((1024, 651), "!500,500", (500, 318)),
        ((1024, 1024), "!400,300", (300, 300)),
        ((1024, 651), "150,150", (150, 150)),
        ((1024, 651), "!1200,1200", (1024, 651)),
    ],
)
def test_sizes_are_rounded_half_up_and_confined_by_the_side_that_reaches_the_box_first(
    dimensions: Dimensions, size: str, expected: Dimensions
) -> None:
    assert resolve_text(f"full/{size}", dimensions=dimensions).size == expected


@pytest.mark.parametrize(
    ("dimensions", "expected"), [((1024, 651), (2000, 1271)), ((651, 1024), (2000, 3146))]
)
def test_version_two_enlarges_to_a_width_above_the_image(
    dimensions: Dimensions, expected: Dimensions
) -> None:
    assert resolve_text("full/2000,", 2, dimensions=dimensions).size == expected


@pytest.mark.parametrize(
    ("value", "pixels"), [("0.01", 1), ("0.5", 1), ("1.5", 2), ("2.5", 3), ("2.49", 2), ("3", 3)]
)
def test_halves_are_rounded_up_and_nothing_is_below_one_pixel(value: str, pixels: int) -> None:
    exact = Fraction(value)
    assert round_half_up(exact) == pixels
    assert scaled(1, exact.numerator, exact.denominator) == pixels


def test_fitting_keeps_the_ratio_inside_the_box() -> None:
    assert fit_within((1000, 900), (400, 200)) == (222, 200)
    assert fit_within((90, 60), (900, 900)) == (900, 600)
    assert fit_within_area((1_000_000, 1), (1_000_000, 1), 100) == (100, 1)
    assert fit_within_area((1, 1_000_000), (1, 1_000_000), 100) == (1, 100)


def test_decoding_is_counted_at_the_smallest_level_that_is_large_enough() -> None:
    assert decoded_pixels(resolve_text("full/300,"), levels=5) == 300 * 225
    assert decoded_pixels(resolve_text("full/300,"), levels=1) == 600 * 450
    assert decoded_pixels(resolve_text("full/301,"), levels=5) == 600 * 450
    assert decoded_pixels(resolve_text("full/max"), levels=5) == 1200 * 900
