"""Makes everything that is stored of an original, in scratch space.

Uses neither the catalogue nor the object store, so it can be repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.iiif.thumbnail_sizes import sizes_by_edge
from orchestrator.imaging import FASTEST, ConversionPolicy, Probe
from orchestrator.imaging.decoded_original import scratch_bytes
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.ingest.policies import OptimisationPolicy, ThumbnailPolicy
from orchestrator.ingest.stage_timer import StageTimer
from orchestrator.model import Dimensions, SourceKind

THUMBNAIL_QUALITY = 90
"""JPEG quality of thumbnails. Smaller sizes are made from them on request and must not show it."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """The two policies that an asset is made with."""

    optimisation: OptimisationPolicy
    thumbnails: ThumbnailPolicy

    @property
    def digest(self) -> str:
        """Identifies the definitions of both, without their names."""
        conversion = self.optimisation.conversion
        values = None
        if conversion is not None:
            kind, tile = str(conversion.kind), conversion.tile
            values = [kind, tile, conversion.lossless, conversion.quality, conversion.psnr]
        text = json.dumps([values, self.thumbnails.sizes])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG in scratch space and its (width, height) in pixels."""

    size: Dimensions
    path: Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """The tile-ready source (`is_original`: the original itself) and its thumbnails, largest first.
    `original` and `probe` describe the original and the source.
    """

    original: Probe
    probe: Probe
    source: Path
    is_original: bool
    thumbnails: tuple[Thumbnail, ...]


async def prepare(
    imaging: ImagingPool,
    original: Path,
    recipes: Recipes,
    folder: Path,
    *,
    stages: StageTimer | None = None,
    probe: Probe | None = None,
    keep_original: bool = False,
    check_room: Callable[[int], Awaitable[None]] | None = None,
) -> Prepared:
    """Make source and thumbnails of `original` in `folder`, which is empty. `probe` describes the
    original if it was probed before.

    A file that is already tile-ready is used as it is with every policy. One that cannot be served
    well as it is, is converted with every policy, unless `keep_original`. `check_room` raises
    NoRoom if the disk has no room for this many bytes of scratch.

    Raises Unprocessable, TooLarge, Overloaded, NoRoom as `imaging` does.
    """
    stages = stages or StageTimer()
    if probe is None:
        with stages.step("probe"):
            probe = await imaging.probe(original)
    conversion = None if keep_original else conversion_for(probe, recipes)
    source, source_probe = original, probe
    sizes = thumbnail_sizes(probe.dimensions, recipes.thumbnails)
    thumbnails_folder = folder / "thumbnails"
    thumbnails_folder.mkdir()
    if conversion is not None:
        if check_room is not None:
            await check_room(scratch_bytes(probe))
        source = folder / f"source.{conversion.extension}"
        request = ThumbnailRequest(tuple(sizes), thumbnails_folder, THUMBNAIL_QUALITY)
        with stages.step("convert"):
            source_probe, paths = await imaging.convert_with_thumbnails(
                original, source, conversion, request
            )
    else:
        with stages.step("thumbnails"):
            paths = await imaging.thumbnails(source, sizes, thumbnails_folder, THUMBNAIL_QUALITY)
    thumbnails = tuple(Thumbnail(size, path) for size, path in zip(sizes, paths, strict=True))
    return Prepared(probe, source_probe, source, source is original, thumbnails)


def conversion_for(probe: Probe, recipes: Recipes) -> ConversionPolicy | None:
    """Return the conversion that makes the source of an original; None if the original is it."""
    conversion = recipes.optimisation.conversion
    if probe.needs_conversion:
        return conversion or FASTEST
    return conversion if probe.kind is SourceKind.ORIGINAL else None


def thumbnail_sizes(dimensions: Dimensions, policy: ThumbnailPolicy) -> list[Dimensions]:
    """Return the sizes of an image's thumbnails, largest first, one for each longest edge: the edge
    is their name.
    """
    return sizes_by_edge(dimensions, policy.sizes)
