"""Arithmetic and header reading that need no libvips."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from orchestrator.errors import DecodeTimeout, Overloaded, SourceChanged, TooLarge, Unprocessable
from orchestrator.imaging.formats.file_type import sniff
from orchestrator.imaging.jpeg2000.jp2_layout import read_header
from orchestrator.imaging.recipes import Recipe, pyramid_levels, reduction
from orchestrator.imaging.render import stored_region
from orchestrator.model import SourceKind
from tests.support import pictures


@pytest.mark.parametrize(
    ("region", "size", "levels", "expected"),
    [
        pytest.param((4096, 4096), (512, 512), 5, 3, id="a tile at scale 8"),
        pytest.param((873, 512), (437, 256), 5, 1, id="an edge tile rounded up"),
        pytest.param((873, 512), (438, 256), 5, 0, id="one pixel more than the level has"),
        pytest.param((512, 512), (512, 512), 5, 0, id="full scale"),
        pytest.param((512, 512), (600, 600), 5, 0, id="enlarged"),
        pytest.param((8192, 6144), (100, 75), 2, 2, id="no more than the file has"),
        pytest.param((4096, 100), (64, 50), 9, 1, id="the axis that needs more decides"),
        pytest.param((1, 1), (1, 1), 9, 9, id="one pixel is one pixel at any scale"),
    ],
)
def test_the_coarsest_level_with_enough_pixels_is_read(
    region: tuple[int, int], size: tuple[int, int], levels: int, expected: int
) -> None:
    assert reduction(region, size, levels) == expected


@pytest.mark.parametrize(
    ("size", "tile", "levels"),
    [
        ((256, 256), 256, 0),
        ((257, 1), 256, 1),
        ((1001, 703), 256, 2),
        ((12000, 9000), 512, 5),
        ((1, 1), 256, 0),
    ],
)
def test_a_pyramid_ends_at_the_level_that_fits_one_tile(
    size: tuple[int, int], tile: int, levels: int
) -> None:
    assert pyramid_levels(size, tile) == levels


def test_a_region_of_an_oriented_picture_is_mapped_to_the_file() -> None:
    for orientation in range(1, 9):
        dimensions = (30, 20)
        stored = (20, 30) if orientation >= 5 else dimensions
        assert stored_region((0, 0, 30, 20), dimensions, orientation) == (0, 0, *stored)
        x, y, w, h = stored_region((3, 4, 5, 6), dimensions, orientation)
        assert 0 <= x <= stored[0] - w
        assert 0 <= y <= stored[1] - h


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"<!DOCTYPE html><html><body><svg></svg>", id="html with a drawing inside"),
        pytest.param(b"BM\x00\x00", id="bmp"),
        pytest.param(b"\x00\x00\x01\x00", id="ico"),
        pytest.param(b"%!PS-Adobe", id="postscript"),
        pytest.param(b"push graphic-context", id="mvg"),
        pytest.param(b"8BPS", id="photoshop"),
        pytest.param(b"#?RADIANCE", id="radiance"),
        pytest.param(b"P6\n1 1\n255\n", id="ppm"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8", id="two bytes of a jpeg"),
        pytest.param(b" " * 4096, id="blanks"),
        pytest.param(b"<?xml" + b"<!--" * 900, id="endless comment"),
    ],
)
def test_an_unsupported_format_is_refused_by_its_first_bytes(head: bytes) -> None:
    with pytest.raises(Unprocessable):
        sniff(head)


def test_an_svg_is_recognised_after_its_preamble() -> None:
    preamble = b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- one --><!-- two -->\n'
    assert sniff(preamble + b'<!DOCTYPE svg PUBLIC "a" "b">\n<svg>') == "svg"


def test_tiles_and_levels_are_read_from_the_codestream_header(tmp_path: Path) -> None:
    tiled = read_header(pictures.jp2_tiled(tmp_path / "a", 1001, 703, tile=256)).stream
    assert (tiled.dimensions, tiled.tile, tiled.tiled) == ((1001, 703), (256, 256), True)
    whole = read_header(pictures.jp2_untiled(tmp_path / "b", 1001, 703)).stream
    assert (whole.tile, whole.tiled, whole.levels) == ((1001, 703), False, 5)


def test_a_codestream_with_an_incomplete_header_is_refused(tmp_path: Path) -> None:
    body = pictures.jp2_untiled(tmp_path / "a", 64, 64).read_bytes()
    end = body.index(b"\xff\x90")
    for length in range(12, end, 5):
        (tmp_path / "cut").write_bytes(body[:length])
        with pytest.raises(Unprocessable):
            read_header(tmp_path / "cut")


def test_recipes_and_errors_are_unchanged_by_pickling() -> None:
    recipe = Recipe("/a", SourceKind.ORIGINAL, (10, 10), 0, (0, 0, 10, 10), (5, 5))
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    for error in (
        Unprocessable("a"),
        DecodeTimeout("a"),
        TooLarge("a"),
        SourceChanged("a"),
        Overloaded("a", 2.0),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.public) == (type(error), "a")
