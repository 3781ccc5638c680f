"""Stores results beside their originals, and deletes those of earlier versions: the handler of the
jobs of `result_jobs.py`, and the purge.

All changes beside one original are made under one lock. A row is written before its object and
deleted after it, so an interrupted job leaves nothing that a purge does not find.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

from orchestrator import metrics
from orchestrator.catalog.ico_results import IcoResults, RecordedResult
from orchestrator.catalog.jobs import Job
from orchestrator.catalog.lock_waiting import Lock, wait_for_lock
from orchestrator.errors import (
    InvalidInput,
    ObjectNotFound,
    OrchestratorError,
    is_retryable,
)
from orchestrator.transform.originals import Original, Originals, Place
from orchestrator.transform.parameters import Parameters, parse_parameters
from orchestrator.transform.picture_shaper import Result
from orchestrator.transform.result_jobs import ResultItem, items_of
from orchestrator.transform.result_maker import ResultMaker, Subject
from orchestrator.transform.stored_results import ETAG, PARAMETERS, is_result, result_key
from orchestrator.transform.stores import Stores

log = logging.getLogger(__name__)
SHARE = "ico"
"""The share of the disk cache for results of buckets and folders."""
_LOCK_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A result that is to be stored under `key`."""

    key: str
    original: Original
    segment: str
    parameters: Parameters
    result: Result


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
        """Handle a job: each of its results, also if another one cannot be stored. A later attempt
        finds what is stored.

        Raises StorageUnavailable, CatalogUnavailable, Conflict, and what making a result raises:
        an error that a retry can mend before one that it cannot.
        """
        errors: list[OrchestratorError] = []
        for item in items_of(job):
            try:
                await self._handle(item)
            except OrchestratorError as error:
                errors.append(error)
        if errors:
            raise max(errors, key=is_retryable)

    async def _handle(self, item: ResultItem) -> None:
        pending = None
        with suppress(ObjectNotFound):
            original = await self._originals.look_up(item.place)
            if item.params and item.etag in ("", original.etag):
                pending = await self._make(original, item.params, parse_parameters(item.canonical))
        async with self._alone(item.place):
            etag = await self._etag(item.place)
            if pending is not None and pending.original.etag == etag:
                outdated = await self._put(pending)
            else:
                outdated = await self._rows.outdated(item.store, item.key, etag)
            await self._delete(item.place, outdated)

    async def store(self, original: Original, segment: str, parameters: Parameters) -> None:
        """Store a result, unless it is the original or is stored. Raises as the handler of jobs."""
        pending = await self._make(original, segment, parameters)
        if pending is None:
            return
        async with self._alone(original.place):
            if await self._etag(original.place) == original.etag:
                await self._put(pending)

    async def purge(self, place: Place, *, scan: bool = False) -> int:
        """Delete the results of an original; returns their number. With `scan`, also objects that
        are not recorded, whose keys are those of results.
        """
        async with self._alone(place):
            segments = await self._rows.outdated(place.store, place.key, "")
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

    async def _make(
        self, original: Original, segment: str, parameters: Parameters
    ) -> _Pending | None:
        """The result to store; None if it is the original, or is stored, or cannot be stored."""
        key = result_key(original.place.key, segment)
        if key is None:
            return None
        with suppress(ObjectNotFound):
            info = await self._stores.get(original.place.store).head(key)
            if is_result(info, original, parameters):
                return None
        result = await self._maker.get(self.subject(original), parameters)
        if result.is_original:
            return None
        return _Pending(key, original, segment, parameters, result)

    async def _etag(self, place: Place) -> str:
        """The ETag of the original as it is now, "" if there is none."""
        try:
            return (await self._originals.look_up(place)).etag
        except ObjectNotFound:
            return ""

    async def _put(self, pending: _Pending) -> list[str]:
        """Record and store a result; returns the outdated results of its original."""
        place, etag = pending.original.place, pending.original.etag
        recorded = RecordedResult(pending.segment, etag)
        outdated = await self._rows.record(place.store, place.key, recorded)
        await self._stores.get(place.store).put(
            pending.key,
            pending.result.body,
            media_type=pending.result.media_type,
            metadata={ETAG: etag, PARAMETERS: pending.parameters.canonical},
            cache_control=self._cache_control,
        )
        metrics.ICO_RESULTS.labels("stored").inc()
        return outdated

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

    def _alone(self, place: Place) -> AbstractAsyncContextManager[None]:
        """Hold the lock of an original. Raises Conflict if another process has it for too long."""
        busy = "The results of this picture are being changed. Try again shortly."
        return wait_for_lock(self._lock, place.id, wait_s=_LOCK_WAIT_S, busy=busy)


def _is_parameters(segment: str) -> bool:
    try:
        parse_parameters(segment, strict=False)
    except InvalidInput:
        return False
    return True
