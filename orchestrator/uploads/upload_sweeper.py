"""Deletes what was uploaded and not published in time, and ends deletions that were interrupted. It
needs no rule of the bucket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from orchestrator import metrics
from orchestrator.catalog.uploads import Upload, Uploads
from orchestrator.errors import InvalidInput
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.publication import Publication
from orchestrator.uploads.upload_stores import UploadStores

log = logging.getLogger(__name__)
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.2
_PAGE = 500
_LIST_EVERY_S = 3600.0


class UploadSweeper:
    """Runs in the housekeeping process. Several may run."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        rows: Uploads,
        publisher: Publisher,
        publication: Publication,
        expire_after_s: float,
        others: Sequence[Callable[[], Awaitable[int]]] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`others` delete further kinds of uploads that are not finished in time."""
        self._stores = stores
        self._rows = rows
        self._publisher = publisher
        self._publication = publication
        self._expire_after_s = expire_after_s
        self._others = others
        self._now = now

    async def run(self) -> None:
        """Sweep until cancelled. Raises CatalogUnavailable, StorageUnavailable, Conflict."""
        pause_s = min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, self._expire_after_s / 10))
        listed_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            await self.expire()
            for sweep in self._others:
                await sweep()
            if loop.time() >= listed_at + _LIST_EVERY_S:
                listed_at = loop.time()
                await self.expire_unrecorded()
            await asyncio.sleep(pause_s)

    async def expire(self, older_s: float | None = None) -> int:
        """Delete the pictures in `incoming` that are older than this (`uploads.expire_after_s`),
        and what is left of deleted ones. Returns their number. Raises CatalogUnavailable,
        StorageUnavailable, Conflict.
        """
        limit_s = self._expire_after_s if older_s is None else older_s
        number = 0
        while pictures := await self._rows.unfinished(limit_s, _PAGE):
            for upload in pictures:
                number += await self._expire(upload)
            if len(pictures) < _PAGE:
                break
        return number

    async def expire_unrecorded(self, older_s: float | None = None) -> int:
        """Delete the objects in `incoming` that are older than this and are not recorded: those of
        another program. Returns their number. Raises as `expire`.
        """
        limit_s = self._expire_after_s if older_s is None else older_s
        oldest = self._now() - timedelta(seconds=limit_s)
        old: list[PictureKey] = []
        number = 0
        async for info in self._stores.incoming.list(""):
            try:
                key = PictureKey.parse(info.key)
            except InvalidInput:  # not ours
                continue
            if info.modified < oldest:
                old.append(key)
            if len(old) >= _PAGE:
                number += await self._delete_unrecorded(old)
                old = []
        return number + await self._delete_unrecorded(old)

    async def _expire(self, upload: Upload) -> int:
        async with self._publisher.alone(upload.name):
            now = await self._rows.get(upload.name)
            if now is None or now.state == "active":  # published while this waited for the lock
                return 0
            await self._publication.delete(now)
        metrics.UPLOADS.labels("expired").inc()
        return 1

    async def _delete_unrecorded(self, keys: list[PictureKey]) -> int:
        known = await self._rows.known(sorted({key.name for key in keys}))
        unrecorded = [str(key) for key in keys if key.name not in known]
        if unrecorded:
            await self._stores.incoming.delete(unrecorded)
            log.info("unrecorded pictures expired", extra={"objects": len(unrecorded)})
        return len(unrecorded)
