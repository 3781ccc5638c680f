"""Answers one image request from the cheapest tier that can: steps 3 to 8 of "The way of one image
request" in docs/architecture.md.

`plan.py` chooses among the tiers that make a derivative, `derivative_maker.py` makes it. It is made
once for all callers (single-flight) and published to the disk cache inside that flight. A client
that disconnects ends only its own wait. If a tier fails and the next one could still answer, the
failure is counted and the next tier is tried.
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

    async def _answer(
        self, snapshot: Snapshot, request: ImageRequest, rights: Rights, service: _Service
    ) -> DeliveredImage:
        resolver, planner = service
        asset = snapshot.asset
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

        async def read_disk() -> Derivative | None:
            body = await self._derivatives.get(product)
            metrics.TIER_LOOKUPS.labels(
                tier="disk", outcome="miss" if body is None else "hit"
            ).inc()
            return None if body is None else Derivative(body, "disk")

        # Step 4: the disk cache.
        derivative = await read_disk()
        if derivative is None:
            # Steps 5 to 8, by one caller for all that ask for this product now.
            # The key names the steps too: a failure of /thumbs is no answer for a caller that may
            # use the source.
            tiers = " ".join(step.tier for step in steps)
            derivative = await self._flights.run(
                f"image {product.asset} {product.version} {product.name} by {tiers}",
                lambda: self._make_and_publish(asset, image, steps, product),
                find=read_disk,
            )
        return DeliveredImage(
            derivative.body,
            derivative.tier,
            FORMATS[image.format],
            image,
            asset,
            snapshot.stale,
            asset.restricted,
            (),
        )

    async def _make_and_publish(
        self, asset: Asset, image: ResolvedImage, steps: tuple[Step, ...], product: Product
    ) -> Derivative:
        """The derivative of the first step that succeeds, after it was published to the disk cache
        (uncached if there is no room).
        """
        for position, step in enumerate(steps):
            try:
                # Steps 5, 6 and 7: a thumbnail, a resized thumbnail, the source.
                derivative = await self._maker.make(asset, image, step)
            except (NotFound, Unavailable, Unprocessable) as error:
                reason = type(error).__name__
                metrics.TIER_FAILURES.labels(tier=step.tier, error=reason).inc()
                if position == len(steps) - 1:
                    raise
                log.warning(
                    "tier failed",
                    extra={"asset": product.asset, "tier": step.tier, "error": reason},
                )
                continue
            # Step 8: publish before any caller gets the bytes.
            if not await self._derivatives.put(product, derivative.body):
                metrics.UNCACHED.labels(cache="derivatives").inc()
            return derivative
        raise AssetNotFound("No tier can answer this request.")


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
