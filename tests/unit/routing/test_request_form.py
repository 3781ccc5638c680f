"""The form of the requests to image servers, compared with what Cantaloupe decodes for it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.routing.image_servers.request_form import has_fast_form, request_path
from tests.support import cantaloupe_answers as cantaloupe

LEVELS = cantaloupe.MAX_REDUCTION
DIMENSIONS = (6000, 4001)


def resolved(path: str, dimensions: tuple[int, int] = DIMENSIONS) -> ResolvedImage:
    return resolve(parse_image_request(tuple(path.split("/")), 3), dimensions, Limits())


def decode_of(path: str, dimensions: tuple[int, int] = DIMENSIONS) -> cantaloupe.Decode:
    return cantaloupe.plan(cantaloupe.parse(3, path.split("/")), *dimensions)


@pytest.mark.parametrize(
    ("requested", "form"),
    [
        ("full/750,500/0/default.jpg", "full/750,/0/default.jpg"),
        ("0,0,4096,4001/512,500/0/default.jpg", "0,0,4096,4001/512,/0/default.jpg"),
        ("full/max/0/default.jpg", "full/6000,/0/default.jpg"),
        ("full/pct:25/0/default.jpg", "full/1500,/0/default.jpg"),
        ("pct:0,0,50,50/max/90/default.png", "0,0,3000,2001/3000,/90/default.png"),
        ("5120,1024,873,1024/437,512/0/default.jpg", "5120,1024,873,1024/,512/0/default.jpg"),
        ("0,3072,2048,929/1024,465/0/default.jpg", "0,3072,2048,929/1024,/0/default.jpg"),
    ],
)
def test_a_size_is_written_by_the_side_that_decodes_least(requested: str, form: str) -> None:
    assert request_path(resolved(requested)) == form
    assert has_fast_form(resolved(requested), LEVELS)
    assert not decode_of(form).is_wasteful


@pytest.mark.parametrize(
    "requested",
    [
        "full/100,300/0/default.jpg",
        "5120,3072,873,929/437,465/0/default.jpg",
        "0,0,1023,1025/512,513/0/default.jpg",
    ],
)
def test_what_would_be_decoded_at_needless_resolution_has_no_fast_form(requested: str) -> None:
    assert not has_fast_form(resolved(requested), LEVELS)
    assert decode_of(request_path(resolved(requested))).is_wasteful


SIDES = st.integers(1, 9000)


@given(width=SIDES, height=SIDES, tile=st.sampled_from((256, 512, 1024)), data=st.data())
def test_no_tile_with_a_fast_form_is_decoded_at_needless_resolution(
    width: int, height: int, tile: int, data: st.DataObject
) -> None:
    factor = 2 ** data.draw(st.integers(0, 6))
    span = tile * factor
    x = span * data.draw(st.integers(0, (width - 1) // span))
    y = span * data.draw(st.integers(0, (height - 1) // span))
    w, h = min(span, width - x), min(span, height - y)
    size = math.ceil(w / factor), math.ceil(h / factor)
    path = f"{x},{y},{w},{h}/{size[0]},{size[1]}/0/default.jpg"
    image = resolved(path, (width, height))
    decode = decode_of(request_path(image), (width, height))
    assert decode.size == size
    if has_fast_form(image, LEVELS):
        assert not decode.is_wasteful
    elif w == h == span:
        pytest.fail("a whole tile of the grid has a fast form")
