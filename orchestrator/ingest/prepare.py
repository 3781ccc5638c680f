"""From an original on local disk to everything that will be stored of it, still on scratch.

Touches neither catalogue nor object store, so it can be repeated at will.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.iiif.thumbnail_sizes import sizes_by_edge
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.ingest.policies import OptimisationPolicy, ThumbnailPolicy
from orchestrator.ingest.stage_timer import Stages
from orchestrator.model import Dimensions, SourceKind

THUMBNAIL_QUALITY = 90
"""JPEG quality of thumbnails: smaller sizes are made from them on the fly and must not show it."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """The policies one asset is made by."""

    optimisation: OptimisationPolicy
    thumbnails: ThumbnailPolicy


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG on scratch and its (width, height)."""

    size: Dimensions
    path: Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """The tile-ready source (the original itself where it is used as it is) and its thumbnails,
    largest first.
    """

    original: Probe
    probe: Probe
    source: Path
    is_original: bool
    thumbnails: tuple[Thumbnail, ...]


async def prepare(
    imaging: ImagingPool,
    original: Path,
    policies: Recipes,
    folder: Path,
    stages: Stages | None = None,
    *,
    found: Probe | None = None,
) -> Prepared:
    """Make source and thumbnails of `original` in `folder`, which is empty; `found` where it was
    probed already.

    A file that is tile-ready already is used as it is, whatever the policy says. Raises
    Unprocessable, TooLarge, Overloaded as `imaging` does.
    """
    stages = stages or Stages()
    if found is None:
        with stages.step("probe"):
            found = await imaging.probe(original)
    probe = found
    conversion = policies.optimisation.conversion
    source = original
    sizes = sizes_for(probe.dimensions, policies.thumbnails)
    thumbnails_folder = folder / "thumbnails"
    thumbnails_folder.mkdir()
    if conversion is not None and probe.kind is SourceKind.ORIGINAL:
        source = folder / f"source.{conversion.extension}"
        request = ThumbnailRequest(tuple(sizes), thumbnails_folder, THUMBNAIL_QUALITY)
        with stages.step("convert"):
            probe, paths = await imaging.convert_with_thumbnails(
                original, source, conversion, request
            )
    else:
        with stages.step("thumbnails"):
            paths = await imaging.thumbnails(source, sizes, thumbnails_folder, THUMBNAIL_QUALITY)
    made = tuple(Thumbnail(size, path) for size, path in zip(sizes, paths, strict=True))
    return Prepared(found, probe, source, source is original, made)


def sizes_for(dimensions: Dimensions, policy: ThumbnailPolicy) -> list[Dimensions]:
    """Return the thumbnails of an image, largest first, one for each longest edge, by which they
    are named.
    """
    return sizes_by_edge(dimensions, policy.sizes)
