"""Converted sources and thumbnails look like their originals, and their headers are correct."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.iiif.thumbnail_sizes import thumbnail_sizes
from orchestrator.imaging import FAST_LOSSY, FASTEST, MAX_QUALITY, ConversionPolicy
from orchestrator.imaging import POLICIES as BUILT_IN
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.model import SourceKind
from tests.golden.comparison import a_recipe, advertised_tiles, assert_alike, decode, reference
from tests.support import pictures

POLICIES = pytest.mark.parametrize("policy", BUILT_IN.values(), ids=lambda policy: policy.name)


@POLICIES
@pytest.mark.parametrize(
    "size",
    [(1, 1), (3, 7), (257, 255), (1025, 700)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
async def test_every_tile_of_a_converted_picture_is_that_part_of_the_original(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    tmp_path: Path,
    policy: ConversionPolicy,
    size: tuple[int, int],
) -> None:
    original = await pool.probe(gallery(pictures.png, *size))
    target = tmp_path / f"source.{policy.extension}"
    source = await pool.convert(gallery(pictures.png, *size), target, policy)
    assert (source.kind, source.dimensions) == (policy.kind, size)
    assert source.tile_width == policy.tile
    if policy is FASTEST:  # the info document must be the same before and after
        assert (source.tile_width, source.tile_height, source.levels) == (
            original.tile_width, original.tile_height, original.levels,
        )  # fmt: skip
    truth = pictures.pattern(*size)
    for region, tile in advertised_tiles(source):
        body = await pool.render(a_recipe(target, source, region=region, size=tile))
        assert_alike(decode(body), reference(truth, region, tile), mean=6.0, p99=60.0)


@POLICIES
@pytest.mark.parametrize("size", [(3, 7000), (7000, 3)], ids=str)
async def test_a_very_narrow_picture_becomes_tile_ready(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path, policy: ConversionPolicy,
    size: tuple[int, int],
) -> None:  # fmt: skip
    target = tmp_path / "source"
    source = await pool.convert(gallery(pictures.png, *size), target, policy)
    assert (source.kind, source.dimensions) == (policy.kind, size)
    actual = decode(await pool.render(a_recipe(target, source)))
    assert_alike(actual, pictures.pattern(*size), mean=6.0, p99=60.0)
    for region, tile in advertised_tiles(source):
        body = await pool.render(a_recipe(target, source, region=region, size=tile, format="jpg"))
        assert decode(body).shape[:2] == tile[::-1]


@POLICIES
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_converted_picture_is_upright(
    pool: ImagingPool, tmp_path: Path, policy: ConversionPolicy, orientation: int
) -> None:
    path = pictures.with_orientation(tmp_path / "o.jpg", 301, 203, orientation)
    target = tmp_path / "source"
    source = await pool.convert(path, target, policy)
    assert (source.dimensions, source.orientation) == ((301, 203), 1)
    actual = decode(await pool.render(a_recipe(target, source)))
    assert_alike(actual, pictures.pattern(301, 203), mean=6.0, p99=40.0)
    assert [f.name for f in tmp_path.iterdir() if "upright" in f.name] == []


@POLICIES
async def test_transparency_is_kept_by_a_conversion(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path, policy: ConversionPolicy
) -> None:
    target = tmp_path / "source"
    source = await pool.convert(gallery(pictures.alpha_png, 300, 200), target, policy)
    assert source.has_alpha
    actual = decode(await pool.render(a_recipe(target, source)))
    truth = pictures.alpha(300, 200)
    assert np.abs(actual[..., 3].astype(int) - truth[..., 3])[:, 160:].max() <= 6
    if policy is FASTEST:
        assert (actual == truth).all()


@POLICIES
@pytest.mark.parametrize(
    "maker",
    [pictures.png_16, pictures.gray_jpeg, pictures.cmyk_jpeg, pictures.palette_png,
     pictures.one_bit_tiff, pictures.one_bit_png, pictures.cmyk_tiff, pictures.tiff_16,
     pictures.gif, pictures.animated_gif, pictures.webp, pictures.svg, pictures.pdf],
    ids=lambda maker: maker.__name__,
)  # fmt: skip
async def test_every_kind_of_original_becomes_tile_ready(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    tmp_path: Path,
    policy: ConversionPolicy,
    maker: Callable[..., Path],
) -> None:
    path = gallery(maker, 300, 200)
    original = await pool.probe(path)
    target = tmp_path / "source"
    source = await pool.convert(path, target, policy)
    bits = original.bits if policy is MAX_QUALITY and original.bits == 16 else 8
    assert (source.kind, source.bits, source.dimensions) == (
        policy.kind,
        bits,
        original.dimensions,
    )
    direct = decode(await pool.render(a_recipe(path, original, format="jpg")))
    actual = decode(await pool.render(a_recipe(target, source, format="jpg")))
    assert_alike(actual, direct, mean=6.0, p99=60.0)


async def test_a_converted_file_has_no_metadata(pool: ImagingPool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    path = pictures.jpeg(tmp_path / "m.jpg", 300, 200, exif=exif)
    for policy in (FASTEST, FAST_LOSSY):
        target = tmp_path / policy.name
        await pool.convert(path, target, policy)
        assert b"secret" not in target.read_bytes()


@pytest.mark.parametrize(
    "maker", [pictures.jpeg, pictures.pyramid_tiff, pictures.jp2_tiled, pictures.alpha_png],
    ids=lambda maker: maker.__name__,
)  # fmt: skip
async def test_thumbnails_have_exactly_the_requested_sizes(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path, maker: Callable[..., Path]
) -> None:
    path = gallery(maker, 1001, 703)
    sizes = [(100, 70), (1001, 703), (400, 281), (200, 140)]
    paths = await pool.thumbnails(path, sizes, tmp_path)
    truth = pictures.pattern(1001, 703)
    for size, thumbnail in zip(sizes, paths, strict=True):
        with Image.open(thumbnail) as image:
            assert (image.format, image.size) == ("JPEG", size)
            if maker is not pictures.alpha_png:
                expected = reference(truth, (0, 0, 1001, 703), size)
                assert_alike(np.asarray(image), expected, mean=5.0, p99=40.0)


@POLICIES
@pytest.mark.parametrize(
    ("maker", "size"),
    [(pictures.jpeg, (1001, 703)), (pictures.alpha_png, (1201, 803)), (pictures.png_16, (601, 403)),
     (pictures.gray_jpeg, (2301, 1703)), (pictures.cmyk_jpeg, (601, 403)),
     (pictures.png, (3, 7000)), (pictures.png, (1, 1))],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
async def test_source_and_thumbnails_come_from_one_decode(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    tmp_path: Path,
    policy: ConversionPolicy,
    maker: Callable[..., Path],
    size: tuple[int, int],
) -> None:
    path = gallery(maker, *size)
    sizes = tuple(thumbnail_sizes(size, [400, "!200,150", 100, "^!300,300"]))
    request = ThumbnailRequest(sizes, tmp_path, 97)
    source, paths = await pool.convert_with_thumbnails(path, tmp_path / "source", policy, request)
    assert source.dimensions == size
    assert len(paths) == len(sizes) >= 1
    original = await pool.probe(path)
    for thumbnail_size, thumbnail in zip(sizes, paths, strict=True):
        with Image.open(thumbnail) as image:
            assert image.size == thumbnail_size
            actual = np.asarray(image)
        recipe = a_recipe(path, original, size=thumbnail_size, format="jpg")
        assert_alike(actual, decode(await pool.render(recipe)), mean=5.0, p99=24.0)


async def test_thumbnails_are_upright(pool: ImagingPool, tmp_path: Path) -> None:
    path = pictures.with_orientation(tmp_path / "o.jpg", 301, 203, 6)
    (thumbnail,) = await pool.thumbnails(path, [(150, 101)], tmp_path)
    with Image.open(thumbnail) as image:
        expected = reference(pictures.pattern(301, 203), (0, 0, 301, 203), (150, 101))
        assert_alike(np.asarray(image), expected, mean=5.0)


async def test_a_tile_ready_file_is_recognised_after_conversion(
    pool: ImagingPool, gallery: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "source.tif"
    await pool.convert(gallery(pictures.png, 1001, 703), target, FASTEST)
    assert (await pool.probe(target)).kind is SourceKind.PYRAMID_TIFF
