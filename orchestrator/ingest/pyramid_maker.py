"""Makes verified pyramid TIFFs of one original, in scratch space: one of a picture, or one of each
page of a PDF.

Uses neither the catalogue nor the object store, so it can be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.imaging import ConversionPolicy, Probe
from orchestrator.imaging.decoded_original import scratch_bytes
from orchestrator.imaging.formats.loaders import PDF_DPI
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.pyramid_check import PyramidFacts
from orchestrator.ingest.pyramid_policies import PyramidPolicy
from orchestrator.model import Dimensions

CheckRoom = Callable[[int], Awaitable[None]]
"""Raises NoRoom if the disk has no room for this many bytes of scratch."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """One pyramid TIFF that was checked. `page` counts the pages of a PDF from 1; it is 0 if the
    original has only one page.
    """

    path: Path
    page: int
    facts: PyramidFacts

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels."""
        return self.facts.probe.dimensions

    @property
    def levels(self) -> int:
        """The number of levels, including the picture at full scale."""
        return len(self.facts.levels)

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.facts.bytes


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
    pages = 1
    if probe.format == "pdf" and not policy.first_page_only:
        pages = await imaging.pyramids.count_pages(original)
    pyramids = []
    for number in range(1, pages + 1):
        if check_room is not None:
            await check_room(_scratch_bytes(probe, conversion))
        page = number if pages > 1 else 0
        target = folder / pyramid_name("pyramid", page)
        facts = await imaging.pyramids.write(original, target, conversion, page=number)
        pyramids.append(Pyramid(target, page, facts))
    return pyramids


def _scratch_bytes(probe: Probe, conversion: ConversionPolicy) -> int:
    """The bytes of scratch for one page, at most; `probe` is of the first page at PDF_DPI."""
    if probe.format != "pdf":
        return scratch_bytes(probe)
    width, height = (-(-side * conversion.pdf_dpi // PDF_DPI) for side in probe.dimensions)
    return scratch_bytes(replace(probe, width=width, height=height))
