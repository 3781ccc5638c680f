"""The JPEG2000 files that we write: low resolutions are in a prefix, the quality is that of the
policy, and other programs read them.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from orchestrator.errors import DecodeTimeout, Unavailable, Unprocessable
from orchestrator.imaging import FAST_HIGHER, FAST_LOSSY, MAX_QUALITY, POLICIES, ConversionPolicy
from orchestrator.imaging.jpeg2000.jp2_layout import read_header
from orchestrator.imaging.jpeg2000.tile_parts import (
    END_OF_CODESTREAM,
    TilePart,
    prefix_lengths,
    read_prefix_lengths,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.model import SourceKind
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe, assert_alike, decode, reference
from tests.support import pictures
from tests.support.reference_servers import iipsrv
from tests.support.scenes import write_png
from tests.support.serve_process import fetch

SIZE = (1601, 1203)
JPEG2000 = [policy for policy in POLICIES.values() if policy.kind is SourceKind.JPEG2000]
EACH = pytest.mark.parametrize("policy", JPEG2000, ids=lambda policy: policy.name)
LAYOUTS = pytest.mark.parametrize(
    "policy",
    [FAST_LOSSY, replace(FAST_LOSSY, tile=0), replace(FAST_LOSSY, tile=1024), MAX_QUALITY],
    ids=["512", "in one piece", "1024", "lossless"],
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `convert_scene`."""
    return tmp_path_factory.mktemp("converted")


async def convert_scene(
    pool: ImagingPool, gallery: Callable[..., Path], folder: Path, policy: ConversionPolicy
) -> Path:
    """A scene of SIZE, converted by `policy`; once in a folder."""
    target = folder / f"{policy.name}-{policy.tile}.jp2"
    if not target.exists():
        await pool.convert(gallery(write_png, *SIZE), target, policy)
    return target


def truth_of(gallery: Callable[..., Path]) -> Any:
    """The pixels that `convert_scene` should give."""
    return np.asarray(Image.open(gallery(write_png, *SIZE)))


def pixels(path: Path, reduction: int = 0) -> Any:
    """What libvips reads of a whole file (since 8.16 it refuses a prefix). It runs in another
    process, because the loader is not allowed in this one.
    """
    out = path.with_name("pixels.tif")
    source = f"{path}[page={reduction},fail_on=error]"
    subprocess.run(["vips", "copy", source, out], check=True, capture_output=True)
    result = pyvips.Image.tiffload(str(out)).numpy()
    out.unlink()
    return result


def psnr(actual: Any, expected: Any) -> float:
    """In dB, of 8-bit samples."""
    error = np.mean((actual.astype(float) - expected) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@LAYOUTS
async def test_a_prefix_of_the_file_decodes_to_the_same_pixels_at_each_reduction(
    pool: ImagingPool, gallery: Callable[..., Path], converted: Path, tmp_path: Path,
    policy: ConversionPolicy,
) -> None:  # fmt: skip
    path = await convert_scene(pool, gallery, converted, policy)
    body = path.read_bytes()
    lengths = read_prefix_lengths(io.BytesIO(body))
    levels = read_header(path).stream.levels
    assert len(lengths) == levels + 1 >= 4
    assert lengths[0] == len(body) - len(END_OF_CODESTREAM)
    assert list(lengths) == sorted(lengths, reverse=True)
    assert lengths[levels] < len(body) // 20
    for n in range(1, levels + 1):
        prefix = tmp_path / f"prefix-{n}.jp2"
        prefix.write_bytes(body[: lengths[n]] + END_OF_CODESTREAM)
        whole = pixels(path, n)
        out = tmp_path / f"{n}.png"
        subprocess.run(
            ["opj_decompress", "-allow-partial", "-i", prefix, "-o", out, "-r", str(n)],
            check=True,
            capture_output=True,
        )
        assert (np.asarray(Image.open(out)) == whole).all()


async def test_the_first_kilobytes_list_where_each_resolution_ends(
    pool: ImagingPool, gallery: Callable[..., Path], converted: Path
) -> None:
    path = await convert_scene(pool, gallery, converted, FAST_LOSSY)
    with path.open("rb") as file:
        whole = read_prefix_lengths(file)
    assert whole
    assert read_prefix_lengths(io.BytesIO(path.read_bytes()[:4096])) == whole


@pytest.mark.parametrize(
    "maker", [pictures.jp2_tiled, pictures.jp2_untiled], ids=lambda maker: maker.__name__
)
def test_a_file_without_tile_parts_by_resolution_has_no_prefixes(
    tmp_path: Path, maker: Callable[..., Path]
) -> None:
    path = maker(tmp_path / "a.jp2", 1200, 900)
    with path.open("rb") as file:
        assert read_prefix_lengths(file) == ()


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(0, 0), (0, 1)],
        [(0, 1), (0, 0), (0, 2)],
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
    ],
    ids=["none", "too few", "out of order", "too many", "of too many tiles"],
)
def test_tile_parts_that_do_not_separate_resolutions_give_no_prefix(
    tmp_path: Path, parts: list[tuple[int, int]]
) -> None:
    path = pictures.jp2_untiled(tmp_path / "a.jp2", 200, 100)
    stream = read_header(path).stream
    assert (stream.levels, stream.progression) == (2, 2)
    placed = [TilePart(tile, number, 100 * n, 100) for n, (tile, number) in enumerate(parts)]
    assert prefix_lengths(placed, stream) == ()
    right = [TilePart(0, number, 100 * number, 100) for number in range(3)]
    assert prefix_lengths(right, stream) == (300, 200, 100)


def test_false_tile_part_lengths_give_no_prefix(tmp_path: Path) -> None:
    body = pictures.jp2_untiled(tmp_path / "a.jp2", 200, 100).read_bytes()
    at = body.index(b"\xff\x90")
    for size in (0, 5, 2**32 - 1):
        lying = body[: at + 6] + size.to_bytes(4, "big") + body[at + 10 :]
        assert read_prefix_lengths(io.BytesIO(lying)) == ()
    assert read_prefix_lengths(io.BytesIO(body[: at + 12])) == ()
    with pytest.raises(Unprocessable):
        read_prefix_lengths(io.BytesIO(body[: at - 30]))


@EACH
async def test_a_picture_has_the_quality_of_its_policy(
    pool: ImagingPool, gallery: Callable[..., Path], converted: Path, policy: ConversionPolicy
) -> None:
    truth = truth_of(gallery)
    actual = pixels(await convert_scene(pool, gallery, converted, policy))
    if policy.lossless:
        assert (actual == truth).all()
    else:
        assert policy.psnr - 1.5 <= psnr(actual, truth) <= policy.psnr + 1.5


async def test_a_policy_of_higher_quality_makes_larger_files(
    pool: ImagingPool, gallery: Callable[..., Path], converted: Path
) -> None:
    sizes = []
    for policy in (FAST_LOSSY, FAST_HIGHER, MAX_QUALITY):
        sizes.append((await convert_scene(pool, gallery, converted, policy)).stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("maker", "space", "bands", "bits", "has_alpha"),
    [
        (pictures.png, 16, 3, 8, False),
        (pictures.gray_jpeg, 17, 1, 8, False),
        (pictures.alpha_png, 16, 4, 8, True),
        (pictures.png_16, 16, 3, 16, False),
    ],
    ids=["colour", "gray", "transparency", "16 bits"],
)
async def test_the_header_describes_the_components(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    tmp_path: Path,
    maker: Callable[..., Path],
    space: int,
    bands: int,
    bits: int,
    has_alpha: bool,
) -> None:
    target = tmp_path / "made.jp2"
    probe = await pool.convert(gallery(maker, 700, 500), target, MAX_QUALITY)
    assert (probe.bands, probe.bits, probe.has_alpha) == (bands, bits, has_alpha)
    header = target.read_bytes()[:400]
    colour = header.index(b"colr")
    assert header[colour + 4] == 1  # an enumerated space
    assert int.from_bytes(header[colour + 7 : colour + 11], "big") == space
    assert (b"cdef" in header) is has_alpha
    dump = subprocess.run(
        ["opj_dump", "-i", target], check=True, capture_output=True, text=True
    ).stdout
    assert "prg=2" in dump.replace("0x", "")  # RPCL
    assert "RPCL" in dump or "prg=" in dump
    assert f"numcomps={bands}" in dump
    assert b"\xff\x58" in target.read_bytes()  # PLT
    assert b"\xff\x55" in header  # TLM


async def test_sixteen_bits_are_kept_by_the_lossless_policy_and_served_in_eight(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    path, target = gallery(pictures.png_16, 300, 200), tmp_path / "made.jp2"
    probe = await pool.convert(path, target, MAX_QUALITY)
    assert (pixels(target) == pictures.deep(300, 200)).all()
    tile = decode(await pool.render(a_recipe(target, probe, format="jpg")))
    assert_alike(tile, pictures.pattern(300, 200))


async def test_transparency_is_exact_when_lossless(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "made.jp2"
    await pool.convert(gallery(pictures.alpha_png, 700, 500), target, MAX_QUALITY)
    assert (pixels(target) == pictures.alpha(700, 500)).all()


@LAYOUTS
async def test_iipsrv_and_opj_decompress_read_our_files(
    pool: ImagingPool, gallery: Callable[..., Path], converted: Path, tmp_path: Path,
    policy: ConversionPolicy,
) -> None:  # fmt: skip
    path = await convert_scene(pool, gallery, converted, policy)
    truth = truth_of(gallery)
    out = tmp_path / "whole.png"
    subprocess.run(["opj_decompress", "-i", path, "-o", out], check=True, capture_output=True)
    assert_alike(np.asarray(Image.open(out)), truth)
    with iipsrv(converted, processes=1, quality=97) as address:
        for region, size in (
            ((0, 0, 512, 512), (512, 512)),
            ((512, 512, 512, 512), (512, 512)),
            ((1024, 0, 577, 512), (577, 512)),
            ((0, 0, *SIZE), (200, 150)),
        ):
            x, y, w, h = region
            url = f"{address}/{path.name}/{x},{y},{w},{h}/{size[0]},{size[1]}/0/default.jpg"
            answer = await asyncio.to_thread(fetch, url)
            assert answer.status == 200
            assert_alike(decode(answer.body), reference(truth, region, size), mean=5, p99=50)


@pytest.mark.parametrize("size", [(1, 1), (3, 7000), (7000, 3), (63, 65), (513, 1025)], ids=str)
@EACH
async def test_pictures_of_unusual_sizes_are_decoded_to_the_same_pixels(
    pool: ImagingPool, tmp_path: Path, policy: ConversionPolicy, size: tuple[int, int]
) -> None:
    original, target = pictures.png(tmp_path / "a.png", *size), tmp_path / "made.jp2"
    probe = await pool.convert(original, target, policy)
    assert probe.dimensions == size
    assert_alike(pixels(target), pictures.pattern(*size), mean=2, p99=12)
    with target.open("rb") as file:
        assert read_prefix_lengths(file)


@pytest.mark.parametrize("rows", [7, 28, 100, 513])
async def test_a_tiff_with_strips_of_any_height_is_converted(
    pool: ImagingPool, tmp_path: Path, rows: int
) -> None:
    original, target = tmp_path / "a.tif", tmp_path / "made.jp2"
    image = Image.fromarray(pictures.pattern(*SIZE))
    image.save(original, "TIFF", compression="tiff_lzw", tiffinfo={278: rows})
    probe = await pool.convert(original, target, MAX_QUALITY)
    assert probe.dimensions == SIZE
    assert (pixels(target) == pictures.pattern(*SIZE)).all()


async def test_an_incomplete_original_leaves_no_files(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    whole = gallery(pictures.png, *SIZE)
    cut = pictures.truncated(tmp_path / "cut.png", whole, 0.6)
    with pytest.raises(Unprocessable):
        await pool.convert(cut, tmp_path / "made.jp2", FAST_LOSSY)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.png"]


async def test_an_encoding_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    original = pictures.png(tmp_path / "a.png", 4000, 3000)
    pool = ImagingPool(Imaging(processes=1, convert_timeout_s=0.2))
    try:
        await pool.probe(original)  # the worker has started
        # On a busy machine the worker, which has a low priority, hardly runs: that is Unavailable.
        with pytest.raises((DecodeTimeout, Unavailable)):
            await pool.convert(original, tmp_path / "made.jp2", MAX_QUALITY)
        assert not (tmp_path / "made.jp2").exists()
        await pool.probe(original)
    finally:
        await pool.close()
