"""Answers one image request from the cheapest tier that can: steps 3 to 8 of "The way of one image
request" in docs/architecture.md.

`plan.py` chooses among the tiers that make a derivative, `derivative_maker.py` makes it. It is made
once for all callers (single-flight), who are answered at once, and published to the disk cache
inside that flight. What costs less to make than to store is not stored. A client that disconnects
ends only its own wait. If a tier fails and the next one could still answer, the failure is counted
and the next tier is tried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    AssetNotFound,
    Damaged,
    NotFound,
    OrchestratorError,
    SourceChanged,
    SourceMismatch,
    Unavailable,
    Unprocessable,
)
from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import FORMATS, ImageRequest
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.derivative_maker import Derivative, DerivativeMaker
from orchestrator.routing.plan import (
    Access,
    FromSource,
    Step,
    ThumbnailRules,
    access_class,
    check_access,
    plan,
    resolve_thumbnail,
    thumbnail_plan,
)
from orchestrator.routing.snapshots import Snapshot

log = logging.getLogger(__name__)
Resolver = Callable[[ImageRequest, Asset, Limits, int | None], ResolvedImage]
Planner = Callable[[Asset, ResolvedImage, Access, ThumbnailRules], tuple[Step, ...]]
_Service = tuple[Resolver, Planner]
"""How a service understands a request, and which steps it tries."""


@dataclass(frozen=True, slots=True)
class DeliveredImage:
    """An encoded image, the tier that it comes from and what its response headers need."""

    body: bytes
    tier: str
    media_type: str
    image: ResolvedImage
    asset: Asset
    stale: bool
    private: bool
    timings: tuple[tuple[str, float], ...]
    """(step, milliseconds), for Server-Timing."""
    product: Product | None
    """What the disk cache has, or will soon have, it as; None for what it does not store."""


class Deliverer:
    """Answers image requests. Does not depend on HTTP."""

    def __init__(
        self,
        *,
        assets: CurrentAssets,
        derivatives: DiskCache,
        flights: SingleFlight,
        maker: DerivativeMaker,
        limits: Limits,
        thumbnail_rules: ThumbnailRules,
        caching_rules: CachingRules,
        timeout_s: float,
    ) -> None:
        self._assets = assets
        self._derivatives = derivatives
        self._flights = flights
        self._maker = maker
        self._limits = limits
        self._thumbnail_rules = thumbnail_rules
        self._caching_rules = caching_rules
        self._timeout_s = timeout_s
        self._disk_hits = metrics.TIER_LOOKUPS.labels(tier="disk", outcome="hit")
        self._disk_misses = metrics.TIER_LOOKUPS.labels(tier="disk", outcome="miss")
        self._cheap = metrics.UNSTORED.labels(why="cheap")

    async def image(
        self, asset_id: AssetId, request: ImageRequest, rights: Rights
    ) -> DeliveredImage:
        """The requested image, from any tier.

        Raises InvalidImageRequest, NotAuthorised, AssetNotFound, Unprocessable, Overloaded or
        Unavailable.
        """
        return await self._deliver(asset_id, request, rights, (_resolve_image, plan))

    async def thumbnail(self, asset_id: AssetId, request: ImageRequest) -> DeliveredImage:
        """The requested image, only from stored open thumbnails; raises as `image` does, and
        AssetNotFound if no thumbnail can answer.
        """
        service = (resolve_thumbnail, _plan_without_source)
        return await self._deliver(asset_id, request, NO_RIGHTS, service)

    async def _deliver(
        self, asset_id: AssetId, request: ImageRequest, rights: Rights, service: _Service
    ) -> DeliveredImage:
        started = time.perf_counter()
        # Step 3: the asset snapshot.
        snapshot = await self._assets.get(asset_id, rights)
        snapshot_read = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    answer = await self._answer(snapshot, request, rights, service)
                except SourceChanged:
                    # The snapshot is out of date. Read it again and try once more; a second
                    # SourceChanged goes to the client.
                    version = snapshot.asset.version
                    snapshot = await self._assets.reread(snapshot)
                    with _contradiction_reported(is_same=snapshot.asset.version == version):
                        answer = await self._answer(snapshot, request, rights, service)
        except TimeoutError as error:
            raise Unavailable("This image took too long to make. Try again shortly.") from error
        ended = time.perf_counter()
        timings = (
            ("asset", (snapshot_read - started) * 1e3),
            (answer.tier, (ended - snapshot_read) * 1e3),
        )
        return replace(answer, timings=timings)

    def at_once(
        self, asset_id: AssetId, request: ImageRequest, *, thumbnail: bool = False
    ) -> DeliveredImage | None:
        """As `image`, or `thumbnail`, for a client without rights: what can be answered without
        waiting, from a tile that a pyramid holds ready or a file of the disk cache that is in the
        page cache. None for everything else, errors included.
        """
        snapshot = self._assets.at_hand(asset_id)
        if snapshot is None:
            return None
        service = (resolve_thumbnail, _plan_without_source) if thumbnail else (_resolve_image, plan)
        started = time.perf_counter()
        try:
            wanted = self._resolve(snapshot.asset, request, NO_RIGHTS, service)
        except OrchestratorError:
            return None
        derivative = self._find_ready(wanted)
        if derivative is None:
            body = self._derivatives.get_cached(wanted.product)
            if body is None:
                return None
            self._disk_hits.inc()
            derivative = Derivative(body, "disk")
        timing = (derivative.tier, (time.perf_counter() - started) * 1e3)
        return replace(_delivered(derivative, wanted, snapshot), timings=(timing,))

    async def _answer(
        self, snapshot: Snapshot, request: ImageRequest, rights: Rights, service: _Service
    ) -> DeliveredImage:
        wanted = self._resolve(snapshot.asset, request, rights, service)
        derivative = self._find_ready(wanted) or await self._find_or_make(wanted)
        return _delivered(derivative, wanted, snapshot)

    def _resolve(
        self, asset: Asset, request: ImageRequest, rights: Rights, service: _Service
    ) -> _Wanted:
        """What this client requests of the asset. Raises InvalidImageRequest, NotAuthorised,
        AssetNotFound.
        """
        resolver, planner = service
        authorised = rights.cover(asset)
        edge = None if authorised else asset.public_edge
        # Before anything that depends on the image: a 400 would tell its dimensions.
        check_access(edge)
        image = resolver(request, asset, self._limits, edge)
        access = access_class(asset, image, authorised=authorised)
        steps = planner(asset, image, access, self._thumbnail_rules)
        product = Product(
            str(asset.id),
            asset.version,
            f"{access}/{image.product}",
            image.format,
            pinned=self._caching_rules.is_pinned(asset),
        )
        return _Wanted(asset, image, steps, product)

    def _find_ready(self, wanted: _Wanted) -> Derivative | None:
        """The tile that a pyramid on this host holds ready. It is in no disk cache: passing it on
        costs less.
        """
        body = self._maker.ready(wanted.asset, wanted.image, wanted.steps)
        return None if body is None else Derivative(body, FromSource.tier, is_stored=False)

    async def _find_or_make(self, wanted: _Wanted) -> Derivative:
        asset, image, steps, product = wanted.asset, wanted.image, wanted.steps, wanted.product

        async def read_disk() -> Derivative | None:
            body = await self._derivatives.get(product)
            (self._disk_misses if body is None else self._disk_hits).inc()
            return None if body is None else Derivative(body, "disk")

        # The key names the steps too: a failure of /thumbs is no answer for a caller that may use
        # the source.
        tiers = " ".join(step.tier for step in steps)
        key = f"image {product.asset} {product.version} {product.name} by {tiers}"
        if self._maker.is_cheap(asset, image, steps):
            self._cheap.inc()
            made = await self._flights.run(key, lambda: self._make(wanted), find=None)
            return replace(made, is_stored=False)
        # Step 4: the disk cache.
        derivative = await read_disk()
        if derivative is not None:
            return derivative
        # Steps 5 to 8, by one caller for all that ask for this product now.
        return await self._flights.run(
            key,
            lambda: self._make(wanted),
            find=read_disk,
            publish=lambda made: self._publish(product, made),
        )

    async def _make(self, wanted: _Wanted) -> Derivative:
        """The derivative of the first step that succeeds."""
        steps = wanted.steps
        for position, step in enumerate(steps):
            try:
                # Steps 5, 6 and 7: a thumbnail, a resized thumbnail, the source.
                return await self._maker.make(wanted.asset, wanted.image, step)
            except (NotFound, Unavailable, Unprocessable) as error:
                reason = type(error).__name__
                metrics.TIER_FAILURES.labels(tier=step.tier, error=reason).inc()
                if position == len(steps) - 1:
                    raise
                log.warning(
                    "tier failed",
                    extra={"asset": wanted.product.asset, "tier": step.tier, "error": reason},
                )
        raise AssetNotFound("No tier can answer this request.")

    async def _publish(self, product: Product, derivative: Derivative) -> None:
        """Step 8: publish, while the callers already have the bytes. They are complete and
        verified; without room they stay uncached.
        """
        if not await self._derivatives.put(product, derivative.body):
            metrics.UNCACHED.labels(cache="derivatives").inc()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request that was bound to an asset: the image, the steps that may make it, and its product
    in the disk cache.
    """

    asset: Asset
    image: ResolvedImage
    steps: tuple[Step, ...]
    product: Product


def _delivered(derivative: Derivative, wanted: _Wanted, snapshot: Snapshot) -> DeliveredImage:
    return DeliveredImage(
        derivative.body,
        derivative.tier,
        FORMATS[wanted.image.format],
        wanted.image,
        wanted.asset,
        snapshot.stale,
        wanted.asset.restricted,
        (),
        wanted.product if derivative.is_stored else None,
    )


@contextmanager
def _contradiction_reported(*, is_same: bool) -> Iterator[None]:
    """Raise Damaged instead of a second SourceMismatch if the recorded source `is_same`: the file
    contradicts itself.
    """
    try:
        yield
    except SourceMismatch as error:
        if not is_same:
            raise
        raise Damaged("The image file is damaged: its parts contradict each other.") from error


def _resolve_image(
    request: ImageRequest, asset: Asset, limits: Limits, edge: int | None
) -> ResolvedImage:
    return resolve(request, asset.dimensions, limits, public_edge=edge)


def _plan_without_source(
    asset: Asset, image: ResolvedImage, _access: Access, rules: ThumbnailRules
) -> tuple[Step, ...]:
    steps = thumbnail_plan(asset, image, rules)
    if not steps:
        raise AssetNotFound("No stored thumbnail answers this. Request it from /iiif-img.")
    return steps
