"""Regions, sizes, mirroring, rotation, qualities and formats, compared with numpy and Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, assert_alike, decode, reference
from tests.support import pictures

W, H = 1001, 703
SOURCES = (
    pictures.jpeg,
    pictures.progressive_jpeg,
    pictures.png,
    pictures.webp,
    pictures.tiff,
    pictures.multi_page_tiff,
    pictures.jp2_tiled,
    pictures.jp2_untiled,
    pictures.pyramid_tiff,
)
CUTS = {
    "the whole picture, smaller": ((0, 0, W, H), (333, 234)),
    "the whole picture, tiny": ((0, 0, W, H), (10, 7)),
    "the whole picture, larger": ((0, 0, W, H), (1502, 1055)),
    "a region as it is": ((113, 59, 200, 300), (200, 300)),
    "a region at an odd position and scale": ((113, 59, 611, 402), (173, 114)),
    "a distorted region": ((300, 100, 400, 400), (50, 350)),
    "the last pixel": ((1000, 702, 1, 1), (1, 1)),
    "one row": ((0, 351, W, 1), (500, 1)),
    "one pixel, much larger": ((500, 350, 1, 1), (64, 64)),
    "the lower right corner, halved": ((777, 511, 224, 192), (112, 96)),
}


@pytest.mark.parametrize("maker", SOURCES, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize(("region", "size"), CUTS.values(), ids=CUTS.keys())
async def test_a_region_at_a_size_looks_like_that_part_of_the_picture(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    maker: Callable[..., Path],
    region: tuple[int, int, int, int],
    size: tuple[int, int],
) -> None:
    path = gallery(maker, W, H)
    probe = await pool.probe(path)
    body = await pool.render(a_recipe(path, probe, region=region, size=size))
    expected = reference(pictures.pattern(W, H), region, size)
    # A single pixel has no neighbours to average a lossy error with.
    assert_alike(decode(body), expected, mean=12.0 if region[2:] == (1, 1) else 5.0, p99=40.0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "cut",
    ["the whole picture, smaller", "a region at an odd position and scale", "a region as it is"],
)
async def test_all_eight_exif_orientations_give_the_same_picture(
    pool: ImagingPool, tmp_path: Path, orientation: int, cut: str
) -> None:
    path = pictures.with_orientation(tmp_path / "o.jpg", W, H, orientation)
    probe = await pool.probe(path)
    assert probe.dimensions == (W, H)
    assert probe.orientation == orientation
    region, size = CUTS[cut]
    body = await pool.render(a_recipe(path, probe, region=region, size=size))
    assert_alike(decode(body), reference(pictures.pattern(W, H), region, size), mean=4.0)


@pytest.mark.parametrize(("angle", "turns"), [(90, 3), (180, 2), (270, 1)])
@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("maker", [pictures.png, pictures.pyramid_tiff], ids=["png", "pyramid"])
async def test_mirroring_comes_before_a_clockwise_rotation(
    pool: ImagingPool,
    gallery: Callable[..., Path],
    maker: Callable[..., Path],
    mirror: bool,
    angle: int,
    turns: int,
) -> None:
    path = gallery(maker, 257, 255)
    recipe = a_recipe(path, await pool.probe(path), mirror=mirror, rotation=float(angle))
    truth = pictures.pattern(257, 255)
    expected = np.rot90(truth[:, ::-1] if mirror else truth, turns)
    assert_alike(decode(await pool.render(recipe)), expected)


@pytest.mark.parametrize("output", ["jpg", "png", "webp", "tif", "gif", "avif"])
async def test_a_rotation_by_any_angle_encloses_the_picture_on_a_transparent_or_white_background(
    pool: ImagingPool, gallery: Callable[..., Path], output: str
) -> None:
    path = gallery(pictures.png, 200, 100)
    recipe = a_recipe(path, await pool.probe(path), rotation=30.0, format=output)
    image = Image.open(io.BytesIO(await pool.render(recipe)))
    wide = 200 * math.cos(math.pi / 6) + 100 * math.sin(math.pi / 6)
    high = 200 * math.sin(math.pi / 6) + 100 * math.cos(math.pi / 6)
    assert abs(image.width - wide) <= 2
    assert abs(image.height - high) <= 2
    corner = image.convert("RGBA").getpixel((1, 1))
    assert isinstance(corner, tuple)
    if output == "jpg":
        assert all(value > 250 for value in corner[:3])
    else:
        assert corner[3] == 0
    middle = np.asarray(image.convert("RGB"))[image.height // 2, image.width // 2].astype(int)
    assert np.abs(middle - pictures.pattern(200, 100)[50, 100]).max() < 60


@pytest.mark.parametrize("output", ["jpg", "png", "webp", "tif", "gif"])
@pytest.mark.parametrize("quality", ["default", "color", "gray", "bitonal"])
async def test_every_quality_is_encoded_in_every_format(
    pool: ImagingPool, gallery: Callable[..., Path], output: str, quality: str
) -> None:
    path = gallery(pictures.png, 257, 255)
    recipe = a_recipe(path, await pool.probe(path), quality=quality, format=output)
    image = Image.open(io.BytesIO(await pool.render(recipe)))
    assert image.size == (257, 255)
    truth = Image.fromarray(pictures.pattern(257, 255))
    if quality == "bitonal":
        assert set(np.unique(np.asarray(image.convert("L"))[10:100, 10:100] > 127)) <= {False, True}
        edges = np.asarray(image.convert("L"))
        assert ((edges < 40) | (edges > 215)).mean() > 0.97
    elif quality == "gray":
        assert_alike(np.asarray(image.convert("L")), luminance(np.asarray(truth)), mean=6.0)
        assert image.mode in ("L", "RGB", "P")
    else:
        assert_alike(np.asarray(image.convert("RGB")), np.asarray(truth), mean=6.0, p99=48.0)


def luminance(srgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray of the same luminance (Rec. 709, in linear light), as libvips computes it."""
    linear = (srgb / 255.0) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    gray: NDArray[np.uint8] = np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8)
    return gray


async def test_a_bitonal_png_has_one_bit_for_each_pixel(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.png, 257, 255)
    body = await pool.render(a_recipe(path, await pool.probe(path), quality="bitonal"))
    assert body[24:26] == b"\x01\x00"


async def test_gray_stays_one_band(pool: ImagingPool, gallery: Callable[..., Path]) -> None:
    path = gallery(pictures.gray_jpeg, 257, 255)
    for output, mode in (("jpg", "L"), ("png", "L"), ("tif", "L")):
        recipe = a_recipe(path, await pool.probe(path), format=output)
        assert Image.open(io.BytesIO(await pool.render(recipe))).mode == mode


async def test_a_tile_has_no_metadata(pool: ImagingPool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    path = pictures.jpeg(tmp_path / "m.jpg", 200, 100, exif=exif, comment=b"secret comment")
    probe = await pool.probe(path)
    for output in ("jpg", "png", "webp", "tif", "gif"):
        assert b"secret" not in await pool.render(a_recipe(path, probe, format=output))


async def test_the_two_size_forms_of_a_tile_read_the_same_level(
    gallery: Callable[..., Path],
) -> None:
    probe_levels = 4
    wide = {"dimensions": (8001, 6001), "levels": probe_levels, "path": "-", "kind": "jpeg2000"}
    from orchestrator.imaging import Recipe

    edge = Recipe(region=(4096, 4096, 3905, 1905), size=(489, 239), **wide)  # type: ignore[arg-type]
    inner = Recipe(region=(0, 0, 4096, 4096), size=(512, 512), **wide)  # type: ignore[arg-type]
    assert edge.reduction == inner.reduction == 3
