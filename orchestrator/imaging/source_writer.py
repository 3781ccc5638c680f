"""Writes tile-ready sources of originals, and their thumbnails: oriented, sRGB or gray, without
metadata.

Transparency is kept: a pyramid with alpha is lossless, because JPEG has no alpha. 16 bits become 8,
except in a lossless policy. A result is probed before it is returned, so an incomplete file is
never returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.decoded_original import load_decoded, load_in_order
from orchestrator.imaging.full_disk import full_disk_reported
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe
from orchestrator.imaging.render import cut_region, resize
from orchestrator.imaging.row_shrinker import RowShrinker
from orchestrator.model import Dimensions, SourceKind

_CLASSIC_TIFF_BYTES = 3 * 1000**3


@dataclass(frozen=True, slots=True)
class ThumbnailRequest:
    """Which thumbnails to write: JPEG files named `{width}x{height}.jpg` in `folder`."""

    sizes: tuple[Dimensions, ...]
    folder: Path
    quality: int


def convert(
    path: Path,
    target: Path,
    policy: ConversionPolicy,
    bounds: Bounds,
    *,
    thumbnails: ThumbnailRequest | None = None,
    threads: int = 1,
) -> tuple[Probe, list[Path]]:
    """Write `target` by `policy`, and `thumbnails` from the same decode: the probe of `target`, and
    the thumbnails' paths in the order requested. After an error the caller removes all files.

    Raises FileNotFoundError, TooLarge, Unprocessable, NoRoom (the disk is full), VipsError,
    CodestreamError, OSError.
    """
    original = probe(path, bounds)
    with full_disk_reported(target.parent):
        shrinker = RowShrinker(original.dimensions, thumbnails.sizes) if thumbnails else None
        _write_source(path, original, target, policy, shrinker=shrinker, threads=threads)
        source = probe(target, bounds)
        if source.dimensions != original.dimensions or source.kind is not policy.kind:
            raise Damaged("The image could not be converted.")
        if thumbnails is None:
            return source, []
        small = shrinker.result() if shrinker else None
        return source, _write_cascade(target, source, thumbnails, small)


def write_thumbnails(path: Path, request: ThumbnailRequest, bounds: Bounds) -> list[Path]:
    """Write the thumbnails of the picture at `path`, from one decode; their paths in the order
    requested. Raises as `convert`.
    """
    with full_disk_reported(request.folder):
        return _write_cascade(path, probe(path, bounds), request, None)


def _write_cascade(
    path: Path, source: Probe, request: ThumbnailRequest, small: Any | None
) -> list[Path]:
    """Make the largest thumbnail from the picture (or from `small`, a reduction of it), and each
    smaller one from the previous one.
    """
    paths: dict[Dimensions, Path] = {}
    image = small
    for size in _largest_first(request.sizes):
        image = _render_thumbnail(path, source, size) if image is None else resize(image, size)
        image = image.copy_memory()
        paths[size] = request.folder / f"{size[0]}x{size[1]}.jpg"
        image.jpegsave(str(paths[size]), Q=request.quality, optimize_coding=True, strip=True)
    return [paths[size] for size in request.sizes]


def _largest_first(sizes: Sequence[Dimensions]) -> list[Dimensions]:
    return sorted(set(sizes), key=lambda size: size[0] * size[1], reverse=True)


def _render_thumbnail(path: Path, source: Probe, size: Dimensions) -> Any:
    pictures = OpenPictures(max_bytes=1, sandboxed=True)
    recipe = Recipe(
        path=str(path),
        kind=source.kind,
        dimensions=source.dimensions,
        levels=source.levels,
        region=(0, 0, source.width, source.height),
        size=size,
    )
    return encode.flatten(cut_region(recipe, pictures.open(str(path)), pictures))


def _write_source(
    path: Path,
    original: Probe,
    target: Path,
    policy: ConversionPolicy,
    *,
    shrinker: RowShrinker | None,
    threads: int,
) -> None:
    scratch = target.with_name(f"{target.name}.v")
    load = load_in_order if policy.kind is SourceKind.JPEG2000 else load_decoded
    try:
        image = colour.to_web(load(path, original, scratch), keep_16=policy.lossless)
        _write(image, target, policy, shrinker, threads)
    finally:
        scratch.unlink(missing_ok=True)


def _write(
    image: Any, target: Path, policy: ConversionPolicy, shrinker: RowShrinker | None, threads: int
) -> None:
    if policy.kind is SourceKind.JPEG2000:
        _write_jpeg2000(image, target, policy, shrinker, threads)
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
    image: Any, target: Path, policy: ConversionPolicy, shrinker: RowShrinker | None, threads: int
) -> None:
    from orchestrator.imaging.jpeg2000 import tile_writer  # it needs numpy: 60 ms and 11 MB

    on_strip = shrinker.add if shrinker else None
    tile_writer.write(binding.require(), image, target, policy, threads=threads, on_strip=on_strip)
