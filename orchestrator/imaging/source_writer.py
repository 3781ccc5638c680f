"""Writes tile-ready sources of originals, and their thumbnails: oriented, sRGB or gray, without
metadata.

Transparency is kept. 16 bits become 8, except in a lossless policy. A result is probed before it is
returned, so an incomplete file is never returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged
from orchestrator.imaging import colour, encode
from orchestrator.imaging.decoded_original import load_in_order
from orchestrator.imaging.full_disk import full_disk_reported
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.pyramid_writer import write_pyramid
from orchestrator.imaging.recipes import ConversionPolicy, Probe, Recipe
from orchestrator.imaging.render import cut_region, resize
from orchestrator.imaging.row_shrinker import RowShrinker
from orchestrator.model import Dimensions, SourceKind


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
    if policy.kind is SourceKind.PYRAMID_TIFF:
        facts = write_pyramid(path, target, policy, bounds, threads=threads)
        source, small = facts.probe, None
    else:
        source, small = _write_jpeg2000(
            path, target, policy, bounds, thumbnails=thumbnails, threads=threads
        )
    if thumbnails is None:
        return source, []
    with full_disk_reported(thumbnails.folder):
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


def _write_jpeg2000(
    path: Path,
    target: Path,
    policy: ConversionPolicy,
    bounds: Bounds,
    *,
    thumbnails: ThumbnailRequest | None,
    threads: int,
) -> tuple[Probe, Any | None]:
    """The probe of the JPEG2000 file that was written, and a reduction for the thumbnails or
    None.
    """
    from orchestrator.imaging.jpeg2000 import tile_writer  # it needs numpy: 60 ms and 11 MB

    original = probe(path, bounds)
    shrinker = RowShrinker(original.dimensions, thumbnails.sizes) if thumbnails else None
    on_strip = shrinker.add if shrinker else None
    scratch = target.with_name(f"{target.name}.v")
    with full_disk_reported(target.parent):
        try:
            image = colour.to_web(load_in_order(path, original, scratch), keep_16=policy.lossless)
            tile_writer.write(
                binding.require(), image, target, policy, threads=threads, on_strip=on_strip
            )
        finally:
            scratch.unlink(missing_ok=True)
        source = probe(target, bounds)
    if source.dimensions != original.dimensions or source.kind is not policy.kind:
        raise Damaged("The image could not be converted.")
    return source, shrinker.result() if shrinker else None
