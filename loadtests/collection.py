"""The large test images of the benchmarks. They are made once and kept below `build/bench`, or
below the folder in BENCH_DATA.

A bench that needs a cold image in every round makes one copy for each round.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from orchestrator.imaging import FAST_LOSSY, FASTEST, MAX_QUALITY, ConversionPolicy
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.support.scenes import scene, write_jpeg, write_pyramid

LARGE = (8000, 6000)
"""48 megapixels."""
MEGAPIXELS = {10: (4000, 2500), 50: (8000, 6250), 200: (16_000, 12_500), 1000: (40_000, 25_000)}
"""(width, height) of the images of the curves (P17)."""
_ROOT = Path(__file__).resolve().parents[1]


def images_folder() -> Path:
    """The folder of the images, created if there is none."""
    path = Path(os.environ.get("BENCH_DATA") or _ROOT / "build" / "bench")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _make_once(name: str, make: Callable[[Path], object]) -> Path:
    path = images_folder() / name
    if not path.exists():
        print(f"making {path.name} (once) ...", flush=True)
        part = path.with_name(f"part-{path.name}")
        make(part)
        part.replace(path)
    return path


def large_jpeg2000() -> Path:
    """48 MP, without tiles, in resolution order with precincts and packet lengths, about 12 MB: the
    form that image services write.
    """
    return _make_once("large-rpcl.jp2", lambda path: _write_rpcl(path, LARGE, tiled=False))


def large_tiled_jpeg2000() -> Path:
    """The same image in codestream tiles of 512 pixels."""
    return _make_once("large-tiled.jp2", lambda path: _write_rpcl(path, LARGE, tiled=True))


def large_pyramid() -> Path:
    """48 MP as a pyramid TIFF with JPEG tiles of 256 pixels."""
    return _make_once("large-pyramid.tif", lambda path: write_pyramid(path, *LARGE, seed=7))


def medium_jpeg() -> Path:
    """A JPEG of 6 MP with little grain: its tiles of 512 pixels have about 12 KB."""
    return _make_once("medium.jpg", lambda path: write_jpeg(path, 3000, 2000, seed=5, grain=1.6))


def harvest_jpeg2000() -> Path:
    """12 MP in resolution order, without tiles."""
    return _make_once("harvest.jp2", lambda path: _write_rpcl(path, (4000, 3000), tiled=False))


def harvest_pyramid() -> Path:
    """12 MP as a pyramid TIFF with JPEG tiles of 256 pixels."""
    return _make_once("harvest.tif", lambda path: write_pyramid(path, 4000, 3000, seed=7))


def harvest_jpeg() -> Path:
    """12 MP as a camera writes it."""
    return _make_once("harvest.jpg", lambda path: write_jpeg(path, 4000, 3000, seed=7, grain=3.0))


def heavy_jpeg2000() -> Path:
    """48 MP with little loss, about 50 MB, without tiles."""
    return _make_once(
        "heavy-rpcl.jp2", lambda path: _write_rpcl(path, LARGE, tiled=False, rate=2.9)
    )


def converted_jpeg2000() -> Path:
    """48 MP as our best lossy policy converts it, in codestream tiles of 512 pixels."""

    def convert(path: Path) -> None:
        original = path.with_name("part-original.tif")
        scene(*LARGE, seed=7, grain=3.0).tiffsave(str(original))
        asyncio.run(_convert(original, path))
        original.unlink()

    return _make_once("converted.jp2", convert)


async def _convert(original: Path, target: Path, policy: ConversionPolicy = MAX_QUALITY) -> None:
    pool = ImagingPool(Imaging(processes=1))
    try:
        await pool.convert(original, target, policy)
    finally:
        await pool.close()


def huge_jpeg2000() -> Path:
    """200 MP in codestream tiles of 512 pixels."""
    return _make_once("huge.jp2", lambda path: _write_rpcl(path, (16_000, 12_500), tiled=True))


def sized_source(megapixels: int, form: str) -> Path:
    """A pyramid TIFF (`tif`) or JPEG2000 (`jp2`) of MEGAPIXELS as the default policy of a folder or
    of the API writes it. It is made in parts, so a gigapixel needs time and no memory.
    """
    policy = {"tif": FASTEST, "jp2": FAST_LOSSY}[form]

    def convert(path: Path) -> None:
        original = path.with_name(f"part-original-{megapixels}.tif")
        picture = scene(*MEGAPIXELS[megapixels], seed=7, grain=3.0)
        picture.tiffsave(str(original), tile=True, compression="lzw", bigtiff=True)
        asyncio.run(_convert(original, path, policy))
        original.unlink()

    return _make_once(f"curve-{megapixels}.{form}", convert)


def originals() -> list[Path]:
    """JPEG and TIFF as cameras and scanners write them: 12 to 50 MP, one of them a gray page."""

    def tiff(path: Path, width: int, height: int, *, seed: int) -> None:
        scene(width, height, seed=seed, grain=3.0).tiffsave(str(path), compression="lzw")

    def jpeg(path: Path, width: int, height: int, *, seed: int) -> None:
        write_jpeg(path, width, height, seed=seed, grain=3.0)

    def page(path: Path, width: int, height: int, *, seed: int) -> None:
        picture = scene(width, height, seed=seed, grain=3.0).colourspace("b-w")
        picture.tiffsave(str(path), compression="deflate")

    specifications = [
        ("12.jpg", jpeg, (4000, 3000)),
        ("24.jpg", jpeg, (6000, 4000)),
        ("24-upright.jpg", jpeg, (4000, 6000)),
        ("50.jpg", jpeg, (8200, 6100)),
        ("12.tif", tiff, (3000, 4000)),
        ("24.tif", tiff, (6000, 4000)),
        ("50.tif", tiff, (8200, 6100)),
        ("30-gray.tif", page, (5000, 6000)),
    ]
    return [
        _make_once(f"original-{name}", partial(write, width=size[0], height=size[1], seed=seed))
        for seed, (name, write, size) in enumerate(specifications)
    ]


def small_jpegs() -> list[Path]:
    """Twenty JPEGs of 1 to 2 megapixels."""

    def jpeg(path: Path, seed: int) -> None:
        write_jpeg(path, 1200 + 22 * seed, 900 + 13 * seed, seed=seed, grain=3.0)

    return [_make_once(f"small-{seed}.jpg", partial(jpeg, seed=seed)) for seed in range(20)]


def _write_rpcl(path: Path, size: tuple[int, int], *, tiled: bool, rate: float = 12) -> None:
    """`rate` is how many times smaller than its samples the file is."""
    picture = scene(*size, seed=7, grain=3.0)
    Image.MAX_IMAGE_PIXELS = None
    image = Image.fromarray(picture.numpy())
    tiles = {"tile_size": (512, 512)} if tiled else {"precinct_size": (256, 256)}
    image.save(
        path,
        format="JPEG2000",
        irreversible=True,
        quality_mode="rates",
        quality_layers=[rate],
        num_resolutions=7 if not tiled else 6,
        codeblock_size=(64, 64),
        progression="RPCL",
        mct=1,
        plt=True,
        **tiles,
    )


def copies(original: Path, folder: Path, count: int, *, prefix: str = "copy") -> list[Path]:
    """`count` copies of the file, with different names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}-{number}{original.suffix}" for number in range(count)]
    for path in paths:
        shutil.copyfile(original, path)
    return paths
