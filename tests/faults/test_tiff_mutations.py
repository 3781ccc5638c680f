"""Changed tags, types, counts and bytes of small TIFF files of all kinds: each file is a picture,
or refused as damaged, unsupported or too large. Probe and renderer see the same picture, the second
answer is that of the first, and no decode worker ends.
"""

from __future__ import annotations

import asyncio
import io
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import Damaged, OrchestratorError, TooLarge, Unsupported
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support import tiff_files as tiffs

RAMPS = tiffs.ramps(96, 80)
RGB = tiffs.integers(RAMPS, 8)
HALF = np.ascontiguousarray(RGB[::2, ::2])
TILES = {"tile": (32, 32), "photometric": "rgb"}
REFUSALS = (Damaged, Unsupported, TooLarge)
_VALUES = (0, 1, 2, 3, 5, 6, 7, 8, 9, 16, 17, 32, 64, 255, 2**16 - 1, 2**31, 2**32 - 1)


def _pyramid(path: Path) -> Path:
    levels = [(RGB, TILES), (HALF, {**TILES, "subfiletype": 1})]
    return tiffs.write_pages(path, levels)


def _jpeg_pyramid(path: Path) -> Path:
    """Tile-ready: whole tiles are handed on as they are stored."""
    jpeg = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64)}
    return tiffs.write_pages(path, [(RGB, {**jpeg, "subifds": 1}), (HALF, jpeg)])


def _old_jpeg(path: Path) -> Path:
    body = tiffs.jpeg_bytes(RGB)
    tags = {**tiffs.basic_tags(96, 80, 6, compression=6), 513: (4, 8), 514: (4, len(body))}
    path.write_bytes(tiffs.assemble(tags, [body]))
    return path


def _ycbcr(path: Path) -> Path:
    data, tags = tiffs.subsampled_ycbcr(RGB, 2, 2)
    path.write_bytes(tiffs.assemble(tags, [data]))
    return path


def _lzw(path: Path) -> Path:
    return tiffs.write(path, RGB, photometric="rgb", compression="lzw", predictor=True)


def _planes(path: Path) -> Path:
    return tiffs.write(path, RGB, planarconfig="separate", compression="zlib", **TILES)


def _floats(path: Path) -> Path:
    return tiffs.write(path, RAMPS.astype(np.float32), photometric="rgb", rowsperstrip=16)


def _twelve_bits(path: Path) -> Path:
    array = tiffs.integers(RAMPS[..., :1], 12)
    return tiffs.write(path, array, photometric="minisblack", bitspersample=12)


def _lab(path: Path) -> Path:
    return tiffs.write(path, RGB, photometric=8, planarconfig="contig")


def _jpeg2000(path: Path) -> Path:
    return tiffs.write(path, RGB, photometric="rgb", compression="jpeg2000")


def _palette(path: Path) -> Path:
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256) * 85
    return tiffs.write(path, RGB[..., 0], photometric="palette", colormap=colours)


SEEDS: tuple[Callable[[Path], Path], ...] = (
    _pyramid,
    _jpeg_pyramid,
    _old_jpeg,
    _ycbcr,
    _lzw,
    _planes,
    _floats,
    _twelve_bits,
    _lab,
    _jpeg2000,
    _palette,
)


def mutate(body: bytes, chance: random.Random) -> bytes:
    """`body` (a classic little-endian TIFF) with one to three changes."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        kind = chance.random()
        if kind < 0.75:
            _change_entry(changed, chance)
        elif kind < 0.9:
            at = chance.randrange(8, len(changed))
            changed[at] = chance.randrange(256)
        else:
            del changed[chance.randrange(8, len(changed)) :]
    return bytes(changed)


def _change_entry(body: bytearray, chance: random.Random) -> None:
    """Change the tag, type, count or value of one entry of the first directory."""
    (start,) = struct.unpack_from("<I", body, 4)
    if start + 2 > len(body):
        return
    (count,) = struct.unpack_from("<H", body, start)
    entry = start + 2 + 12 * chance.randrange(max(1, count))
    field, code = chance.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "I")))
    if entry + 12 <= len(body):
        value = chance.choice(_VALUES) % (2**16 if code == "H" else 2**32)
        struct.pack_into("<" + code, body, entry + field, value)


@pytest.fixture(scope="module")
def pool() -> Iterator[ImagingPool]:
    """One worker, so that a worker that ends is noticed."""
    pool = ImagingPool(Imaging(processes=1, threads=1, max_pixels=20_000_000))
    yield pool
    asyncio.run(pool.close())


async def verdict(pool: ImagingPool, path: Path) -> str:
    """The name of the refusal, or the size of the picture."""
    try:
        probe = await pool.probe(path)
        for size in (probe.dimensions, (max(1, probe.width // 2), max(1, probe.height // 2))):
            await pool.render(a_recipe(path, probe, size=size))
        if min(probe.dimensions) >= 64:
            tile = {"region": (0, 0, 64, 64), "size": (64, 64), "format": "jpg"}
            body = await pool.render(a_recipe(path, probe, **tile))
            assert Image.open(io.BytesIO(body)).size == (64, 64)
    except OrchestratorError as error:
        assert isinstance(error, REFUSALS), f"{type(error).__name__}: {error.public}"
        return error.code
    return f"{probe.width}x{probe.height}"


async def check_mutations(pool: ImagingPool, folder: Path, seed: int, count: int) -> None:
    bodies = [make(folder / f"{make.__name__}.tif").read_bytes() for make in SEEDS]
    chance = random.Random(seed)
    for n in range(count):
        path = folder / "mutant.tif"
        path.unlink(missing_ok=True)
        path.write_bytes(mutate(bodies[n % len(bodies)], chance))
        name = f"mutation {n} of seed {seed} ({SEEDS[n % len(bodies)].__name__})"
        first, second = await verdict(pool, path), await verdict(pool, path)
        assert first == second, name


async def test_a_changed_tiff_is_a_picture_or_refused_and_always_the_same(
    pool: ImagingPool, tmp_path: Path
) -> None:
    await check_mutations(pool, tmp_path, seed=1, count=132)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.timeout(1800)
async def test_thousands_of_changed_tiffs(pool: ImagingPool, tmp_path: Path, seed: int) -> None:
    await check_mutations(pool, tmp_path, seed=seed, count=1000)
