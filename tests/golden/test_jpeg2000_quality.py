"""Each tile of a lossy JPEG2000 file has the quality of its policy: dark, flat and noisy ones too.

opj_decompress decodes the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.imaging import FAST_HIGHER, FAST_LOSSY, ConversionPolicy
from orchestrator.imaging.jpeg2000.tile_parts import read_prefix_lengths
from orchestrator.imaging.pool import ImagingPool
from tests.support import jp2_files as jp2

TILE = 512
LAST = 200
"""Width of the tiles in the last column."""
ALLOWED_DB, ALLOWED_BIAS = 0.5, 0.5


def tiles() -> dict[str, Any]:
    """Tiles that OpenJPEG's rate control gets wrong, and some that it gets right."""
    chance = np.random.default_rng(1)
    y, x = np.mgrid[0:TILE, 0:TILE].astype(float)

    def noise(mean: tuple[int, ...], deviation: float) -> Any:
        return np.array(mean) + chance.normal(0, deviation, (TILE, TILE, 3))

    def flat(*colour: int) -> Any:
        return np.broadcast_to(np.array(colour, float), (TILE, TILE, 3))

    half = np.array(flat(8, 8, 8))
    half[:, TILE // 2 :] = noise((128, 128, 128), 40)[:, TILE // 2 :]
    spot = np.array(flat(7, 7, 7))
    spot[200:210, 200:210] = 250
    return {
        "black": flat(0, 0, 0),
        "dark": flat(6, 6, 6),
        "dark blue": flat(5, 9, 14),
        "red": flat(200, 20, 30),
        "very dark noise": noise((8, 8, 8), 0.5),
        "dark noise": noise((12, 10, 9), 2),
        "noise": noise((120, 110, 90), 5),
        "strong noise": noise((120, 110, 90), 30),
        "gradient": np.stack([x / 4, y / 4, (x + y) / 8], -1),
        "slow gradient": np.stack([x / 64 + 5, y / 64 + 5, (x + y) / 128 + 5], -1),
        "half flat, half noise": half,
        "dark with a spot": spot,
    }


def squares() -> list[tuple[str, slice, slice]]:
    """(name, rows, columns) of each tile in the picture, which has four tiles in a row."""
    names = list(tiles())
    return [
        (
            name,
            slice(n // 4 * TILE, n // 4 * TILE + TILE),
            slice(n % 4 * TILE, n % 4 * TILE + (TILE if n % 4 < 3 else LAST)),
        )
        for n, name in enumerate(names)
    ]


def picture() -> Any:
    array = np.zeros((3 * TILE, 3 * TILE + LAST, 3), np.uint8)
    for (_, rows, columns), tile in zip(squares(), tiles().values(), strict=True):
        content = np.clip(tile, 0, 255).round().astype(np.uint8)
        array[rows, columns] = content[:, : columns.stop - columns.start]
    return array


@pytest.mark.parametrize("policy", [FAST_LOSSY, FAST_HIGHER], ids=lambda policy: policy.name)
async def test_each_tile_has_the_quality_and_the_brightness_of_the_original(
    pool: ImagingPool, tmp_path: Path, policy: ConversionPolicy
) -> None:
    truth = picture()
    original, made = tmp_path / "a.png", tmp_path / "made.jp2"
    Image.fromarray(truth).save(original, compress_level=1)
    await pool.convert(original, made, policy)
    decoded = jp2.decompressed(made)
    for name, rows, columns in squares():
        errors = decoded[rows, columns].astype(float) - truth[rows, columns]
        psnr = 10 * np.log10(255**2 / max(np.mean(errors**2), 1e-9))
        bias = np.abs(errors.mean(axis=(0, 1))).max()
        assert psnr >= policy.psnr - ALLOWED_DB, (name, psnr)
        assert bias <= ALLOWED_BIAS, (name, bias)
    with made.open("rb") as file:
        assert read_prefix_lengths(file)  # replaced tiles are sorted by resolution, too
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "made.jp2", "made.opj.png"]


async def test_a_gray_picture_with_transparency_has_the_quality_too(
    pool: ImagingPool, tmp_path: Path
) -> None:
    gray, opacity = np.full((600, 700), 6, np.uint8), np.full((600, 700), 9, np.uint8)
    opacity[100:200, 100:200] = 250
    original, made = tmp_path / "a.png", tmp_path / "made.jp2"
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(opacity)]).save(original)
    await pool.convert(original, made, FAST_LOSSY)
    decoded = jp2.decompressed(made).astype(float)
    assert np.abs(decoded[..., 0] - gray).mean() < 0.5
    assert np.abs(decoded[..., 1] - opacity).mean() < 0.5
