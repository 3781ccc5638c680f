"""A stored tile is handed on undecoded only if its samples are those of the answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import Unsupported
from orchestrator.imaging import Recipe
from orchestrator.imaging.tiff.pyramid import read_picture
from orchestrator.imaging.tiff.stored_tiles import StoredTiles
from orchestrator.model import SourceKind
from tests.support import tiff_files as tiffs

SIDE = 64
RGB = tiffs.integers(tiffs.ramps(SIDE, SIDE), 8)
GRAY = RGB[..., 0]
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def stored(path: Path, tile: bytes, photometric: int, **tags: Any) -> bytes | None:
    """What is handed on of a file with this one tile."""
    bits = [8] * (1 if photometric < 2 else 3)
    every = {
        **tiffs.basic_tags(SIDE, SIDE, photometric, bits=bits, compression=7),
        322: (tiffs.SHORT, SIDE),
        323: (tiffs.SHORT, SIDE),
        **tags.get("tags", {}),
    }
    del every[278]
    path.write_bytes(tiffs.assemble(every, [tile], places=tiffs.TILES))
    recipe = Recipe(
        path=str(path),
        kind=SourceKind.PYRAMID_TIFF,
        dimensions=(SIDE, SIDE),
        levels=0,
        region=(0, 0, SIDE, SIDE),
        size=(SIDE, SIDE),
    )
    tiles = StoredTiles(str(path), read_picture(path))
    try:
        return tiles.read_jpeg(recipe)
    finally:
        tiles.close()


def without_head(jpeg: bytes) -> bytes:
    """A JPEG without its JFIF segment, as in a TIFF."""
    assert jpeg[2:4] == b"\xff\xe0"
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]


def without(jpeg: bytes, marker: int) -> bytes:
    """A JPEG without its segments of this marker."""
    result, offset = jpeg[:2], 2
    while jpeg[offset + 1] != 0xDA:
        end = offset + 2 + int.from_bytes(jpeg[offset + 2 : offset + 4], "big")
        result += b"" if jpeg[offset + 1] == marker else jpeg[offset:end]
        offset = end
    return result + jpeg[offset:]


def rgb_jpeg(transform: int = 0) -> bytes:
    """A JPEG whose three components are RGB."""
    body = tiffs.jpeg_bytes(RGB, subsampling="4:4:4", keep_rgb=True)
    assert body[2:4] == ADOBE[:2]
    return body[:2] + ADOBE + bytes((transform,)) + body[2 + 16 :]


CASES = [
    pytest.param(without_head(tiffs.jpeg_bytes(RGB)), 6, {}, True, id="YCbCr"),
    pytest.param(tiffs.jpeg_bytes(RGB), 6, {}, True, id="YCbCr with a JFIF segment"),
    pytest.param(without_head(tiffs.jpeg_bytes(GRAY)), 1, {}, True, id="gray"),
    pytest.param(without_head(tiffs.jpeg_bytes(GRAY)), 0, {}, False, id="0 is white"),
    pytest.param(rgb_jpeg(), 2, {}, True, id="RGB"),
    pytest.param(rgb_jpeg(1), 2, {}, False, id="an Adobe segment contradicts RGB"),
    pytest.param(
        tiffs.jpeg_bytes(RGB, subsampling="4:4:4"), 2, {}, False, id="JFIF contradicts RGB"
    ),
    pytest.param(without(tiffs.jpeg_bytes(RGB), 0xC4), 6, {}, False, id="no Huffman tables"),
    pytest.param(
        without_head(tiffs.jpeg_bytes(RGB, comment=b"private")), 6, {}, False, id="a comment"
    ),
    pytest.param(without_head(tiffs.jpeg_bytes(GRAY)), 6, {}, False, id="gray as YCbCr"),
    pytest.param(without_head(tiffs.jpeg_bytes(RGB)), 1, {}, False, id="YCbCr as gray"),
    pytest.param(
        without_head(tiffs.jpeg_bytes(RGB, progressive=True)), 6, {}, False, id="progressive"
    ),
    pytest.param(without_head(tiffs.jpeg_bytes(RGB)), 6, {284: (3, 2)}, False, id="planes"),
    pytest.param(without_head(tiffs.jpeg_bytes(RGB)), 6, {274: (3, 6)}, False, id="turned"),
    pytest.param(
        without_head(tiffs.jpeg_bytes(RGB)), 6, {34675: (7, b"profile")}, False, id="profile"
    ),
    pytest.param(
        without_head(tiffs.jpeg_bytes(RGB[:32])), 6, {}, False, id="half of the rows are missing"
    ),
    pytest.param(
        without_head(tiffs.jpeg_bytes(RGB)),
        6,
        {347: (7, tiffs.jpeg_bytes(GRAY)[:200] + b"\xff\xd9")},
        False,
        id="more than tables in the shared tables",
    ),
]


@pytest.mark.parametrize(("tile", "photometric", "tags", "expected"), CASES)
def test_only_a_tile_whose_components_are_those_of_the_answer_is_handed_on(
    tmp_path: Path, tile: bytes, photometric: int, tags: dict[int, Any], expected: bool
) -> None:
    try:
        body = stored(tmp_path / "t.tif", tile, photometric, tags=tags)
    except Unsupported:  # YCbCr in separate planes
        body = None
    assert (body is not None) == expected
    if body is not None:
        pixels = np.asarray(Image.open(io.BytesIO(body)))
        assert np.abs(pixels.astype(int) - (GRAY if photometric == 1 else RGB)).max() < 24


def test_the_four_components_of_cmyk_are_never_handed_on(tmp_path: Path) -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    body = io.BytesIO()
    cmyk.save(body, "JPEG")
    tags = {258: (3, [8] * 4), 277: (3, 4)}
    for photometric, extras in ((5, {}), (2, {338: (3, 2)})):
        path = tmp_path / f"{photometric}.tif"
        assert stored(path, body.getvalue(), photometric, tags={**tags, **extras}) is None
