"""Two lanes in front of a pool. Requests that decode as much as a tile pass at once. Those that
decode much more are limited in number and in memory, and take this permit before any other, so
that a share of the pool is always left for tiles.

The memory of a decode is estimated from the recorded header of the source before it starts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator import metrics
from orchestrator.errors import Overloaded, TooLarge
from orchestrator.iiif.geometry import ResolvedImage, decoded_pixels
from orchestrator.imaging.recipes import WHOLE_IMAGE_PIXELS
from orchestrator.model import Asset, SourceKind

_PIXEL_BYTES = 4
_RETRY_AFTER_S = 2.0


class Admission:
    """Admits the requests of one pool in one process."""

    def __init__(
        self, pool: str, *, at_once: int, memory: int, queue: int, timeout_s: float
    ) -> None:
        """`at_once` whole images are made at the same time, which may need `memory` bytes together
        (0: no limit). `queue` requests wait for that, at most `timeout_s` seconds.
        """
        self._pool = pool
        self._at_once = at_once
        self._memory = memory
        self._queue = queue
        self._timeout_s = timeout_s
        self._running = 0
        self._reserved = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def admit(self, asset: Asset, image: ResolvedImage) -> AsyncIterator[None]:
        """Make this image in the block. Raises TooLarge if it needs more memory than there is at
        all, Overloaded if there is no room for it in time.
        """
        pixels, needed = _estimate(asset, image)
        if pixels <= WHOLE_IMAGE_PIXELS:
            yield
            return
        if self._memory and needed > self._memory:
            # What an original needs is known only when it is opened.
            if asset.source is None or asset.source.kind is not SourceKind.ORIGINAL:
                raise TooLarge("This request needs too much memory. Request a smaller size.")
            needed = self._memory
        await self._enter(needed)
        try:
            yield
        finally:
            self._running -= 1
            self._reserved -= needed
            self._admit_waiting()

    async def _enter(self, needed: int) -> None:
        if not self._waiting and self._has_room(needed):
            self._take(needed)
            return
        if len(self._waiting) >= self._queue:
            raise self._overloaded()
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (needed, admitted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._timeout_s):
                await admitted
        except BaseException as error:  # whatever ends the wait; raised again
            if admitted.done() and not admitted.cancelled():  # admitted at the last moment
                self._running -= 1
                self._reserved -= needed
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._admit_waiting()
            if isinstance(error, TimeoutError):
                raise self._overloaded() from error
            raise

    def _has_room(self, needed: int) -> bool:
        fits = not self._memory or self._reserved + needed <= self._memory
        return self._running < self._at_once and fits

    def _take(self, needed: int) -> None:
        self._running += 1
        self._reserved += needed

    def _admit_waiting(self) -> None:
        """Admit in order: a large request is not overtaken by smaller ones."""
        while self._waiting and self._has_room(self._waiting[0][0]):
            needed, admitted = self._waiting.popleft()
            if not admitted.done():
                self._take(needed)
                admitted.set_result(None)

    def _overloaded(self) -> Overloaded:
        metrics.OVERLOADS.labels(pool=f"{self._pool} full").inc()
        return Overloaded(
            "The server is making too many whole images. Try again shortly.", _RETRY_AFTER_S
        )


def _estimate(asset: Asset, image: ResolvedImage) -> tuple[int, int]:
    """(pixels to decode, bytes of memory for them and for the result).

    The tiles of an original count as those of its future pyramid: a worker decodes it once for
    many of them. For a whole image of it, all of it is usually in memory.
    """
    source = asset.source
    pixels = kept = decoded_pixels(image, source.levels if source else 0)
    if source is not None and source.kind is SourceKind.ORIGINAL:
        kept = asset.dimensions[0] * asset.dimensions[1]
    return pixels, (kept + image.size[0] * image.size[1]) * _PIXEL_BYTES
