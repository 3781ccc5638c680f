"""JPEG files without an end marker are whole, files that end earlier are damaged, and codings that
are not read are named.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging import FASTEST
from orchestrator.imaging.formats import jpeg_structure
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures

W, H = 520, 390
SIZES = [(W, H), (W // 2, H // 2), (W // 4, H // 4), (W // 8, H // 8)]


def _jpeg(mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    pictures.picture(W, H).convert(mode).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def _two_pictures() -> bytes:
    stream = io.BytesIO()
    first, second = pictures.picture(W, H), pictures.picture(W, H, 1)
    first.save(stream, "MPO", save_all=True, append_images=[second])
    return stream.getvalue()


def _with_thumbnail() -> bytes:
    """A JPEG whose EXIF has a thumbnail, with an end marker of its own."""
    thumbnail = io.BytesIO()
    pictures.picture(80, 60).save(thumbnail, "JPEG")
    exif = b"Exif\x00\x00" + thumbnail.getvalue()
    return _jpeg(exif=exif)


KINDS: dict[str, Callable[[], bytes]] = {
    "baseline": _jpeg,
    "progressive": lambda: _jpeg(progressive=True),
    "restart markers": lambda: _jpeg(restart_marker_blocks=7),
    "gray": lambda: _jpeg("L"),
    "CMYK": lambda: _jpeg("CMYK"),
    "thumbnail in EXIF": _with_thumbnail,
}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
async def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(
    pool: ImagingPool, tmp_path: Path, kind: str
) -> None:
    whole = tmp_path / "whole.jpg"
    whole.write_bytes(KINDS[kind]())
    assert whole.read_bytes().endswith(jpeg_structure.END)
    facts = await pool.probe(whole)
    for ending in (-2, -1):
        cut = tmp_path / f"cut{ending}.jpg"
        cut.write_bytes(whole.read_bytes()[:ending])
        assert await pool.probe(cut) == facts
        for size in SIZES:
            expected = await pool.render(a_recipe(whole, facts, size=size))
            assert await pool.render(a_recipe(cut, facts, size=size)) == expected
        await pool.convert(cut, tmp_path / "source.tif", FASTEST)


@kinds
@pytest.mark.parametrize("missing", [0.5, 0.1, 0.01, 20, 6])
async def test_a_jpeg_that_ends_in_its_coded_data_is_damaged_at_every_size(
    pool: ImagingPool, tmp_path: Path, kind: str, missing: float
) -> None:
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    body = KINDS[kind]()
    whole.write_bytes(body)
    facts = await pool.probe(whole)
    cut.write_bytes(body[: -int(missing if missing > 1 else missing * len(body))])
    for size in (SIZES[0], SIZES[3]):
        with pytest.raises(Damaged):
            await pool.render(a_recipe(cut, facts, size=size))
    corner = a_recipe(cut, facts, region=(0, 0, 64, 64), size=(64, 64))
    with pytest.raises(Damaged):
        await pool.render(corner)
    with pytest.raises(Damaged):
        await pool.convert(cut, tmp_path / "source.tif", FASTEST)


async def test_a_progressive_jpeg_that_ends_between_two_scans_is_damaged(
    pool: ImagingPool, tmp_path: Path
) -> None:
    body = _jpeg(progressive=True)
    scans = [at for at in range(len(body)) if body[at : at + 2] == b"\xff\xda"]
    tables = [body.rindex(b"\xff\xc4", 0, at) for at in scans]
    assert len(scans) > 4
    for end in tables[1:]:  # each scan follows its Huffman table
        (tmp_path / "cut.jpg").write_bytes(body[:end])
        with pytest.raises(Damaged):
            await pool.probe(tmp_path / "cut.jpg")


async def test_bytes_after_the_end_marker_are_ignored(pool: ImagingPool, tmp_path: Path) -> None:
    whole, more = tmp_path / "whole.jpg", tmp_path / "more.jpg"
    whole.write_bytes(_jpeg())
    facts = await pool.probe(whole)
    expected = await pool.render(a_recipe(whole, facts))
    for trailer in (b"\x00", bytes(200_000), b"text " * 30_000):
        more.write_bytes(whole.read_bytes() + trailer)
        assert await pool.render(a_recipe(more, facts)) == expected
        assert jpeg_structure.complete(more) is None


async def test_the_first_picture_of_a_file_with_two_is_shown(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "two.jpg"
    path.write_bytes(_two_pictures())
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path))))
    with Image.open(path) as first:
        assert np.abs(actual.astype(int) - np.asarray(first.convert("RGB"))).max() <= 2


@pytest.mark.parametrize(
    ("marker", "bits", "components", "words"),
    [
        pytest.param(0xC1, 12, 3, "12-bit samples", id="12 bits"),
        pytest.param(0xC3, 8, 3, "Lossless JPEG", id="lossless"),
        pytest.param(0xCB, 8, 1, "Lossless JPEG", id="lossless arithmetic"),
        pytest.param(0xC5, 8, 3, "Hierarchical JPEG", id="hierarchical"),
        pytest.param(0xF7, 8, 3, "JPEG-LS", id="JPEG-LS"),
        pytest.param(0xC0, 8, 2, "2 components", id="two components"),
    ],
)
async def test_a_coding_that_is_not_read_is_unsupported_and_named(
    pool: ImagingPool, tmp_path: Path, marker: int, bits: int, components: int, words: str
) -> None:
    body = _jpeg()
    at = body.index(b"\xff\xc0")
    frame = bytes((0xFF, marker, 0, 8 + 3 * components, bits)) + body[at + 5 : at + 9]
    frame += bytes((components,)) + body[at + 10 : at + 10 + 3 * components]
    path = tmp_path / "a.jpg"
    path.write_bytes(body[:at] + frame + body[at + 19 :])
    with pytest.raises(Unsupported, match=words):
        await pool.probe(path)


async def test_a_jpeg_without_a_scan_is_damaged(pool: ImagingPool, tmp_path: Path) -> None:
    body = _jpeg()
    for end in (2, 4, 30, body.index(b"\xff\xc0") + 6, body.index(b"\xff\xda") + 1):
        (tmp_path / "a.jpg").write_bytes(body[:end].ljust(4, b"\xff"))
        with pytest.raises(Damaged):
            await pool.render(a_recipe(tmp_path / "a.jpg", await pool.probe(tmp_path / "a.jpg")))
