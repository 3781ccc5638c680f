"""Decode workers of the lowest priority, for work that no request waits for: each belongs to one
piece of work and ends with it. They take no place in the lanes of tiles and conversions, and no
processor time that another process wants.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace

from orchestrator.imaging.pyramid_calls import PyramidCalls
from orchestrator.imaging.workers.decode_worker import WorkerLimits
from orchestrator.imaging.workers.lanes import Lane
from orchestrator.settings import Imaging


class IdleWorkers:
    """Starts such workers."""

    def __init__(self, limits: WorkerLimits, settings: Imaging, starters: Executor) -> None:
        """`limits` are those of a worker for conversions; processes are started in `starters`."""
        self._limits = replace(limits, is_idle=True, cores=1)
        self._settings = settings
        self._starters = starters
        self._lanes: list[Lane] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[PyramidCalls]:
        """A worker of its own for the block, at whose end it is killed: one call at a time, on one
        core. It is started by the first call.
        """
        lane = Lane("idle", 1, 1, self._limits, self._starters)
        self._lanes.append(lane)
        try:
            yield PyramidCalls(lane, self._limits, self._settings)
        finally:
            self._lanes.remove(lane)
            lane.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(pid for lane in self._lanes for pid in lane.pids)
