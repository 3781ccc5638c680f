"""Pyramid TIFFs by the decode workers of a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import DecodeFailed
from orchestrator.imaging.full_disk import is_disk_full, no_room
from orchestrator.imaging.pyramid_check import PyramidFacts
from orchestrator.imaging.recipes import ConversionPolicy, Probe
from orchestrator.imaging.workers import decode_worker
from orchestrator.imaging.workers.decode_worker import WorkerLimits
from orchestrator.imaging.workers.lanes import Lane
from orchestrator.settings import Imaging

T = TypeVar("T")


class PyramidCalls:
    """Writes and checks pyramid TIFFs in the workers of `lane`."""

    def __init__(self, lane: Lane, limits: WorkerLimits, settings: Imaging) -> None:
        self._lane = lane
        self._limits = limits
        self._settings = settings

    async def probe(self, path: Path) -> Probe:
        """See `ImagingPool.probe`."""
        return await self._lane.run(
            decode_worker.probe,
            str(path),
            self._limits.bounds,
            timeout_s=self._settings.convert_timeout_s,
        )

    async def count_pages(self, path: Path) -> int:
        """The number of pages of a PDF; 1 for another picture. Raises as `ImagingPool.probe`."""
        return await self._lane.run(
            decode_worker.count_pages,
            str(path),
            self._limits.bounds,
            timeout_s=self._settings.decode_timeout_s,
        )

    async def write(
        self, path: Path, target: Path, policy: ConversionPolicy, *, page: int = 1
    ) -> PyramidFacts:
        """Write `target`: the picture at `path`, or a page of a PDF counted from 1, as a pyramid
        TIFF that was checked. Raises as `ImagingPool.convert`.
        """
        return await run_writing(
            self._lane,
            self._settings.convert_timeout_s,
            target.parent,
            decode_worker.write_pyramid,
            str(path),
            str(target),
            policy,
            page,
            with_idle_cores(self._lane, self._limits),
        )

    async def check(self, path: Path) -> PyramidFacts:
        """Decode every tile of the pyramid TIFF at `path`; what it is. Raises InvalidInput if it is
        no complete pyramid TIFF, Unprocessable, DecodeTimeout, TooLarge, Overloaded,
        FileNotFoundError.
        """
        return await self._lane.run(
            decode_worker.check_pyramid,
            str(path),
            self._limits.bounds,
            timeout_s=self._settings.convert_timeout_s,
        )


def with_idle_cores(lane: Lane, limits: WorkerLimits) -> WorkerLimits:
    """`limits` of one conversion. Alone it may use all cores; several at once are faster on one
    core each.
    """
    return replace(limits, cores=limits.cores if not lane.is_busy else 1)


async def run_writing(
    lane: Lane, timeout_s: float, folder: Path, call: Callable[..., T], *arguments: Any
) -> T:
    """Run a call that writes files to `folder`. A worker that ends on a full disk is not the fault
    of the picture.
    """
    try:
        return await lane.run(call, *arguments, timeout_s=timeout_s)
    except DecodeFailed as error:
        if await asyncio.to_thread(is_disk_full, folder):
            raise no_room() from error
        raise
