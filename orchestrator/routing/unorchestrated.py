"""Cuts images from a source that is not copied to fast disk, because a rule forbids the copy or
there is no room for it.

It tries, in this order: the needed parts of the source, read as ranges of the object; for an
overview (the whole picture, or a low zoom) the special pool, which are image servers that read the
object store themselves; the whole source, read into memory, or for a cold source its copy; the
special pool for other images. If none can answer, the client gets 503 with Retry-After. Each way is
counted.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Literal

from orchestrator import metrics
from orchestrator.errors import (
    DecodeTimeout,
    ImageServerUnavailable,
    NoRoom,
    Overloaded,
    TooLarge,
    Unprocessable,
)
from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import STORE, Asset, Source
from orchestrator.routing.image_servers.builtin import recipe_for
from orchestrator.routing.image_servers.protocol import ImageServer
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.memory_sources import MemorySourceCache, WholeSourceRequired
from orchestrator.routing.orchestrate import source_of, source_product

log = logging.getLogger(__name__)
Reason = Literal["never", "no_room", "cold"]
RETRY_AFTER_S = 5.0
_LOW_ZOOM = 4
"""A region that is made at least this many times smaller is an overview: little of the decoded
source would be used by other requests.
"""


class UnorchestratedRenderer:
    """Renders images without a copy of their source on disk."""

    def __init__(
        self,
        memory: MemorySourceCache,
        renderer: ImageServer,
        special_pool: RemotePool | None,
    ) -> None:
        """`renderer` must run on this host: only this host's processes can read sources in memory.
        `special_pool` are image servers that read the object store themselves.
        """
        self._memory = memory
        self._renderer = renderer
        self._special_pool = special_pool

    async def render(self, asset: Asset, image: ResolvedImage, reason: Reason) -> bytes:
        """The encoded image; `reason` says why the source is not on disk.

        Raises Overloaded if none of the ways can answer, and what the image servers and
        `MemorySourceCache.open_whole` raise.
        """
        source = source_of(asset)
        try:
            try:
                body, method = await self._render_from_parts(asset, source, image), "range"
            except (WholeSourceRequired, Unprocessable) as error:
                if isinstance(error, DecodeTimeout):
                    raise
                # A header may be wrong about where the parts are. Only a failure on the whole
                # source says that the source is broken.
                special = await self._render_overview(asset, source, image)
                method = "memory" if special is None else "special"
                body = special or await self._render_from_whole(asset, source, image)
        except NoRoom:
            return await self._render_in_special_pool(asset, source.location, image, reason)
        _report(asset, reason, method)
        return body

    def has_special_pool_for(self, image: ResolvedImage) -> bool:
        """True if the special pool may make this image of a source that is not on this host."""
        return self._special_pool is not None and _is_overview(image)

    async def render_cold(
        self, asset: Asset, image: ResolvedImage, *, from_parts: bool = True
    ) -> bytes | None:
        """The encoded image of a source that is not on disk yet: from ranges of it, if
        `from_parts`, or an overview by the special pool. None if neither can answer, so that the
        caller waits for the copy. Raises SourceChanged, StorageUnavailable, and what the image
        servers raise.
        """
        source = source_of(asset)
        if from_parts:
            try:
                body = await self._render_from_parts(asset, source, image)
            except DecodeTimeout:
                raise
            except (WholeSourceRequired, NoRoom, Unprocessable):
                pass
            else:
                _report(asset, "cold", "range")
                return body
        special = await self._render_overview(asset, source, image)
        if special is not None:
            _report(asset, "cold", "special")
        return special

    async def _render_overview(
        self, asset: Asset, source: Source, image: ResolvedImage
    ) -> bytes | None:
        """An overview by the special pool; None if it cannot make it, or not now."""
        pool = self._special_pool
        if pool is None or not _is_overview(image) or not source.location.startswith(STORE):
            return None
        try:
            return await pool.render_object(asset, source.location.removeprefix(STORE), image)
        except (NoRoom, TooLarge, Overloaded, ImageServerUnavailable):
            return None

    async def _render_from_parts(self, asset: Asset, source: Source, image: ResolvedImage) -> bytes:
        """Raises WholeSourceRequired, NoRoom, Unprocessable (also if only the parts are broken)."""
        recipe = recipe_for(asset, Path(), image, Encoder())
        product = source_product(asset, source)
        async with self._memory.open_parts(asset, product, source, recipe) as path:
            return await self._renderer.render(asset, path, image)

    async def _render_from_whole(self, asset: Asset, source: Source, image: ResolvedImage) -> bytes:
        product = source_product(asset, source)
        async with self._memory.open_whole(asset, product, source) as path:
            return await self._renderer.render(asset, path, image)

    async def _render_in_special_pool(
        self, asset: Asset, location: str, image: ResolvedImage, reason: Reason
    ) -> bytes:
        if self._special_pool is not None and location.startswith(STORE):
            with suppress(NoRoom):
                key = location.removeprefix(STORE)
                body = await self._special_pool.render_object(asset, key, image)
                _report(asset, reason, "special")
                return body
        _report(asset, reason, "refused")
        raise Overloaded(
            "The server has no room for this image now. Try again shortly.", RETRY_AFTER_S
        )


def _is_overview(image: ResolvedImage) -> bool:
    """True for the whole picture, or a part of it at a low zoom."""
    (_, _, width, height), size = image.region, image.size
    return image.full_region or (width >= _LOW_ZOOM * size[0] and height >= _LOW_ZOOM * size[1])


def _report(asset: Asset, reason: Reason, method: str) -> None:
    metrics.SOURCES_NOT_COPIED.labels(why=reason, how=method).inc()
    level = logging.WARNING if method == "refused" else logging.DEBUG
    log.log(
        level,
        "source not orchestrated",
        extra={"asset": str(asset.id), "reason": reason, "method": method},
    )
