"""Writes an original, or one page of a PDF, as a pyramid TIFF by a policy: tiled, with every level
down to one tile.

All pixels are decoded before the first one is written, so a damaged original never becomes a
pyramid. A file is returned only when it was checked (`pyramid_check`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged, InvalidInput
from orchestrator.iiif.scale import fit_within
from orchestrator.imaging import colour, encode, vips
from orchestrator.imaging.decoded_original import (
    decoded_bytes,
    load_decoded,
    load_resized,
    resized_scratch,
)
from orchestrator.imaging.full_disk import full_disk_reported
from orchestrator.imaging.kept_colours import keep_colours, without_metadata
from orchestrator.imaging.probe import Bounds, Page, probe
from orchestrator.imaging.pyramid_check import (
    PyramidFacts,
    check_pyramid,
    compare_with_original,
    read_facts,
    shortcoming,
)
from orchestrator.imaging.recipes import ConversionPolicy, Probe
from orchestrator.imaging.render import resize
from orchestrator.model import Dimensions, SourceKind

_CLASSIC_TIFF_BYTES = 3 * 1000**3
"""A larger picture becomes a BigTIFF. A classic TIFF has at most 4 GiB, and the smaller levels add
a third to the bytes of the picture.
"""
_FAILED = "The image could not be converted."
_PREDICTED = frozenset(("deflate", "zstd"))
_SHRINKS = (8, 4, 2)
"""Reductions of the JPEG decoder, which takes less time for them."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One pyramid to write."""

    path: Path
    original: Probe
    policy: ConversionPolicy
    page: Page
    size: Dimensions

    @property
    def stored_size(self) -> Dimensions:
        """The size before the picture is turned upright."""
        return self.size[::-1] if self.original.orientation >= 5 else self.size


def write_pyramid(
    path: Path,
    target: Path,
    policy: ConversionPolicy,
    bounds: Bounds,
    *,
    number: int = 1,
    threads: int = 1,
) -> PyramidFacts:
    """Write `target`: the picture at `path`, or page `number` of a PDF, as a pyramid TIFF. What it
    is, as `read_facts` says. An original that already is what the policy asks for is copied.

    Raises as `source_writer.convert`. After an error the caller removes all files.
    """
    page = Page(number, policy.pdf_dpi)
    original = probe(path, bounds, page)
    work = _Work(path, original, policy, page, fitted_size(original.dimensions, policy))
    with full_disk_reported(target.parent):
        if original.kind is not SourceKind.PYRAMID_TIFF or not _copy(work, target, bounds):
            _convert(work, target, threads)
        try:
            facts = read_facts(target, bounds)
        except InvalidInput as error:
            raise Damaged(_FAILED) from error
    if facts.probe.dimensions != work.size or shortcoming(facts, policy):
        raise Damaged(_FAILED)
    return facts


def fitted_size(dimensions: Dimensions, policy: ConversionPolicy) -> Dimensions:
    """(width, height) of the pyramid of a picture of `dimensions`: within the limits of the policy,
    in proportion, never enlarged.
    """
    if policy.limits is None:
        return dimensions
    width, height = policy.limits
    return fit_within(dimensions, (min(width, dimensions[0]), min(height, dimensions[1])))


def _copy(work: _Work, target: Path, bounds: Bounds) -> bool:
    """Copy an original that is what the policy asks for. False if it is not, or not in each part:
    then it must be converted.
    """
    try:
        facts = read_facts(work.path, bounds)
        if facts.probe.dimensions != work.size or shortcoming(facts, work.policy):
            return False
        shutil.copyfile(work.path, target)
        check_pyramid(target, bounds)
    except (InvalidInput, Damaged, vips.VipsError):
        return False
    return True


def _convert(work: _Work, target: Path, threads: int) -> None:
    scratch = target.with_name(f"{target.name}.v")
    try:
        image = _for_tiles(_load(work, scratch), work.policy)
        _save(image, target, work.policy, threads)
        compare_with_original(target, image, work.policy)
    finally:
        scratch.unlink(missing_ok=True)
        resized_scratch(scratch).unlink(missing_ok=True)


def _load(work: _Work, scratch: Path) -> Any:
    """The picture as it will be stored, with all its pixels in memory or in scratch files."""
    policy, original = work.policy, work.original
    options = work.page.options(original.format)
    if work.size == original.dimensions:
        upright = policy.autorotate
        image = load_decoded(work.path, original, scratch, upright=upright, **options)
        return _in_colours(image, original, policy)
    if original.format == "jpeg":
        options["shrink"] = _jpeg_shrink(work)
    image = load_resized(
        work.path,
        original,
        scratch,
        lambda image: resize(_in_colours(image, original, policy), work.stored_size),
        **options,
    )
    return image.autorot() if policy.autorotate and original.orientation != 1 else image


def _jpeg_shrink(work: _Work) -> int:
    """How far the JPEG decoder may reduce the picture: without a rest, which it would cut off."""
    full = work.original.dimensions
    stored = full[::-1] if work.original.orientation >= 5 else full
    for shrink in _SHRINKS:
        pairs = zip(stored, work.stored_size, strict=True)
        if all(side % shrink == 0 and side // shrink >= needed for side, needed in pairs):
            return shrink
    return 1


def _in_colours(image: Any, original: Probe, policy: ConversionPolicy) -> Any:
    if original.format == "pdf":
        image = encode.flatten(image)  # the paper of a page is white
    if policy.srgb or policy.compression == "webp":
        return colour.to_web(image, keep_16=policy.keeps_16)
    return keep_colours(image, keep_16=policy.keeps_16)


def _for_tiles(image: Any, policy: ConversionPolicy) -> Any:
    """`image` with the bands that the compression of the tiles accepts, and without metadata."""
    if policy.compression == "webp" and image.interpretation == "b-w":
        image = image.colourspace("srgb")  # libwebp has no gray, and libtiff ends the process
    return without_metadata(image, policy)


def _save(image: Any, target: Path, policy: ConversionPolicy, threads: int) -> None:
    compression = policy.tile_compression(has_alpha=image.hasalpha())
    resolution = policy.resolution
    vips.set_threads(threads)
    image.tiffsave(
        str(target),
        compression=compression,
        predictor="horizontal" if compression in _PREDICTED else "none",
        Q=policy.quality,
        lossless=compression == "webp" and policy.lossless,
        tile=True,
        tile_width=policy.tile,
        tile_height=policy.tile,
        pyramid=True,
        subifd=policy.subifd,
        bigtiff=needs_big_tiff(image, policy),
        resunit="cm",  # libvips before 8.15 has no other default
        **({"xres": resolution, "yres": resolution} if resolution else {}),
    )


def needs_big_tiff(image: Any, policy: ConversionPolicy) -> bool:
    """True if `image` is written as BigTIFF. Compression may save nothing, so it does not count."""
    return policy.always_big or decoded_bytes(image) > _CLASSIC_TIFF_BYTES
