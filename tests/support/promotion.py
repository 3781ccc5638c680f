"""Parts of promotion for tests."""

from __future__ import annotations

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
    return PromotedSources(cache, demand, settings, CachingRules(), lambda _: None)
