"""Makes one derivative by one step of a plan: a stored thumbnail, a resized thumbnail, or pixels
cut from the source (steps 5 to 7 of "The way of one image request" in docs/architecture.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator import metrics
from orchestrator.errors import SourceChanged, TooLarge, Unprocessable
from orchestrator.iiif.geometry import ResolvedImage, decoded_pixels
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, Dimensions
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator
from orchestrator.routing.plan import Access, ExactThumbnail, FromSource, ResizedThumbnail, Step
from orchestrator.routing.promotion.promoted_sources import Promoted, PromotedSources
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.storage import object_keys as keys
from orchestrator.storage.store import ObjectStore, read

log = logging.getLogger(__name__)
MAX_RANGE_PIXELS = 1024**2
"""A larger image is made of so much of its source that it waits for the copy."""
MAX_THUMBNAIL_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Derivative:
    """Encoded bytes and the tier that they come from."""

    body: bytes
    tier: str
    is_stored: bool = True
    """False if it is not written to the disk cache."""


class DerivativeMaker:
    """Executes one step of a plan."""

    def __init__(  # noqa: PLR0913  it only puts the parts together
        self,
        *,
        store: ObjectStore,
        sources: SourceOrchestrator,
        promoted: PromotedSources,
        unorchestrated: UnorchestratedRenderer,
        image_servers: ImageServerPools,
        pool: ImagingPool,
        encoder: Encoder,
        max_decode_pixels: int,
        on_cold: Callable[[Asset], None],
    ) -> None:
        """`on_cold` is called with an asset whose source is not on this host and is large: it has
        the source copied, while tiles are cut from ranges of it.
        """
        self._on_cold = on_cold
        self._store = store
        self._sources = sources
        self._promoted = promoted
        self._unorchestrated = unorchestrated
        self._image_servers = image_servers
        self._pool = pool
        self._encoder = encoder
        self._max_decode_pixels = max_decode_pixels
        self._stored_tiles = metrics.UNSTORED.labels(why="stored_tile")

    async def make(self, asset: Asset, image: ResolvedImage, step: Step) -> Derivative:
        """The derivative that this step gives.

        Raises ObjectNotFound, StorageUnavailable, Unprocessable, TooLarge, Overloaded,
        ImageServerUnavailable, or SourceChanged when the source is not the recorded one.
        """
        match step:
            case ExactThumbnail(size, access):
                body = await self._read_thumbnail(asset, size, access)
            case ResizedThumbnail(size, access):
                thumbnail = await self._read_thumbnail(asset, size, access)
                body = await self._pool.resize(
                    thumbnail, image.size, image.quality, image.format, self._encoder
                )
            case FromSource():
                self._check_cost(asset, image)
                metrics.RENDERS.inc()
                body = await self._render(asset, image)
        return Derivative(body, step.tier)

    def ready(self, asset: Asset, image: ResolvedImage, steps: tuple[Step, ...]) -> bytes | None:
        """The encoded image if a pyramid on this host holds it as a tile that can be passed on
        without waiting; else None.
        """
        if not isinstance(steps[0], FromSource):
            return None
        found = self._find_promoted(asset, image)
        if found is not None:
            server, promoted = found
            body = server.ready_tile(promoted.asset, promoted.path, image)
        else:
            path = self._sources.known_file(asset)
            body = None if path is None else self._image_servers.ready_tile(asset, path, image)
        if body is not None:
            self._stored_tiles.inc()
        return body

    def is_cheap(self, asset: Asset, image: ResolvedImage, steps: tuple[Step, ...]) -> bool:
        """True if making the image costs less than storing it: the source is on this host, and the
        image server calls it cheap.
        """
        if not isinstance(steps[0], FromSource):
            return False
        found = self._find_promoted(asset, image)
        if found is not None:
            server, promoted = found
            return server.is_cheap(promoted.asset, image)
        is_cheap = self._image_servers.is_cheap(asset, image)
        return is_cheap and self._sources.known_file(asset) is not None

    def _find_promoted(
        self, asset: Asset, image: ResolvedImage
    ) -> tuple[BuiltinImageServer, Promoted] | None:
        """A promoted source that this process has used before, and the server that reads it. Only
        the built-in image server does.
        """
        promoted = self._promoted.known(asset, image)
        server = self._image_servers.builtin_for(asset, image) if promoted else None
        return None if promoted is None or server is None else (server, promoted)

    async def _read_thumbnail(self, asset: Asset, size: Dimensions, access: Access) -> bytes:
        key = keys.thumbnail_key(asset.id, asset.thumbnails_version, access, max(size))
        return await read(self._store, key, max_bytes=MAX_THUMBNAIL_BYTES)

    def _check_cost(self, asset: Asset, image: ResolvedImage) -> None:
        """Refuse, before decoding, an image that needs more decoded pixels than one answer may
        cost. Raises TooLarge.
        """
        levels = asset.source.levels if asset.source else 0
        if decoded_pixels(image, levels) > self._max_decode_pixels:
            raise TooLarge("This request needs too many decoded pixels. Request a smaller size.")

    async def _render(self, asset: Asset, image: ResolvedImage) -> bytes:
        """Cut the image from the promoted source if there is one, else from the source. Only the
        built-in image server uses promoted sources.
        """
        server = self._image_servers.builtin_for(asset, image)
        if server is None:
            return await self._render_source(asset, image)
        async with self._promoted.hold(asset, image) as promoted:
            if promoted is not None:
                try:
                    return await server.render(promoted.asset, promoted.path, image)
                except (FileNotFoundError, SourceChanged, Unprocessable) as error:
                    await self._promoted.discard(asset, error)
        body = await self._render_source(asset, image)
        self._promoted.count(asset, image)
        return body

    async def _render_source(self, asset: Asset, image: ResolvedImage) -> bytes:
        """Cut the image from the source. If the source file was deleted between the look-up and the
        read, copy it again, once.
        """
        try:
            return await self._render_once(asset, image)
        except FileNotFoundError:
            log.info("source file missing", extra={"asset": str(asset.id)})
        try:
            return await self._render_once(asset, image)
        except FileNotFoundError as error:
            raise SourceChanged("The asset is being replaced. Try again.") from error

    async def _render_once(
        self, asset: Asset, image: ResolvedImage, *, waits: bool = False
    ) -> bytes:
        """`waits`: only the whole source can answer, so the copy of a large one is waited for."""
        reader = self._image_servers.reader_of(asset, image)
        if reader is not None:
            pool, key = reader
            return await pool.render_object(asset, key, image)
        width, height = image.size
        is_small = width * height <= MAX_RANGE_PIXELS
        may_do_without = is_small or self._unorchestrated.has_special_pool_for(image)
        try:
            async with self._sources.lease(asset, waits=waits or not may_do_without) as path:
                return await self._image_servers.render(asset, path, image)
        except NotOrchestrated as refused:
            if refused.reason != "cold":
                return await self._unorchestrated.render(asset, image, refused.reason)
        if not image.full_region:  # a viewer zooms; the whole picture is mostly all that is wanted
            self._on_cold(asset)
        body = await self._unorchestrated.render_cold(asset, image, from_parts=is_small)
        return await self._render_once(asset, image, waits=True) if body is None else body
