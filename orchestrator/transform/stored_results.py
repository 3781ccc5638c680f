"""Results that are stored beside their originals, where a CDN can read them by the path of the
request: `dir/{params}/name` for the original `dir/name`.

The catalogue has a row for each object that may be stored, written before the object. Jobs write
the objects (`write_back.py`); here they are read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from orchestrator.errors import InvalidInput, ObjectNotFound, StorageUnavailable
from orchestrator.fault_log import FaultLog
from orchestrator.storage.object_keys import check_key
from orchestrator.storage.store import ObjectInfo
from orchestrator.transform.originals import Original
from orchestrator.transform.parameters import Parameters
from orchestrator.transform.result_jobs import ResultItem, ResultJobs
from orchestrator.transform.stores import Stores

log = logging.getLogger(__name__)
ETAG, PARAMETERS = "original-etag", "parameters"
"""The metadata of a stored result: the version of the original, and the canonical parameters."""


class StoredResults:
    """Reads stored results."""

    def __init__(self, stores: Stores, jobs: ResultJobs) -> None:
        """`jobs` store what is not stored yet."""
        self.jobs = jobs
        self._stores = stores
        self._faults = FaultLog(log, "stored results not read", "stored results read again")

    async def read(self, key: str, original: Original, parameters: Parameters) -> bytes | None:
        """The result with this key if it is one of this version of the original; None if there is
        none, or if it cannot be read now.
        """
        store = self._stores.get(original.place.store)
        try:
            async with store.open(key) as stream:
                if not is_result(stream.info, original, parameters):
                    return None
                body = await stream.read()
        except ObjectNotFound:
            return None
        except StorageUnavailable as error:  # it can be made from a copy of the original
            self._faults.report(reason=error.public)
            return None
        self._faults.clear()
        return body

    def copy_of(
        self, original: Original, segment: str, parameters: Parameters
    ) -> StoredResult | None:
        """The stored copy of a result; None if it cannot be stored under this segment."""
        key = result_key(original.place.key, segment)
        return None if key is None else StoredResult(self, key, original, segment, parameters)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The stored copy of one result."""

    results: StoredResults
    key: str
    original: Original
    segment: str
    parameters: Parameters

    async def read(self) -> bytes | None:
        """See StoredResults.read."""
        return await self.results.read(self.key, self.original, self.parameters)

    async def record(self) -> None:
        """Record the job that stores the result."""
        place, canonical = self.original.place, self.parameters.canonical
        await self.results.jobs.record(
            ResultItem(place.store, place.key, self.segment, canonical, self.original.etag)
        )


def is_result(info: ObjectInfo, original: Original, parameters: Parameters) -> bool:
    """True if the object is the result of this version of the original."""
    metadata = info.metadata
    return (metadata.get(ETAG), metadata.get(PARAMETERS)) == (original.etag, parameters.canonical)


def result_key(key: str, segment: str) -> str | None:
    """The key of the result beside the original `key`; None if the segment cannot be part of a
    key: then the result is not stored.
    """
    folder, slash, name = key.rpartition("/")
    if "/" in segment:
        return None
    try:
        return check_key(f"{folder}{slash}{segment}/{name}")
    except InvalidInput:
        return None
