"""Measures when the pyramid of a slow source pays for itself: the processor time of a tile of the
source, of a tile of its pyramid, and of making the pyramid.

python -m loadtests.micro.bench_promotion [--tiles 24] [FILE ...]

There is one worker process, and the tiles are distinct ones of 512 pixels at full scale. Without
files, the large test images of the benchmarks are used. The setting `promotion.share` should not be
far below the last column.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from loadtests.collection import (
    converted_jpeg2000,
    harvest_jpeg,
    harvest_jpeg2000,
    large_jpeg2000,
    large_tiled_jpeg2000,
)
from orchestrator.imaging import FASTEST, Probe, Recipe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging

EDGE = 512


class Meter:
    """Processor seconds of this process and of the workers of a pool."""

    def __init__(self, pool: ImagingPool) -> None:
        self._pool = pool
        self._before = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._before = self._seconds()

    def stop(self) -> float:
        """The seconds since `start`."""
        return self._seconds() - self._before

    def _seconds(self) -> float:
        workers = (psutil.Process(pid) for pid in self._pool.pids)
        times = [each.cpu_times() for each in (psutil.Process(), *workers)]
        return float(sum(each.user + each.system for each in times))


def distinct_tiles(path: Path, probe: Probe, count: int) -> list[Recipe]:
    """Whole tiles at full scale, in a random order that is the same in each run."""
    columns, rows = probe.width // EDGE, probe.height // EDGE
    places = [(column, row) for column in range(columns) for row in range(rows)]
    random.Random(1).shuffle(places)
    return [
        Recipe(
            path=str(path),
            kind=probe.kind,
            dimensions=probe.dimensions,
            levels=probe.levels,
            region=(column * EDGE, row * EDGE, EDGE, EDGE),
            size=(EDGE, EDGE),
        )
        for column, row in places[:count]
    ]


async def seconds_per_tile(pool: ImagingPool, recipes: Sequence[Recipe]) -> float:
    """Processor seconds of a tile, after the first one, which opens the file."""
    meter = Meter(pool)
    await pool.render(recipes[0])
    meter.start()
    for recipe in recipes[1:]:
        await pool.render(recipe)
    return meter.stop() / (len(recipes) - 1)


async def measure(pool: ImagingPool, path: Path, count: int, folder: Path) -> None:
    """Print the line of one file."""
    probe = await pool.probe(path)
    tile = await seconds_per_tile(pool, distinct_tiles(path, probe, count))
    target, meter = folder / "pyramid.tif", Meter(pool)
    meter.start()
    facts = await pool.pyramids.write(path, target, replace(FASTEST, tile=EDGE))
    promotion = meter.stop()
    promoted = await seconds_per_tile(pool, distinct_tiles(target, facts.probe, count))
    pays_after = promotion / max(tile - promoted, 1e-6)
    share = pays_after * EDGE * EDGE / (probe.width * probe.height)
    print(
        f"{path.name:24} tile {1e3 * tile:6.1f} ms, of the pyramid {1e3 * promoted:4.1f} ms, "
        f"promotion {promotion:5.1f} s, {path.stat().st_size / 1e6:.0f} to "
        f"{facts.bytes / 1e6:.0f} MB, pays after {pays_after:.0f} tiles: {share:.2f} of the pixels",
        flush=True,
    )
    target.unlink()


async def run(files: Sequence[Path], count: int) -> None:
    """Measure one file after the other."""
    with tempfile.TemporaryDirectory(prefix="bench-promotion-") as name:
        pool = ImagingPool(Imaging(processes=1, threads=1))
        try:
            for path in files:
                await measure(pool, path, count, Path(name))
        finally:
            await pool.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--tiles", type=int, default=24)
    arguments = parser.parse_args()
    files = arguments.files or [
        large_jpeg2000(),
        harvest_jpeg2000(),
        large_tiled_jpeg2000(),
        converted_jpeg2000(),
        harvest_jpeg(),
    ]
    asyncio.run(run(files, arguments.tiles))


if __name__ == "__main__":
    main()
