"""Writes docs/policies.md: the measured cost of each built-in policy on the sample set.

    .venv/bin/python -m scripts.measure_policies [--rounds 3]

One worker process. Seconds and milliseconds are processor time of the worker, so that other load
on the machine does not change them. `tests/unit/test_policies_page.py` checks that no policy is
missing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from loadtests.collection import originals
from orchestrator.imaging import POLICIES, Probe, Recipe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.ingest.policies import DEFAULT, USE_ORIGINAL, Policies
from orchestrator.settings import Imaging, Ingest

PAGE = Path(__file__).parents[1] / "docs" / "policies.md"
SAMPLES = ("original-12.jpg", "original-24.jpg", "original-24.tif", "original-30-gray.tif")
TILES = 24
WHAT = {
    "fastest": "Pyramid TIFF, JPEG tiles of 256 pixels at quality 90 (lossless where there is "
    "transparency). The fastest to serve; its files are the largest of the lossy policies.",
    "fast-lossy": "JPEG2000, peak signal-to-noise ratio 45 dB: indistinguishable from the original "
    "on a screen. The default of command, API and queue.",
    "fast-higher": "JPEG2000, 50 dB: suitable for enlargement and print.",
    "max-quality": "JPEG2000, lossless; 16 bits are kept.",
    USE_ORIGINAL: "The unchanged original is the source; only thumbnails are made.",
}


@dataclass
class Figures:
    """The figures of one policy over all samples."""

    bytes: float
    seconds: float
    full_ms: float
    low_ms: float


async def measure(pool: ImagingPool, name: str, folder: Path, rounds: int) -> Figures:
    """Make source and thumbnails of every sample, then cut tiles at full scale and at 1/8."""
    size = pixels = 0
    seconds, full, low = 0.0, [], []
    samples = [path for path in originals() if path.name in SAMPLES]
    for path in samples:
        original = await pool.probe(path)
        policy = Policies(Ingest())
        sizes = tuple(await policy.preview(1, DEFAULT, *original.dimensions))
        wanted = ThumbnailRequest(sizes, folder, 90)
        took = []
        for _ in range(rounds):
            source, before = folder / f"{name}-{path.name}", _processor(pool)
            if name == USE_ORIGINAL:
                made = original
                source = path
                await pool.thumbnails(path, list(sizes), folder)
            else:
                made, _ = await pool.convert_with_thumbnails(path, source, POLICIES[name], wanted)
            took.append(_processor(pool) - before)
        seconds += statistics.median(took)
        size += source.stat().st_size
        pixels += original.width * original.height
        full.append(await _tile_ms(pool, source, made, 1))
        low.append(await _tile_ms(pool, source, made, 8))
    mega = pixels / 1e6
    return Figures(size / mega / 1e6, seconds / mega, statistics.mean(full), statistics.mean(low))


async def _tile_ms(pool: ImagingPool, path: Path, probe: Probe, scale: int) -> float:
    dice = random.Random(scale)  # noqa: S311  the same tiles for every policy
    edge = max(probe.tile_width, 512)
    side = edge * scale
    before = _processor(pool)
    for _ in range(TILES):
        x = dice.randrange(-(-probe.width // side)) * side
        y = dice.randrange(-(-probe.height // side)) * side
        region = (x, y, min(side, probe.width - x), min(side, probe.height - y))
        size = (-(-region[2] // scale), -(-region[3] // scale))
        await pool.render(
            Recipe(str(path), probe.kind, probe.dimensions, probe.levels, region, size)
        )
    return 1000 * (_processor(pool) - before) / TILES


def _processor(pool: ImagingPool) -> float:
    own = psutil.Process().cpu_times()
    times = [own, *(psutil.Process(pid).cpu_times() for pid in pool.pids)]
    return float(sum(each.user + each.system for each in times))


def render_page(figures: dict[str, Figures], stated: str) -> str:
    """Return the text of docs/policies.md."""
    rows = "\n".join(
        f"| `{name}` | {f.bytes:.2f} | {f.seconds:.3f} | {f.full_ms:.1f} | {f.low_ms:.1f} |"
        for name, f in figures.items()
    )
    meanings = "\n".join(f"- `{name}`: {WHAT[name]}" for name in figures)
    return f"""# Policies

Written by `scripts/measure_policies.py`; do not edit by hand.

An **optimisation policy** says how the tile-ready source is made of an original. A **thumbnail policy** says which
thumbnails are made. A customer's own policy has precedence over a global one, and that over a built-in one of the same
name. A policy can be named by the last segment of a URL.

## Built in

{meanings}

| policy | MB per megapixel | processor seconds per megapixel | 512 px tile, full scale, ms | scale 8, ms |
|---|---|---|---|---|
{rows}

{stated} The seconds include the source and the four default thumbnails, made from one decode. The
milliseconds are those of one worker for one tile among {TILES} of the same picture in random order, decoded and encoded as JPEG.
`{USE_ORIGINAL}` decodes the whole original for its first tile and keeps it in memory.

Some originals are converted by `fastest` also under `{USE_ORIGINAL}`, because they cannot be served well as they are:

- A picture that must be decoded as a whole for each tile, if its decoded pixels (4 bytes each) are more than one sixteenth of
  `imaging.memory_limit`: 64 megapixels by default. This concerns PNG, JPEG, HEIF, WebP, GIF, SVG, PDF, TIFF in strips and
  HTJ2K in one tile.
- A JPEG2000 or tiled TIFF of which the smallest level that can be decoded alone has more than 16 megapixels. A palette or an
  image offset can make the small levels of a JPEG2000 unusable.

The asset keeps the policy `{USE_ORIGINAL}`. Until its conversion is done, requests are answered from the original. An optimised origin
is served as it is, because nothing is copied of it.

## JPEG2000

Tiles of 512 pixels, precincts, packet lengths (PLT), and a tile-part for each resolution of each tile. The tile-parts
are sorted by resolution and listed in the main header (TLM), so a low resolution needs only a prefix of the file
(`orchestrator/imaging/jpeg2000/tile_parts.py` computes its length). sRGB or gray, 8 bits (16 if lossless), transparency as an
opacity channel. `"tile": 0` writes one tile. The file is 1 % smaller, but cutting a region from it costs two to three times as
much, and its encoder needs 27 bytes of memory for each pixel. Pictures above 64 megapixels are tiled with every policy.

Memory: with every built-in policy, a worker that converts stays below 300 MB of resident memory, also for striped or tiled
originals of 200 megapixels (`tests/golden/test_memory.py`). An original is decoded completely by one thread before its source is
written, so that a damaged one is never stored. Decoded pixels of more than 128 MB go to a file in the scratch folder. Formats that
are decoded as a whole (HEIF, WebP, progressive JPEG, interlaced PNG) need memory for all pixels, within `imaging.memory_limit`.

## Your own policies

The API stores policies for one customer or for all. An optimisation policy is one of

    {{"format": "jpeg2000", "quality": 80}}          1 to 100, which means 25 + quality / 4 dB
    {{"format": "jpeg2000", "psnr": 45}}             20 to 70 dB
    {{"format": "jpeg2000", "lossless": true}}
    {{"format": "tiff", "quality": 90}}              or "lossless": true
    {{"format": "original"}}

with `"tile"` (JPEG2000: 0, 128, 256, 512, 1024, 2048; TIFF: 128 to 1024). A thumbnail policy is
`{{"sizes": [1000, 400, "!200,200"]}}`: longest edges in pixels, or IIIF sizes `w,` `,h` `!w,h`. A `^` before a size permits
enlargement. `max`, `pct:` and `w,h` are refused. One thumbnail is made for each longest edge, and at least one.
"""  # noqa: E501  the lines of the page


async def _run(rounds: int) -> dict[str, Figures]:
    pool = ImagingPool(Imaging(processes=1, threads=1))
    try:
        with tempfile.TemporaryDirectory(prefix="policies-") as folder:
            await measure(pool, "fast-lossy", Path(folder), 1)  # starts the workers
            found = {}
            for name in (*POLICIES, USE_ORIGINAL):
                found[name] = await measure(pool, name, Path(folder), rounds)
                print(name, found[name], flush=True)
            return found
    finally:
        await pool.close()


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    figures = asyncio.run(_run(rounds))
    stated = (
        f"Measured {time.strftime('%Y-%m-%d')} on {len(SAMPLES)} synthetic originals with grain "
        "(JPEG and TIFF, 12 to 30 megapixels)."
    )
    PAGE.write_text(render_page(figures, stated))


if __name__ == "__main__":
    main()
