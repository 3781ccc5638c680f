"""Measures the imaging pool: milliseconds of wall time and of processor time for each kind of work.

python -m loadtests.micro.bench_render [--rounds 5] [--edge 8000]

There is one worker process and one caller, so the figures do not depend on the number of cores.
Each is the median over the rounds, with the extremes. A `fresh` file is a copy that no worker has
open; a `kept` one is open; `together` are six neighbouring tiles, requested at once. The processor
time is that of the worker. On a busy machine it is more reliable than the wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from orchestrator.imaging import FAST_LOSSY, FASTEST, Probe, Recipe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.support import pictures

GRID = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1))
KINDS: dict[str, Callable[..., Path]] = {
    "untiled JPEG2000": pictures.jp2_untiled,
    "tiled JPEG2000": pictures.jp2_tiled,
    "pyramid TIFF": pictures.pyramid_tiff,
    "JPEG original": pictures.jpeg,
}


class Bench:
    """Measures one pool and prints one line for each kind of work."""

    def __init__(self, pool: ImagingPool, folder: Path, rounds: int) -> None:
        self.pool = pool
        self.folder = folder
        self.rounds = rounds
        self._copies = itertools.count()

    def copy(self, path: Path) -> Path:
        """The same file under a new name, which no worker has open."""
        name = self.folder / f"copy-{next(self._copies)}{path.suffix}"
        name.hardlink_to(path)
        return name

    async def measure(self, name: str, pixels: int, work: Callable[[], Awaitable[object]]) -> None:
        """Print the times of `work`, whose result has `pixels` pixels."""
        walls, processor = [], []
        for _ in range(self.rounds):
            before, start = self._cpu_s(), time.perf_counter()
            await work()
            walls.append(1e3 * (time.perf_counter() - start))
            processor.append(1e3 * (self._cpu_s() - before))
        middle = statistics.median(walls)
        spread = f"({min(walls):.1f}-{max(walls):.1f})"
        rate = f"{pixels / middle / 1e3:8.1f} MP/s" if pixels else ""
        cpu = statistics.median(processor)
        print(f"{name:44} {middle:8.1f} ms {spread:>18}  cpu {cpu:7.0f} ms {rate}", flush=True)

    def _cpu_s(self) -> float:
        own = psutil.Process().cpu_times()
        workers = [psutil.Process(pid).cpu_times() for pid in self.pool.pids]
        return float(sum(times.user + times.system for times in (own, *workers)))


def tile(path: Path, probe: Probe, scale: int, edge: int, position: tuple[int, int]) -> Recipe:
    """The tile of `edge` pixels at column and row `position`, at scale factor `scale`."""
    side = edge * scale
    return Recipe(
        path=str(path),
        kind=probe.kind,
        dimensions=probe.dimensions,
        levels=probe.levels,
        region=(position[0] * side, position[1] * side, side, side),
        size=(edge, edge),
    )


async def measure_tiles(bench: Bench, name: str, path: Path) -> None:
    """Measure tiles of one source at two scales: fresh, kept, six together."""
    probe = await bench.pool.probe(path)
    render = bench.pool.render
    edges = (256, 512) if "TIFF" not in name else (256,)
    for scale, edge in itertools.product((1, 4), edges):
        what = f"{name}, {edge} px at scale {scale}"

        async def fresh(scale: int = scale, edge: int = edge) -> None:
            await render(tile(bench.copy(path), probe, scale, edge, (0, 0)))

        positions = itertools.cycle(GRID)

        async def kept(
            scale: int = scale, edge: int = edge, positions: Iterator[tuple[int, int]] = positions
        ) -> None:
            await render(tile(path, probe, scale, edge, next(positions)))

        async def together(scale: int = scale, edge: int = edge) -> None:
            target = bench.copy(path)
            await asyncio.gather(
                *(render(tile(target, probe, scale, edge, position)) for position in GRID)
            )

        await kept()
        await bench.measure(f"{what}, fresh", edge * edge, fresh)
        await bench.measure(f"{what}, kept", edge * edge, kept)
        await bench.measure(f"{what}, six together", 6 * edge * edge, together)


async def run(rounds: int, edge: int) -> None:
    """Make the pictures, then measure."""
    height = edge * 3 // 4
    with tempfile.TemporaryDirectory(prefix="bench-render-") as name:
        folder = Path(name)
        pool = ImagingPool(Imaging(processes=1, threads=1))
        bench = Bench(pool, folder, rounds)
        try:
            sources = {}
            for what, maker in KINDS.items():
                print(f"making {edge} x {height} {what} ...", flush=True)
                sources[what] = maker(folder / f"{maker.__name__}.src", edge, height)
            empty = partial(pool._tiles.run, os.getpid, timeout_s=10)
            await bench.measure("an empty call", 0, empty)
            await bench.measure("an empty call again", 0, empty)
            for what, path in sources.items():
                await bench.measure(f"{what}, probe", 0, partial(pool.probe, path))
                await measure_tiles(bench, what, path)
            original, pixels = sources["JPEG original"], edge * height
            for policy in (FASTEST, FAST_LOSSY):
                target = folder / "converted"

                convert = partial(pool.convert, original, target, policy)
                await bench.measure(f"conversion, {policy.name}", pixels, convert)
        finally:
            await pool.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edge", type=int, default=8000, help="width of the pictures in pixels")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.rounds, arguments.edge))


if __name__ == "__main__":
    main()
