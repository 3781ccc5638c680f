"""The originals of transforms in buckets and folders: which version is there, and a local file with
its bytes.

The look-up of an original is remembered for `ico.recheck_s`. The file is the original itself where
that is on this host, otherwise a copy in the source cache, made once for all callers. It has the
bytes of the version that was looked up, or SourceChanged is raised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cachetools import LRUCache

from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.disk.product_writer import write_chunks
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    NoRoom,
    ObjectNotFound,
    PreconditionFailed,
    SourceChanged,
    TooLarge,
)
from orchestrator.storage.picture_store import PictureStore
from orchestrator.storage.store import LocalFiles, ObjectStream
from orchestrator.transform.stores import Stores

log = logging.getLogger(__name__)
ID_PREFIX = "ico:"
"""Begins the ids of originals in caches. The ids of assets begin with a digit."""
_REMEMBERED = 20_000
_MISSING = "There is no such picture. Check the path."
_REPLACED = "The picture is being replaced. Try again."

OpenScratch = Callable[[int], AbstractAsyncContextManager[Path]]
"""Opens an empty folder with room for that many bytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an original is: the name of its store, and its key."""

    store: str
    key: str

    @property
    def id(self) -> str:
        """The text by which caches know the original."""
        return f"{ID_PREFIX}{self.store}/{self.key}"


@dataclass(frozen=True, slots=True)
class Original:
    """One version of an original. `found_at` is the time of the look-up on the monotonic clock."""

    place: Place
    etag: str
    bytes: int
    modified: datetime
    found_at: float


OnReplaced = Callable[[Place], Awaitable[None]]
"""Called when another version of an original is found than before, or none."""


class Originals:
    """Looks originals up and gives out files with their bytes."""

    def __init__(
        self,
        stores: Stores,
        sources: DiskCache,
        flights: SingleFlight,
        *,
        open_scratch: OpenScratch,
        on_replaced: OnReplaced,
        recheck_s: float,
        max_bytes: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sources` is the cache of copies."""
        self._stores = stores
        self._sources = sources
        self._flights = flights
        self._open_scratch = open_scratch
        self._recheck_s = recheck_s
        self._max_bytes = max_bytes
        self._now = now
        self._known: LRUCache[str, Original] = LRUCache(_REMEMBERED)
        self._look_ups: dict[Place, asyncio.Task[Original]] = {}
        self._on_replaced = on_replaced

    async def find(self, place: Place) -> Original:
        """The original as last looked up, or as it is now if that was too long ago. Raises
        ObjectNotFound, StorageUnavailable.
        """
        known = self._known.get(place.id)
        if known is not None and self.fresh_s(known) > 0:
            return known
        task = self._look_ups.get(place)
        if task is None:
            look_up = self.look_up(place)
            task = asyncio.create_task(look_up)  # no TaskGroup: it outlives a caller that leaves
            self._look_ups[place] = task
            task.add_done_callback(lambda done: self._on_looked_up(place, done))
        return await asyncio.shield(task)

    async def look_up(self, place: Place) -> Original:
        """The original as it is now. Raises as `find`."""
        known, found_at = self._known.get(place.id), self._now()
        try:
            info = await self._stores.get(place.store).head(place.key)
        except ObjectNotFound as error:
            if self._known.pop(place.id, None) is not None:
                await self._on_replaced(place)
            raise ObjectNotFound(_MISSING) from error
        original = Original(place, info.etag, info.bytes, info.modified, found_at)
        self._known[place.id] = original
        if known is not None and known.etag != original.etag:
            log.info("original replaced", extra={"store": place.store, "key": place.key})
            await self._on_replaced(place)
        return original

    def fresh_s(self, original: Original) -> float:
        """Seconds for which the original is not looked up again."""
        return original.found_at + self._recheck_s - self._now()

    def expire(self, place_id: str) -> None:
        """Look the original with this id up at the next request."""
        known = self._known.get(place_id)
        if known is not None:  # kept with its ETag, so that a replacement is noticed
            self._known[place_id] = replace(known, found_at=float("-inf"))

    @asynccontextmanager
    async def lease(self, original: Original) -> AsyncIterator[Path]:
        """A file with the bytes of the original, for the block.

        Raises TooLarge for an original over the limit, SourceChanged if it was replaced (also at
        the end of the block), NoRoom, StorageUnavailable.
        """
        if original.bytes > self._max_bytes:
            raise TooLarge(f"The original has more than {self._max_bytes} bytes.")
        store = self._stores.get(original.place.store)
        if isinstance(store, LocalFiles):
            async with self._local_file(store, original) as path:
                yield path
            return
        product = Product(original.place.id, 0, f"original {original.etag}", "img")
        async with self._sources.hold(product) as cached:
            copied = cached
            if copied is None:
                with suppress(NoRoom):
                    copied = await self._copy_once(store, original, product)
            if copied is not None:
                yield copied
                return
        async with self._open_scratch(original.bytes) as folder, _reading(store, original) as body:
            await write_chunks(folder / "original", body)
            yield folder / "original"

    @asynccontextmanager
    async def _local_file(self, store: LocalFiles, original: Original) -> AsyncIterator[Path]:
        path = await store.local_path(original.place.key)
        if path is None:
            raise SourceChanged(_REPLACED)
        yield path
        if (await self.look_up(original.place)).etag != original.etag:
            raise SourceChanged(_REPLACED)

    async def _copy_once(self, store: PictureStore, original: Original, product: Product) -> Path:
        path = await self._flights.run(
            f"source {product.asset} {product.name}",
            lambda: self._copy(store, original, product),
            find=lambda: self._sources.path(product),
        )
        # Looking the path up leases the file, also if another process copied it.
        return await self._sources.path(product) or path

    async def _copy(self, store: PictureStore, original: Original, product: Product) -> Path:
        async with (
            self._sources.open_writer(product, original.bytes) as writer,
            _reading(store, original) as body,
        ):
            await write_chunks(writer.path, body)
            return await writer.publish()

    def _on_looked_up(self, place: Place, task: asyncio.Task[Original]) -> None:
        self._look_ups.pop(place, None)
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even when all callers have left


@asynccontextmanager
async def _reading(store: PictureStore, original: Original) -> AsyncIterator[ObjectStream]:
    try:
        async with store.open(original.place.key, if_match=original.etag) as stream:
            if stream.info.etag != original.etag:
                raise SourceChanged(_REPLACED)
            yield stream
    except (ObjectNotFound, PreconditionFailed) as error:
        raise SourceChanged(_REPLACED) from error
