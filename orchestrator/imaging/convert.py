"""Originals made tile-ready, and their thumbnails: oriented, sRGB or gray, metadata left behind.

Transparency is kept: a pyramid with alpha is lossless (JPEG has none). 16 bits become 8 in both
policies, as every tile of them would. A result is opened again and measured before it is returned,
so a torn file is never handed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import Unprocessable
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.opened import Opened, load_first
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe
from orchestrator.imaging.render import cut, resize
from orchestrator.model import Dimensions, SourceKind

_IN_MEMORY_BYTES = 1024**3
_TINY = 64
_CLASSIC_TIFF_BYTES = 3 * 1000**3


def convert(path: Path, target: Path, policy: ConversionPolicy, bounds: Bounds) -> Probe:
    """Write `target` by `policy` and return what it is. The caller owns `target` and removes it
    after an error.

    Raises FileNotFoundError, TooLarge, Unprocessable, VipsError, OSError.
    """
    found = probe(path, bounds)
    scratch = target.with_name(f"{target.name}.upright")
    try:
        _write(colour.to_web(_upright(path, found, scratch)), target, policy)
    finally:
        scratch.unlink(missing_ok=True)
    made = probe(target, bounds)
    if made.dimensions != found.dimensions or made.kind is not policy.kind:
        raise Unprocessable("The image could not be converted.")
    return made


def thumbnails(
    path: Path, sizes: list[Dimensions], folder: Path, quality: int, bounds: Bounds
) -> list[Path]:
    """Write `{width}x{height}.jpg` for each of `sizes` into `folder`; the paths in the order asked.

    The largest is made from the picture, each smaller one from the one before. Raises as `convert`.
    """
    found = probe(path, bounds)
    written: dict[Dimensions, Path] = {}
    image: Any = None
    for size in sorted(set(sizes), key=lambda s: s[0] * s[1], reverse=True):
        image = (
            _first_thumbnail(path, found, size) if image is None else resize(image, size)
        ).copy_memory()
        written[size] = folder / f"{size[0]}x{size[1]}.jpg"
        image.jpegsave(str(written[size]), Q=quality, optimize_coding=True, strip=True)
    return [written[size] for size in sizes]


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


def _write(image: Any, target: Path, policy: ConversionPolicy) -> None:
    if policy.kind is SourceKind.JPEG2000:
        # The encoder misses its aim by far in tiny pictures; they cost nothing lossless.
        tiny = min(image.width, image.height) < _TINY
        image.jp2ksave(
            str(target),
            tile_width=policy.tile,
            tile_height=policy.tile,
            Q=int(policy.psnr),
            lossless=tiny or policy.lossless,
            strip=True,
        )
        return
    lossless = policy.lossless or image.hasalpha()
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
