"""Parts of promotion for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.promotion.promoted_sources import PromotedSources
from orchestrator.routing.promotion.tile_demand import TileDemand
from orchestrator.settings import Promotion


def no_promotion(cache: DiskCache, folder: Path) -> PromotedSources:
    """Promotion that is turned off."""
    settings = Promotion(enabled=False)
    demand = TileDemand(folder / "tile-demand", settings.window_s)
    return PromotedSources(cache, demand, settings, CachingRules(), lambda _: None, kept_bytes=0)


@contextmanager
def prompt() -> Iterator[None]:
    """The calling thread runs as soon as it is ready, if this user may have that: on a busy machine
    a worker could end before the thread that stops it runs again.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def hurry(pid: int) -> None:
    """Give the worker of a promotion an ordinary priority, if this user may: on a busy machine it
    gets no processor for minutes.
    """
    with suppress(PermissionError, ProcessLookupError):
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, pid, 0)
