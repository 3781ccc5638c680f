"""From a parsed request to bytes: the way of one image request, cheapest tier first
(docs/architecture.md).

What is made is made once (single-flight by product), published inside the flight, and owed to
nobody's connection. A tier that fails for a reason the next could survive is counted and passed
over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    AssetNotFound,
    NotFound,
    SourceChanged,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from orchestrator.iiif.geometry import Limits, ResolvedImage, decoded_pixels, resolve
from orchestrator.iiif.syntax import FORMATS, ImageRequest
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import Rights
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.image_server import ImageServer
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator
from orchestrator.routing.plan import (
    Access,
    ExactThumbnail,
    FromSource,
    ResizedThumbnail,
    Step,
    ThumbnailRules,
    access_class,
    plan,
    thumbnail_plan,
)
from orchestrator.routing.snapshots import Snapshot, Snapshots
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.storage import object_keys as keys
from orchestrator.storage.store import ObjectStore, read

log = logging.getLogger(__name__)
MAX_THUMBNAIL_BYTES = 64 * 1024**2


class SourceRefresher(Protocol):
    """Ingest's part in healing: the bytes at a source's location are no longer those that were
    recorded.
    """

    async def refresh_source(self, asset: Asset) -> Asset:
        """The asset as it is now, registered anew from what is at its origin."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveredImage:
    """An encoded picture and how it came to be."""

    body: bytes
    tier: str
    media_type: str
    image: ResolvedImage
    asset: Asset
    stale: bool
    private: bool
    timings: tuple[tuple[str, float], ...]
    """(step, milliseconds), for Server-Timing."""


@dataclass(frozen=True, slots=True)
class _Made:
    body: bytes
    tier: str


class Deliverer:
    """Answers image requests; knows nothing of HTTP."""

    def __init__(  # noqa: PLR0913  the composition root names every tier
        self,
        *,
        snapshots: Snapshots,
        store: ObjectStore,
        derivatives: DiskCache,
        sources: SourceOrchestrator,
        unorchestrated: UnorchestratedRenderer,
        flights: SingleFlight,
        image_server: ImageServer,
        pool: ImagingPool,
        refresher: SourceRefresher,
        limits: Limits,
        rules: ThumbnailRules,
        caching: CachingRules,
        encoder: Encoder,
        max_decode_pixels: int,
        timeout_s: float,
    ) -> None:
        self._snapshots = snapshots
        self._store = store
        self._derivatives = derivatives
        self._sources = sources
        self._unorchestrated = unorchestrated
        self._flights = flights
        self._image_server = image_server
        self._pool = pool
        self._refresher = refresher
        self._limits = limits
        self._rules = rules
        self._caching = caching
        self._encoder = encoder
        self._max_decode_pixels = max_decode_pixels
        self._timeout_s = timeout_s

    async def image(
        self, asset_id: AssetId, request: ImageRequest, rights: Rights
    ) -> DeliveredImage:
        """The picture asked for.

        Raises InvalidImageRequest, NotAuthorised, AssetNotFound, Unprocessable, Overloaded or
        Unavailable.
        """
        return await self._deliver(asset_id, request, rights, plan)

    async def thumbnail(self, asset_id: AssetId, request: ImageRequest) -> DeliveredImage:
        """The same from stored open thumbnails only. Raises AssetNotFound when none can answer."""

        def only_thumbnails(
            asset: Asset, image: ResolvedImage, _access: Access, rules: ThumbnailRules
        ) -> tuple[Step, ...]:
            steps = thumbnail_plan(asset, image, rules)
            if not steps:
                raise AssetNotFound(
                    "No stored thumbnail answers this; ask /iiif-img for other sizes."
                )
            return steps

        return await self._deliver(asset_id, request, Rights(), only_thumbnails)

    async def _deliver(
        self,
        asset_id: AssetId,
        request: ImageRequest,
        rights: Rights,
        planner: Callable[[Asset, ResolvedImage, Access, ThumbnailRules], tuple[Step, ...]],
    ) -> DeliveredImage:
        started = time.perf_counter()
        snapshot = await self._snapshots.get(asset_id)
        known = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    picture = await self._from_tiers(snapshot, request, rights, planner)
                except SourceChanged:
                    # What is remembered is yesterday's: look again, once, and let that answer
                    # stand.
                    snapshot = await self._anew(snapshot)
                    picture = await self._from_tiers(snapshot, request, rights, planner)
        except TimeoutError as error:
            raise Unavailable("This image took too long to make; try again shortly.") from error
        ended = time.perf_counter()
        timings = (("asset", (known - started) * 1e3), (picture.tier, (ended - known) * 1e3))
        return replace(picture, timings=timings)

    async def _anew(self, snapshot: Snapshot) -> Snapshot:
        """The asset read again; registered again when its original was replaced under the same
        version.
        """
        before = snapshot.asset
        self._snapshots.drop(before.id)
        now = await self._snapshots.get(before.id)
        if now.asset.version == before.version and now.asset.source == before.source:
            await self._refresher.refresh_source(now.asset)
            self._snapshots.drop(before.id)
            now = await self._snapshots.get(before.id)
        return now

    async def _from_tiers(
        self,
        snapshot: Snapshot,
        request: ImageRequest,
        rights: Rights,
        planner: Callable[[Asset, ResolvedImage, Access, ThumbnailRules], tuple[Step, ...]],
    ) -> DeliveredImage:
        asset = snapshot.asset
        authorised = rights.cover(asset)
        edge = None if authorised else asset.public_edge
        image = resolve(request, asset.dimensions, self._limits, public_edge=edge)
        access = access_class(asset, image, authorised=authorised)
        steps = planner(asset, image, access, self._rules)
        product = Product(
            str(asset.id),
            asset.version,
            f"{access}/{image.product}",
            image.format,
            pinned=self._caching.is_pinned(asset),
        )

        async def on_disk() -> _Made | None:
            body = await self._derivatives.get(product)
            metrics.TIER_LOOKUPS.labels(
                tier="disk", outcome="miss" if body is None else "hit"
            ).inc()
            return None if body is None else _Made(body, "disk")

        made = await on_disk()
        if made is None:
            made = await self._flights.run(
                f"image {product.asset} {product.version} {product.name}",
                lambda: self._make(asset, image, steps, product),
                found=on_disk,
            )
        return DeliveredImage(
            made.body,
            made.tier,
            FORMATS[image.format],
            image,
            asset,
            snapshot.stale,
            asset.restricted,
            (),
        )

    async def _make(
        self, asset: Asset, image: ResolvedImage, steps: tuple[Step, ...], product: Product
    ) -> _Made:
        """The first step that answers; published to the disk cache before anybody sees it."""
        for position, step in enumerate(steps):
            try:
                made = await self._take(asset, image, step)
            except (NotFound, Unavailable, Unprocessable) as error:
                metrics.TIER_FAILURES.labels(tier=_tier(step), error=type(error).__name__).inc()
                if position == len(steps) - 1:
                    raise
                log.warning(
                    "tier failed",
                    extra={
                        "asset": product.asset,
                        "tier": _tier(step),
                        "error": type(error).__name__,
                    },
                )
                continue
            if not await self._derivatives.put(product, made.body):
                metrics.UNCACHED.labels(cache="derivatives").inc()
            return made
        raise AssetNotFound("Nothing here can answer this.")

    async def _take(self, asset: Asset, image: ResolvedImage, step: Step) -> _Made:
        match step:
            case ExactThumbnail(size, access):
                return _Made(await self._thumbnail(asset, size, access), "thumb")
            case ResizedThumbnail(size, access):
                body = await self._thumbnail(asset, size, access)
                resized = await self._pool.resize(
                    body, image.size, image.quality, image.format, self._encoder
                )
                return _Made(resized, "resize")
            case FromSource():
                self._check_cost(asset, image)
                metrics.RENDERS.inc()
                return _Made(await self._healed(asset, image), "imageserver")

    def _check_cost(self, asset: Asset, image: ResolvedImage) -> None:
        """Refuse before decoding what would take more pixels than one answer may cost."""
        levels = asset.source.levels if asset.source else 0
        if decoded_pixels(image, levels) > self._max_decode_pixels:
            raise TooLarge("This size needs too much of the image decoded; ask for a smaller one.")

    async def _thumbnail(self, asset: Asset, size: tuple[int, int], access: Access) -> bytes:
        key = keys.thumbnail_key(asset.id, asset.thumbnails_version, access, max(size))
        return await read(self._store, key, max_bytes=MAX_THUMBNAIL_BYTES)

    async def _healed(self, asset: Asset, image: ResolvedImage) -> bytes:
        """Cut from the source; a file that vanished between finding and reading it is brought
        again, once.
        """
        try:
            return await self._cut(asset, image)
        except FileNotFoundError:
            log.info("source vanished", extra={"asset": str(asset.id)})
        try:
            return await self._cut(asset, image)
        except FileNotFoundError as error:
            raise SourceChanged("The image is being replaced; try again.") from error

    async def _cut(self, asset: Asset, image: ResolvedImage) -> bytes:
        try:
            async with self._sources.lease(asset) as path:
                return await self._image_server.render(asset, path, image)
        except NotOrchestrated as refused:
            return await self._unorchestrated.render(asset, image, refused.why)


def _tier(step: Step) -> str:
    match step:
        case ExactThumbnail():
            return "thumb"
        case ResizedThumbnail():
            return "resize"
        case FromSource():
            return "imageserver"


class Remember:
    """For how many seconds single-flight remembers a failure, by its kind."""

    def __init__(self, *, missing_s: float, unavailable_s: float, broken_s: float) -> None:
        self._missing_s = missing_s
        self._unavailable_s = unavailable_s
        self._broken_s = broken_s

    def __call__(self, error: BaseException) -> float:
        """Seconds; 0 for what must not be remembered (overload, changed sources, bad requests)."""
        match error:
            case SourceChanged():
                return 0.0
            case NotFound():
                return self._missing_s
            case Unavailable():
                return self._unavailable_s
            case Unprocessable():
                return self._broken_s
            case _:
                return 0.0
