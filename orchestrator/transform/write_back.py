"""Stores results beside their originals, and deletes those of earlier versions: the handler of the
jobs of `stored_results.py`, and the purge.

All changes beside one original are made under one lock. A row is written before its object and
deleted after it, so an interrupted job leaves nothing that a purge does not find.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from orchestrator import metrics
from orchestrator.catalog.ico_results import IcoResults, RecordedResult
from orchestrator.catalog.jobs import Job
from orchestrator.errors import Conflict, InvalidInput, ObjectNotFound
from orchestrator.transform.originals import Original, Originals, Place
from orchestrator.transform.parameters import Parameters, parse_parameters
from orchestrator.transform.picture_shaper import Result
from orchestrator.transform.result_maker import ResultMaker, Subject
from orchestrator.transform.stored_results import ETAG, PARAMETERS, is_result, result_key
from orchestrator.transform.stores import Stores

log = logging.getLogger(__name__)
Lock = Callable[[str], AbstractAsyncContextManager[bool]]
"""Holds the lock of a name in all processes of the installation; yields False if another has it."""
SHARE = "ico"
"""The share of the disk cache for results of buckets and folders."""
_LOCK_WAIT_S = 20.0
_LOCK_POLL_S = 0.05


class WriteBack:
    """Changes what is stored beside originals."""

    def __init__(
        self,
        stores: Stores,
        originals: Originals,
        maker: ResultMaker,
        rows: IcoResults,
        *,
        lock: Lock,
        cache_control: str,
    ) -> None:
        """`cache_control` is that of the stored objects."""
        self._stores = stores
        self._originals = originals
        self._maker = maker
        self._rows = rows
        self._lock = lock
        self._cache_control = cache_control

    async def __call__(self, job: Job) -> None:
        """Handle a job. Raises StorageUnavailable, CatalogUnavailable, Conflict, and what making
        the result raises.
        """
        payload = job.payload
        place = Place(payload["store"], payload["key"])
        try:
            original = await self._originals.look_up(place)
        except ObjectNotFound:
            await self.delete_outdated(place)
            return
        if payload["params"] and payload["etag"] in ("", original.etag):
            await self.store(original, payload["params"], parse_parameters(payload["canonical"]))
        await self.delete_outdated(place)

    async def store(self, original: Original, segment: str, parameters: Parameters) -> None:
        """Store a result, unless it is the original or is stored. Raises as the handler of jobs."""
        key = result_key(original.place.key, segment)
        if key is None or await self._is_stored(key, original, parameters):
            return
        result = await self._maker.get(self.subject(original), parameters)
        if result.is_original:
            return
        row = RecordedResult(segment, original.etag)
        async with self._alone(original.place):
            if (await self._originals.look_up(original.place)).etag == original.etag:
                await self._put(key, original, row, parameters, result)

    async def delete_outdated(self, place: Place) -> None:
        """Delete the results of other versions of an original than the present one; all of them if
        there is no original.
        """
        async with self._alone(place):
            try:
                etag = (await self._originals.look_up(place)).etag
            except ObjectNotFound:
                etag = ""
            recorded = await self._rows.of_original(place.store, place.key)
            await self._delete(place, [row.params for row in recorded if row.etag != etag])

    async def purge(self, place: Place, *, scan: bool = False) -> int:
        """Delete the results of an original; returns their number. With `scan`, also objects that
        are not recorded, whose keys are those of results.
        """
        async with self._alone(place):
            recorded = await self._rows.of_original(place.store, place.key)
            segments = [row.params for row in recorded]
            if scan:
                segments += [each async for each in self._scan(place) if each not in segments]
            await self._delete(place, segments)
        log.info(
            "results purged",
            extra={"store": place.store, "key": place.key, "results": len(segments)},
        )
        return len(segments)

    def subject(self, original: Original) -> Subject:
        """What is shaped of an original in a bucket or folder."""
        return Subject(
            original.place.id, 0, original.etag, SHARE, lambda: self._originals.lease(original)
        )

    async def _is_stored(self, key: str, original: Original, parameters: Parameters) -> bool:
        try:
            info = await self._stores.get(original.place.store).head(key)
        except ObjectNotFound:
            return False
        return is_result(info, original, parameters)

    async def _put(
        self,
        key: str,
        original: Original,
        row: RecordedResult,
        parameters: Parameters,
        result: Result,
    ) -> None:
        place = original.place
        await self._rows.record(place.store, place.key, row)
        await self._stores.get(place.store).put(
            key,
            result.body,
            media_type=result.media_type,
            metadata={ETAG: original.etag, PARAMETERS: parameters.canonical},
            cache_control=self._cache_control,
        )
        metrics.ICO_RESULTS.labels("stored").inc()

    async def _delete(self, place: Place, segments: Sequence[str]) -> None:
        if not segments:
            return
        keys = [result_key(place.key, segment) for segment in segments]
        await self._stores.get(place.store).delete([key for key in keys if key is not None])
        await self._rows.forget(place.store, place.key, segments)
        metrics.ICO_RESULTS.labels("deleted").inc(len(segments))

    async def _scan(self, place: Place) -> AsyncIterator[str]:
        """The segments of keys beside an original that are keys of its results."""
        folder, slash, name = place.key.rpartition("/")
        prefix = folder + slash
        async for info in self._stores.get(place.store).list(prefix):
            segment, _, rest = info.key.removeprefix(prefix).partition("/")
            if rest == name and _is_parameters(segment):
                yield segment

    @asynccontextmanager
    async def _alone(self, place: Place) -> AsyncIterator[None]:
        """Hold the lock of an original. Raises Conflict if another process has it for too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOCK_WAIT_S
        while loop.time() < deadline:
            async with self._lock(place.id) as is_held:
                if is_held:
                    yield
                    return
            await asyncio.sleep(_LOCK_POLL_S)
        raise Conflict("The results of this picture are being changed. Try again shortly.")


def _is_parameters(segment: str) -> bool:
    try:
        parse_parameters(segment, strict=False)
    except InvalidInput:
        return False
    return True
