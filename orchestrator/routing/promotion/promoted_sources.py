"""Promoted sources: pyramid TIFFs on fast disk, made by the product of sources that are slow to cut
tiles from (docs/adr/0032-promotion.md). They are files of the source cache, keyed by the version of
their asset, so a promoted source is found by its name, without a list.

Finds the promoted source of an asset, and counts the pixels that are drawn from sources without
one. `Promoter` makes them. Nothing here is needed for an answer: without a promoted source the
image is cut from the source itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cachetools import LRUCache

from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.exception_text import describe_error
from orchestrator.iiif.geometry import ResolvedImage, decoded_pixels
from orchestrator.imaging.ready_tiles import has_cached_reads
from orchestrator.imaging.recipes import FASTEST, ConversionPolicy, pyramid_levels
from orchestrator.imaging.slow_originals import decoded_bytes
from orchestrator.model import FILE, Asset, AssetId, AssetState, Source, SourceKind
from orchestrator.origins.file_reader import is_unchanged, verify_file
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.promotion.tile_demand import TileDemand
from orchestrator.settings import Promotion

log = logging.getLogger(__name__)
_KNOWN_KEPT = 20_000
_LOSSY = frozenset(("jpg", "webp", "avif"))
"""Other formats lose nothing and may have 16 bits, so they are cut from the source itself."""
_ORIGINAL_SPEED = 5
"""An original is decoded, or cut if it is kept decoded, so many times faster than JPEG2000."""
_UNSETTLED = frozenset((AssetState.REGISTERED, AssetState.INGESTING))
"""A conversion follows, which makes a better source."""
_TILES = range(128, 1025, 16)
"""Edges of tiles that a pyramid TIFF can have and that are not too many or too large."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """A promoted source: the asset as if its source were this pyramid, and the file."""

    asset: Asset
    path: Path


@dataclass(frozen=True, slots=True)
class _Known:
    promoted: Promoted
    product: Product
    in_place: Source | None
    """The source, if it is a file that others may replace."""


class PromotedSources:
    """The promoted sources of this host, as one process uses them."""

    def __init__(
        self,
        cache: DiskCache,
        demand: TileDemand,
        settings: Promotion,
        rules: CachingRules,
        on_demand: Callable[[Asset], None],
        *,
        kept_bytes: int,
    ) -> None:
        """`cache` is the source cache. `on_demand` is called with an asset whose source should be
        promoted, at each further tile. A worker keeps an original open whose decoded pixels have up
        to `kept_bytes`.
        """
        self._kept_bytes = kept_bytes
        self._cache = cache
        self._demand = demand
        self._settings = settings
        self._rules = rules
        self._on_demand = on_demand
        self._known: LRUCache[tuple[AssetId, int], _Known] = LRUCache(_KNOWN_KEPT)

    def known(self, asset: Asset, image: ResolvedImage) -> Promoted | None:
        """The promoted source that `hold` gave for this asset version before, if it may answer
        `image`. It may have been evicted since. Counts as a use; does not wait.
        """
        if not _is_slow(asset) or image.format not in _LOSSY:
            return None
        known = self._known.get((asset.id, asset.version))
        if known is None or not (known.in_place is None or is_unchanged(known.in_place)):
            return None
        self._cache.count_use(known.product)
        return known.promoted

    @asynccontextmanager
    async def hold(self, asset: Asset, image: ResolvedImage) -> AsyncIterator[Promoted | None]:
        """The promoted source, if there is one that may answer `image`. It is not evicted until the
        end of the block. Raises SourceChanged if the source is a file that was replaced.
        """
        key, source = (asset.id, asset.version), asset.source
        if source is None or not self._may_use(asset, image):
            yield None
            return
        product = promoted_product(asset, source)
        if not self._cache.assets.has(product):
            self._known.pop(key, None)
            yield None
            return
        in_place = source if source.location.startswith(FILE) else None
        is_local = in_place is None or await asyncio.to_thread(_verify, in_place)
        async with self._cache.hold(product) as path:
            if path is None:
                yield None
                return
            promoted = Promoted(_with_pyramid(asset, source), path)
            if is_local:
                self._known[key] = _Known(promoted, product, in_place)
            yield promoted

    async def discard(self, asset: Asset, error: Exception) -> None:
        """Remove the files of an asset from the source cache, after a failure to read its promoted
        source.
        """
        fields = {"asset": str(asset.id), "reason": describe_error(error)}
        log.warning("promoted source not readable", extra=fields)
        self._known.pop((asset.id, asset.version), None)
        if not isinstance(error, FileNotFoundError):
            await self._cache.assets.drop(str(asset.id))

    def count(self, asset: Asset, image: ResolvedImage) -> None:
        """Count an image that was cut from the source itself."""
        if asset.state in _UNSETTLED or image.full_region or not self._may_use(asset, image):
            return
        settings, pixels = self._settings, asset.width * asset.height
        drawn = self._demand.add(f"{asset.id} {asset.version}", self._pixels_drawn(asset, image))
        if drawn >= max(settings.from_pixels, settings.share * pixels):
            self._on_demand(asset)

    def _may_use(self, asset: Asset, image: ResolvedImage) -> bool:
        return (
            self._settings.enabled
            and _is_slow(asset)
            and image.format in _LOSSY
            and self._rules.may_orchestrate(asset)
        )

    def _pixels_drawn(self, asset: Asset, image: ResolvedImage) -> float:
        """What the image costs, as the number of JPEG2000 pixels that could be decoded in that
        time. An original that is not kept is decoded again.
        """
        source, dimensions = asset.source, asset.dimensions
        pixels = decoded_pixels(image, source.levels if source else 0)
        if source is not None and source.kind is SourceKind.JPEG2000:
            return pixels
        is_kept = decoded_bytes(dimensions) <= self._kept_bytes
        return (pixels if is_kept else dimensions[0] * dimensions[1]) / _ORIGINAL_SPEED


def promotion_policy(source: Source) -> ConversionPolicy:
    """How this source is promoted: as by the policy `fastest`, with the tiles that info documents
    advertise, so that these can be passed on as they are stored.
    """
    is_usual = source.tile_width == source.tile_height and source.tile_width in _TILES
    return replace(FASTEST, tile=source.tile_width if is_usual else FASTEST.tile)


def promoted_product(asset: Asset, source: Source) -> Product:
    """The product that names the promoted source of this asset version."""
    policy = promotion_policy(source)
    name = f"promoted {policy.tile} Q{policy.quality} {source.location}"
    return Product(str(asset.id), asset.version, name, policy.extension)


def _is_slow(asset: Asset) -> bool:
    """True if the asset has a source of which each tile takes a decode."""
    return asset.source is not None and asset.source.kind is not SourceKind.PYRAMID_TIFF


def _with_pyramid(asset: Asset, source: Source) -> Asset:
    policy = promotion_policy(source)
    pyramid = replace(
        source,
        location=f"promoted:{source.location}",
        kind=policy.kind,
        extension=policy.extension,
        tile_width=policy.tile,
        tile_height=policy.tile,
        levels=pyramid_levels(asset.dimensions, policy.tile),
    )
    return replace(asset, source=pyramid)


def _verify(source: Source) -> bool:
    """True if the event loop may ask for the state of this file at any time: it is on a local disk.
    Blocking. Raises SourceChanged.
    """
    return has_cached_reads(str(verify_file(source)))
