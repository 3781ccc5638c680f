"""Makes verified pyramid TIFFs of one original, in scratch space: one of a picture, or one of each
page of a PDF.

Uses neither the catalogue nor the object store, so it can be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.imaging import Probe
from orchestrator.imaging.decoded_original import scratch_bytes
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.pyramid_policies import PyramidPolicy
from orchestrator.model import Dimensions

CheckRoom = Callable[[int], Awaitable[None]]
"""Raises NoRoom if the disk has no room for this many bytes of scratch."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """One pyramid TIFF that was verified. `page` counts the pages of a PDF from 1; it is 0 if the
    original has only one page. `levels` includes the picture at full scale.
    """

    path: Path
    page: int
    probe: Probe
    levels: int
    bytes: int

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels."""
        return self.probe.dimensions


def pyramid_name(stem: str, page: int) -> str:
    """The file name of a pyramid: `{stem}.tif`, or `{stem}_0001.tif` for page 1 of several."""
    return f"{stem}_{page:04d}.tif" if page else f"{stem}.tif"


async def make_pyramids(
    imaging: ImagingPool,
    original: Path,
    policy: PyramidPolicy,
    folder: Path,
    *,
    is_copyrighted: bool = False,
    check_room: CheckRoom | None = None,
) -> list[Pyramid]:
    """Write the pyramids of `original` into `folder`, in the order of the pages. After an error the
    caller removes the folder: a file in it may be incomplete.

    Raises Unprocessable, DecodeTimeout, TooLarge, Overloaded, FileNotFoundError, NoRoom (the disk
    is full), OSError.
    """
    conversion = policy.conversion_for(is_copyrighted=is_copyrighted)
    probe = await imaging.probe(original)
    if check_room is not None:
        await check_room(scratch_bytes(probe))
    target = folder / pyramid_name("pyramid", 0)
    written = await imaging.convert(original, target, conversion)
    return [Pyramid(target, 0, written, written.levels + 1, target.stat().st_size)]
