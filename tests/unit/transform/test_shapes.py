"""Region and size of a shape: the table of the original system, its returned originals, and bounds
for any parameters.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.transform.parameters import Parameters, parse_parameters
from orchestrator.transform.shapes import (
    Original,
    Picture,
    Point,
    Region,
    Shape,
    keeps_frames,
    needs_attention,
    output_format,
    plan_shape,
)
from tests.unit.transform.test_parameters import PARAMETERS

TALL, WIDE, SQUARE = Picture(500, 1000), Picture(1000, 500), Picture(1000, 1000)


def shape(text: str, picture: Picture, point: Point | None = None) -> Original | Shape:
    return plan_shape(parse_parameters(text), picture, point)


@pytest.mark.parametrize(
    ("picture", "text", "region", "size"),
    [
        (TALL, "width=400,height=400,fit=clip", (0, 0, 500, 1000), (200, 400)),
        # The scaled picture has 800 rows: 400 are cut off.
        (TALL, "width=400,height=400,fit=crop", (0, 500, 500, 500), (400, 400)),
        (TALL, "width=400,height=400,crop=top", (0, 500, 500, 500), (400, 400)),
        (TALL, "width=400,height=400,crop=bottom", (0, 0, 500, 500), (400, 400)),
        (TALL, "width=400,height=400,crop=left", (0, 250, 500, 500), (400, 400)),
        (TALL, "width=400,height=400,crop=right", (0, 250, 500, 500), (400, 400)),
        (TALL, "width=400,height=400,crop=center", (0, 250, 500, 500), (400, 400)),
        (TALL, "width=250", (0, 0, 500, 1000), (250, 500)),
        (TALL, "height=250", (0, 0, 500, 1000), (125, 250)),
        (WIDE, "width=400,height=400,crop=top", (250, 0, 500, 500), (400, 400)),
        (WIDE, "width=400,height=400,crop=bottom", (250, 0, 500, 500), (400, 400)),
        (WIDE, "width=400,height=400,crop=left", (500, 0, 500, 500), (400, 400)),
        (WIDE, "width=400,height=400,crop=right", (0, 0, 500, 500), (400, 400)),
        (SQUARE, "d2lkdGg9NTAwLGZpdD1jcm9wCg==", (0, 0, 1000, 1000), (500, 500)),
        (Picture(1001, 667), "width=100", (0, 0, 1001, 667), (100, 67)),
        (WIDE, "width=1", (0, 0, 1000, 500), (1, 1)),
        (Picture(2000, 1), "height=1,width=50,fit=clip", (0, 0, 2000, 1), (50, 1)),
        (TALL, "width=500,height=500,fit=clip", (0, 0, 500, 1000), (250, 500)),
        (TALL, "width=500,height=500", (0, 500, 500, 500), (500, 500)),
    ],
)
def test_a_shape_has_the_region_and_size_of_the_table(
    picture: Picture, text: str, region: Region, size: tuple[int, int]
) -> None:
    assert shape(text, picture) == Shape(region, size)


@pytest.mark.parametrize(
    ("focus", "top"),
    [
        ("0:0:0:0", 0),  # as without a focus
        ("100:100:200:450", 350),  # centred at (250, 500)
        ("100:100:200:0", 0),
        ("100:100:200:900", 700),
        ("1:1:9000:9000", 700),
        ("0:0:0:500", 350),
    ],
)
def test_the_centre_of_the_focus_becomes_the_centre_of_the_region(focus: str, top: int) -> None:
    found = shape(f"width=150,height=90,crop=focus,focus={focus}", TALL)
    assert found == Shape((0, top, 500, 300), (150, 90))


def test_a_crop_without_a_focus_keeps_the_upper_left_corner() -> None:
    assert shape("width=90,height=90,crop=focus", WIDE) == Shape((0, 0, 500, 500), (90, 90))


@pytest.mark.parametrize(
    ("point", "left"), [(None, 250), ((0, 0), 0), ((600, 20), 351), ((999, 499), 500)]
)
def test_a_smart_crop_is_around_the_point_of_attention(point: Point | None, left: int) -> None:
    found = shape("width=90,height=90,crop=smart", WIDE, point)
    assert found == Shape((left, 0, 500, 500), (90, 90))


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("width=90,height=90,crop=smart", True),
        ("width=90,height=45,crop=smart", False),
        ("width=90,crop=smart", False),
        ("width=90,height=90,crop=smart,fit=clip", False),
        ("width=5000,height=90,crop=smart", False),
        ("width=90,height=90,crop=center", False),
    ],
)
def test_attention_is_needed_where_a_smart_crop_cuts(text: str, needed: bool) -> None:
    assert needs_attention(parse_parameters(text), WIDE) is needed


ORIGINALS = [
    "width=0",
    "quality=50",
    "width=-1",
    "width=-5,height=100",
    "width=100,height=-5",
    "width=501",
    "width=100,height=1001",
    "width=501,height=100,fit=clip",
    "width=500,height=1000",
    "width=500",
    "height=1000",
    "width=500,height=1000,fit=clip",
    "width=65535",
    "width=99999999999999999999",
]
OTHERS = [
    "width=499",
    "width=500,height=999",
    "width=499,height=1000",
    "width=500,height=9,fit=clip",
]


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
def test_a_size_that_is_missing_negative_larger_or_the_same_gives_the_original(kind: str) -> None:
    picture = Picture(500, 1000, frames=3 if kind == "gif" else 1, format=kind)
    assert {text: shape(text, picture) for text in ORIGINALS} == dict.fromkeys(
        ORIGINALS, Original()
    )
    assert all(isinstance(shape(text, picture), Shape) for text in OTHERS)


def test_one_pixel_asked_at_65535_pixels_is_the_original() -> None:
    assert shape("width=65535,height=65535", Picture(1, 1)) == Original()


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (Picture(500, 1000, format="tiff"), "width=0"),
        (Picture(500, 1000, format="heif"), "width=500"),
        (Picture(500, 1000, format="jpeg"), "format=webp"),
        (Picture(500, 1000, format="png"), "width=5000,format=jpeg"),
        (Picture(500, 1000, frames=3, format="gif"), "frame=true"),
    ],
)
def test_an_original_that_is_not_what_was_asked_for_is_made_in_its_own_size(
    picture: Picture, text: str
) -> None:
    assert shape(text, picture) == Shape((0, 0, 500, 1000), (500, 1000))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("jpeg", "format=jpeg"),
        ("png", "format=png"),
        ("webp", "format=webp"),
        ("gif", "frame=true"),
    ],
)
def test_an_original_that_is_what_was_asked_for_is_returned(kind: str, text: str) -> None:
    assert shape(text, Picture(500, 1000, format=kind)) == Original()


@pytest.mark.parametrize(
    ("picture", "text", "expected", "frames"),
    [
        (Picture(9, 9, format="jpeg"), "width=1", "jpg", False),
        (Picture(9, 9, format="png"), "width=1", "png", False),
        (Picture(9, 9, 5, "gif"), "width=1", "gif", True),
        (Picture(9, 9, 5, "gif"), "width=1,frame=true", "gif", False),
        (Picture(9, 9, 1, "gif"), "width=1", "gif", False),
        (Picture(9, 9, 5, "gif"), "width=1,format=webp", "webp", True),
        (Picture(9, 9, 5, "gif"), "width=1,format=jpeg", "jpg", False),
        (Picture(9, 9, 5, "webp"), "width=1", "jpg", False),
        (Picture(9, 9, 5, "webp", has_alpha=True), "width=1", "png", False),
        (Picture(9, 9, 5, "tiff"), "width=1", "jpg", False),
        (Picture(9, 9, 1, "jpeg2000"), "width=1,format=avif", "avif", False),
    ],
)
def test_the_format_follows_the_parameters_and_then_the_original(
    picture: Picture, text: str, expected: str, frames: bool
) -> None:
    parameters = parse_parameters(text)
    assert output_format(parameters, picture) == expected
    assert keeps_frames(parameters, picture) is frames


@given(PARAMETERS, st.integers(1, 3000), st.integers(1, 3000), st.none() | st.tuples(
    st.integers(-9, 4000), st.integers(-9, 4000)))  # fmt: skip
def test_a_shape_lies_inside_the_picture_and_is_never_enlarged(
    parameters: Parameters, width: int, height: int, point: Point | None
) -> None:
    found = plan_shape(parameters, Picture(width, height), point)
    if isinstance(found, Original):
        return
    (x, y, w, h), size = found.region, found.size
    assert x >= 0
    assert y >= 0
    assert 1 <= size[0] <= w <= width - x
    assert 1 <= size[1] <= h <= height - y
    # The aspect ratio is kept to a pixel of the result.
    is_kept = abs(size[0] - w * size[1] / h) <= 1 or abs(size[1] - h * size[0] / w) <= 1
    assert is_kept or min(size) == 1
