"""What the imaging pool costs: milliseconds of wall and of processor time for each kind of work.

    python -m loadtests.micro.bench_render [--rounds 5] [--edge 8000]

One worker process, one caller: the figures are of the decoder, not of the machine's cores. Each is
the median over the rounds, with the extremes. A `fresh` file is a copy that no worker has open; a
`kept` one was asked before; `together` are six neighbouring tiles asked at once. The processor's
time is the worker's, so it says more than the wall's on a machine that is busy.
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
    """One pool, one folder of pictures, one line for each kind of work."""

    def __init__(self, pool: ImagingPool, folder: Path, rounds: int) -> None:
        self.pool = pool
        self.folder = folder
        self.rounds = rounds
        self._copies = itertools.count()

    def copy(self, path: Path) -> Path:
        """The same file under a name nobody asked for yet."""
        name = self.folder / f"copy-{next(self._copies)}{path.suffix}"
        name.hardlink_to(path)
        return name

    async def line(self, name: str, pixels: int, work: Callable[[], Awaitable[object]]) -> None:
        """Print the times of `work`, of which `pixels` come out."""
        walls, processor = [], []
        for _ in range(self.rounds):
            before, began = self._cpu(), time.perf_counter()
            await work()
            walls.append(1e3 * (time.perf_counter() - began))
            processor.append(1e3 * (self._cpu() - before))
        middle = statistics.median(walls)
        spread = f"({min(walls):.1f}-{max(walls):.1f})"
        rate = f"{pixels / middle / 1e3:8.1f} MP/s" if pixels else ""
        cpu = statistics.median(processor)
        print(f"{name:44} {middle:8.1f} ms {spread:>18}  cpu {cpu:7.0f} ms {rate}", flush=True)

    def _cpu(self) -> float:
        own = psutil.Process().cpu_times()
        workers = [psutil.Process(pid).cpu_times() for pid in self.pool.pids]
        return float(sum(times.user + times.system for times in (own, *workers)))


def tile(path: Path, probe: Probe, scale: int, edge: int, at: tuple[int, int]) -> Recipe:
    """A tile of `edge` pixels at scale factor `scale`."""
    side = edge * scale
    return Recipe(
        path=str(path),
        kind=probe.kind,
        dimensions=probe.dimensions,
        levels=probe.levels,
        region=(at[0] * side, at[1] * side, side, side),
        size=(edge, edge),
    )


async def kind(bench: Bench, name: str, path: Path) -> None:
    """Tiles of one source at three scales: fresh, kept, six together."""
    probe = await bench.pool.probe(path)
    render = bench.pool.render
    edges = (256, 512) if "TIFF" not in name else (256,)
    for scale, edge in itertools.product((1, 4), edges):
        what = f"{name}, {edge} px at scale {scale}"

        async def fresh(scale: int = scale, edge: int = edge) -> None:
            await render(tile(bench.copy(path), probe, scale, edge, (0, 0)))

        spots = itertools.cycle(GRID)

        async def kept(
            scale: int = scale, edge: int = edge, spots: Iterator[tuple[int, int]] = spots
        ) -> None:
            await render(tile(path, probe, scale, edge, next(spots)))

        async def together(scale: int = scale, edge: int = edge) -> None:
            target = bench.copy(path)
            await asyncio.gather(*(render(tile(target, probe, scale, edge, at)) for at in GRID))

        await kept()
        await bench.line(f"{what}, fresh", edge * edge, fresh)
        await bench.line(f"{what}, kept", edge * edge, kept)
        await bench.line(f"{what}, six together", 6 * edge * edge, together)


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
            await bench.line("an empty call", 0, empty)
            await bench.line("an empty call again", 0, empty)
            for what, path in sources.items():
                await bench.line(f"{what}, probe", 0, partial(pool.probe, path))
                await kind(bench, what, path)
            original, pixels = sources["JPEG original"], edge * height
            for policy in (FASTEST, FAST_LOSSY):
                target = folder / "converted"

                convert = partial(pool.convert, original, target, policy)
                await bench.line(f"conversion, {policy.name}", pixels, convert)
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
