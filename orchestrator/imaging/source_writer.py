"""Originals made tile-ready, and their thumbnails: oriented, sRGB or gray, metadata left behind.

Transparency is kept: a pyramid with alpha is lossless (JPEG has none). 16 bits become 8, as every
tile of them would, but in a lossless policy. A result is opened again and measured before it is
returned, so a torn file is never handed on.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Unprocessable
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.jpeg2000 import writer as jpeg2000
from orchestrator.imaging.jpeg2000.reader import CodestreamError
from orchestrator.imaging.open_pictures import Opened, load_first
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe
from orchestrator.imaging.render import cut, resize
from orchestrator.imaging.row_shrinker import Overview
from orchestrator.model import Dimensions, SourceKind

_IN_MEMORY_BYTES = 1024**3
_TINY = 64
_CLASSIC_TIFF_BYTES = 3 * 1000**3
_FULL_DISK_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """JPEGs to be written as `{width}x{height}.jpg` into `folder`."""

    sizes: tuple[Dimensions, ...]
    folder: Path
    quality: int


def convert(
    path: Path,
    target: Path,
    policy: ConversionPolicy,
    bounds: Bounds,
    *,
    wanted: Thumbnails | None = None,
    threads: int = 1,
) -> tuple[Probe, list[Path]]:
    """Write `target` by `policy`, and the thumbnails wanted from the same decode; what it is, and
    their paths in the order asked. The caller owns all files and removes them after an error.

    Raises FileNotFoundError, TooLarge, Unprocessable, VipsError, CodestreamError, OSError.
    """
    found = probe(path, bounds)
    scratch = target.with_name(f"{target.name}.upright")
    overview = Overview(found.dimensions, wanted.sizes) if wanted else None
    try:
        image = colour.to_web(_upright(path, found, scratch), keep_16=policy.lossless)
        _write(image, target, policy, overview, threads)
    finally:
        scratch.unlink(missing_ok=True)
    made = probe(target, bounds)
    if made.dimensions != found.dimensions or made.kind is not policy.kind:
        raise Unprocessable("The image could not be converted.")
    if wanted is None:
        return made, []
    first = overview.image() if overview else None
    return made, _cascade(target, made, wanted, first)


def thumbnails(path: Path, wanted: Thumbnails, bounds: Bounds) -> list[Path]:
    """Write what is wanted of a picture, from one decode; the paths in the order asked. Raises as
    `convert`.
    """
    return _cascade(path, probe(path, bounds), wanted, None)


def _cascade(path: Path, found: Probe, wanted: Thumbnails, base: Any | None) -> list[Path]:
    """The largest is made from the picture (or from `base`, which is that picture smaller), each
    smaller one from the one before.
    """
    written: dict[Dimensions, Path] = {}
    image = base
    for size in _largest_first(wanted.sizes):
        image = _first_thumbnail(path, found, size) if image is None else resize(image, size)
        image = image.copy_memory()
        written[size] = wanted.folder / f"{size[0]}x{size[1]}.jpg"
        image.jpegsave(str(written[size]), Q=wanted.quality, optimize_coding=True, strip=True)
    return [written[size] for size in wanted.sizes]


def _largest_first(sizes: Sequence[Dimensions]) -> list[Dimensions]:
    return sorted(set(sizes), key=lambda size: size[0] * size[1], reverse=True)


def _first_thumbnail(path: Path, found: Probe, size: Dimensions) -> Any:
    opened = Opened(budget=1, sandboxed=True)
    recipe = Recipe(
        path=str(path),
        kind=found.kind,
        dimensions=found.dimensions,
        levels=found.levels,
        region=(0, 0, found.width, found.height),
        size=size,
    )
    return encode.flatten(cut(recipe, opened.picture(str(path)), opened))


def _upright(path: Path, found: Probe, scratch: Path) -> Any:
    """The picture, oriented. Turning needs any row at any time: in memory, or by way of `scratch`
    when very large.
    """
    image = load_first(found.format, str(path), **_streamed(found))
    if found.orientation == 1:
        return image
    if image.width * image.height * image.bands * (found.bits // 8 or 1) <= _IN_MEMORY_BYTES:
        return image.copy_memory().autorot()
    image.tiffsave(str(scratch), tile=True, bigtiff=True)
    return vips.load("tiff", str(scratch)).autorot()


def _streamed(found: Probe) -> dict[str, str]:
    return {} if found.format == "jpeg2000" else {"access": "sequential"}


def _write(
    image: Any, target: Path, policy: ConversionPolicy, overview: Overview | None, threads: int
) -> None:
    if policy.kind is SourceKind.JPEG2000:
        _write_jpeg2000(image, target, policy, overview, threads)
        return
    lossless = policy.lossless or image.hasalpha()
    vips.set_threads(threads)
    image.tiffsave(
        str(target),
        compression="deflate" if lossless else "jpeg",
        predictor="horizontal" if lossless else "none",
        Q=policy.quality,
        tile=True,
        tile_width=policy.tile,
        tile_height=policy.tile,
        pyramid=True,
        bigtiff=image.width * image.height * image.bands > _CLASSIC_TIFF_BYTES,
        strip=True,
    )


def _write_jpeg2000(
    image: Any, target: Path, policy: ConversionPolicy, overview: Overview | None, threads: int
) -> None:
    library = jpeg2000.load()
    if library is not None:
        seen = overview.add if overview else None
        try:
            jpeg2000.write(library, image, target, policy, threads=threads, seen=seen)
        except CodestreamError as error:  # the library does not say that it could not write
            if shutil.disk_usage(target.parent).free < _FULL_DISK_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        return
    # The encoder misses its aim by far in tiny pictures; they cost nothing lossless.
    tiny = min(image.width, image.height) < _TINY
    edge = policy.tile or policy.advertised_tile
    vips.set_threads(threads)
    image.jp2ksave(
        str(target),
        tile_width=edge,
        tile_height=edge,
        Q=int(policy.psnr),
        lossless=tiny or policy.lossless,
        strip=True,
    )
