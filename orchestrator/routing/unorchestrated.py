"""Pictures cut from a source that is not copied to fast disk: it is never to be, or no room can be
made for it.

In this order: from the parts of it that are needed, read in ranges out of the object store; from
the whole, read into memory; from the special pool, image servers that read the object store
themselves; else 503 with Retry-After. Each is counted.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, Protocol

from orchestrator import metrics
from orchestrator.errors import DecodeTimeout, NoRoom, Overloaded, Unprocessable
from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import STORE, Asset, Source
from orchestrator.routing.image_server import ImageServer, recipe_for
from orchestrator.routing.memory_sources import MemorySourceCache, WholeSourceRequired
from orchestrator.routing.orchestrate import source_of, source_product

log = logging.getLogger(__name__)
Why = Literal["never", "no_room"]
RETRY_AFTER_S = 5.0


class SpecialPool(Protocol):
    """Image servers that read the object store themselves."""

    async def render_object(self, asset: Asset, key: str, image: ResolvedImage) -> bytes:
        """The encoded picture, from the object under `key`.

        Raises NoRoom for what they cannot make, Overloaded, ImageServerUnavailable.
        """
        ...


class _NoPool:
    async def render_object(self, asset: Asset, key: str, image: ResolvedImage) -> bytes:
        """There is none, which makes nothing."""
        raise NoRoom("There is no special pool.")


class UnorchestratedRenderer:
    """Answers without a copy on disk."""

    def __init__(
        self, memory: MemorySourceCache, renderer: ImageServer, special: SpecialPool | None
    ) -> None:
        """`renderer` must be of this machine: what is in memory nobody else can read."""
        self._memory = memory
        self._renderer = renderer
        self._special = special or _NoPool()

    async def render(self, asset: Asset, image: ResolvedImage, why: Why) -> bytes:
        """The encoded picture. Raises Overloaded when it cannot be made in any of the ways, and
        what the image servers and MemorySourceCache.opened raise.
        """
        source = source_of(asset)
        try:
            try:
                body, how = await self._from_part(asset, source, image), "range"
            except (WholeSourceRequired, Unprocessable) as error:
                if isinstance(error, DecodeTimeout):
                    raise
                body, how = await self._from_whole(asset, source, image), "memory"
        except NoRoom:
            return await self._from_special(asset, source.location, image, why)
        self._count(asset, why, how)
        return body

    async def _from_part(self, asset: Asset, source: Source, image: ResolvedImage) -> bytes:
        """Raises WholeSourceRequired, NoRoom, Unprocessable (also if only the parts are broken)."""
        recipe = recipe_for(asset, Path(), image, Encoder())
        product = source_product(asset, source)
        async with self._memory.opened_part(product, source, recipe) as path:
            return await self._renderer.render(asset, path, image)

    async def _from_whole(self, asset: Asset, source: Source, image: ResolvedImage) -> bytes:
        product = source_product(asset, source)
        async with self._memory.opened(asset, product, source) as path:
            return await self._renderer.render(asset, path, image)

    async def _from_special(
        self, asset: Asset, location: str, image: ResolvedImage, why: Why
    ) -> bytes:
        try:
            pool = self._special if location.startswith(STORE) else _NoPool()
            body = await pool.render_object(asset, location.removeprefix(STORE), image)
        except NoRoom as error:
            self._count(asset, why, "refused")
            raise Overloaded("There is no room for this image just now.", RETRY_AFTER_S) from error
        self._count(asset, why, "special")
        return body

    def _count(self, asset: Asset, why: Why, how: str) -> None:
        metrics.SOURCES_NOT_COPIED.labels(why=why, how=how).inc()
        level = logging.WARNING if how == "refused" else logging.DEBUG
        log.log(level, "source not copied", extra={"asset": str(asset.id), "why": why, "how": how})
