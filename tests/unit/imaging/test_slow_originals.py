"""Originals that cannot be served well as they are: they are recognised, and decoded once for all
requests that come before their conversion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import pyvips

from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.slow_originals import NO_SMALL_LEVEL, TOO_LARGE_TO_KEEP
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support import jp2_files as jp2
from tests.support import pictures
from tests.support.patience import patience

LIMITED = Imaging(processes=2, threads=1, memory_limit=1024**3, siblings=False)
"""A worker keeps 64 MB of decoded pixels, that is 16 megapixels."""
LARGE, SMALL = (5000, 4000), (500, 400)
SLOW_DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" width="1400" height="1400">
<filter id="f"><feTurbulence type="turbulence" baseFrequency="0.05" numOctaves="10"/></filter>
<rect width="1400" height="1400" filter="url(#f)"/></svg>"""
"""Two megapixels that take more than a second."""


def picture(size: tuple[int, int]) -> pyvips.Image:
    """A pattern of any size, quickly."""
    block = pyvips.Image.new_from_array(pictures.pattern(500, 400)).copy(interpretation="srgb")
    return block.replicate(size[0] // 500, size[1] // 400)


def png(path: Path, size: tuple[int, int]) -> None:
    """Decoded from the top only."""
    path.write_bytes(picture(size).pngsave_buffer(compression=1))


def strips(path: Path, size: tuple[int, int]) -> None:
    """A TIFF in strips, decoded from the top only."""
    path.write_bytes(picture(size).tiffsave_buffer(compression="lzw"))


def tiles(path: Path, size: tuple[int, int]) -> None:
    """A TIFF in tiles without levels: tiles are fast, an overview needs all of them."""
    path.write_bytes(picture(size).tiffsave_buffer(tile=True, compression="lzw"))


def pyramid(path: Path, size: tuple[int, int]) -> None:
    """A TIFF that is tile-ready."""
    path.write_bytes(picture(size).tiffsave_buffer(tile=True, pyramid=True, compression="jpeg"))


def jpeg2000(path: Path, size: tuple[int, int], *options: str, palette: bytes = b"") -> None:
    """A flat picture: its levels count, not its pixels."""
    flat = np.ones((size[1], size[0]), np.uint8)
    stream = jp2.codestream(path.with_name("flat.j2k"), [flat], "-t", "512,512", *options)
    path.write_bytes(jp2.wrap(stream, jp2.colour(jp2.SRGB if palette else jp2.GRAY), palette))


def jpeg2000_with_offset(path: Path, size: tuple[int, int]) -> None:
    """Its small levels do not begin at whole samples."""
    jpeg2000(path, size, "-d", "37,53")


def jpeg2000_with_palette(path: Path, size: tuple[int, int]) -> None:
    """Its small levels are means of indices, not of colours."""
    jpeg2000(path, size, palette=jp2.palette([(0, 0, 0), (255, 0, 0)]))


@pytest.mark.parametrize(
    ("make", "size", "reason"),
    [
        (jpeg2000, LARGE, ""),
        (jpeg2000_with_offset, LARGE, NO_SMALL_LEVEL),
        (jpeg2000_with_palette, LARGE, NO_SMALL_LEVEL),
        (jpeg2000_with_palette, SMALL, ""),
        (png, LARGE, TOO_LARGE_TO_KEEP),
        (png, SMALL, ""),
        (strips, LARGE, TOO_LARGE_TO_KEEP),
        (tiles, LARGE, NO_SMALL_LEVEL),
        (tiles, SMALL, ""),
        (pyramid, LARGE, ""),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_an_original_that_cannot_be_served_well_says_why(
    tmp_path: Path, make: Callable[[Path, tuple[int, int]], None], size: tuple[int, int],
    reason: str,
) -> None:  # fmt: skip
    make(tmp_path / "a", size)
    pool = ImagingPool(LIMITED)
    try:
        assert (await pool.probe(tmp_path / "a")).needs_conversion == reason
    finally:
        await pool.close()


async def test_concurrent_requests_of_a_large_original_share_one_decode(tmp_path: Path) -> None:
    png(tmp_path / "a", LARGE)
    one = sum(await seconds_to_cut(tmp_path / "a", parts=1))
    many = sum(await seconds_to_cut(tmp_path / "a", parts=8))
    assert many < 2.5 * one


async def test_a_slow_original_is_decoded_once_for_requests_that_come_meanwhile(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_text(SLOW_DRAWING)
    # The pause is too long for the others to be given to a worker together with the first.
    seconds = sorted(await seconds_to_cut(tmp_path / "a", parts=5, pause_s=0.1))
    assert seconds[-2] < seconds[-1] / 4  # one worker decodes it, the other one does not


async def test_a_picture_larger_than_the_budget_is_kept_for_the_next_request(
    tmp_path: Path,
) -> None:
    png(tmp_path / "a", LARGE)
    pool = ImagingPool(Imaging(processes=1, threads=1, memory_limit=768 * 1024**2))
    try:
        facts = await pool.probe(tmp_path / "a")
        recipes = [
            a_recipe(tmp_path / "a", facts, region=(n, n, 256, 256), size=(256, 256))
            for n in range(4)
        ]
        await pool.render(recipes[0])  # its 60 MB are more than the 48 that a worker keeps
        first = sum(processor_seconds(pool).values())
        for recipe in recipes[1:]:
            await pool.render(recipe)
        assert sum(processor_seconds(pool).values()) - first < 0.2
    finally:
        await pool.close()


async def seconds_to_cut(path: Path, *, parts: int, pause_s: float = 0.0) -> list[float]:
    """Processor time of each worker while so many tiles are cut, each requested `pause_s` after the
    one before.
    """
    pool = ImagingPool(LIMITED)
    try:
        facts = await pool.probe(path)
        pool.start_tile_workers()
        async with asyncio.timeout(60 * patience()):
            while len(pool.pids) < 3:  # two for tiles, and that of the probe
                await asyncio.sleep(0.01)
        before = processor_seconds(pool)
        requests = []
        for n in range(parts):
            recipe = a_recipe(path, facts, region=(256 * n, 256 * n, 256, 256), size=(256, 256))
            requests.append(asyncio.create_task(pool.render(recipe)))
            await asyncio.sleep(pause_s)
        assert all(await asyncio.gather(*requests))
        after = processor_seconds(pool)
        return [after[pid] - before[pid] for pid in before]
    finally:
        await pool.close()


def processor_seconds(pool: ImagingPool) -> dict[int, float]:
    """Processor time that each worker of the pool has used, by its process id."""
    return {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids}
