"""Results that are stored beside their originals, where a CDN can read them by the path of the
request: `dir/{params}/name` for the original `dir/name`.

The catalogue has a row for each object that may be stored, written before the object. Jobs write
the objects (`write_back.py`); here they are read, and the jobs are recorded.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from orchestrator import metrics
from orchestrator.catalog.jobs import JobDraft
from orchestrator.errors import InvalidInput, ObjectNotFound, StorageUnavailable, Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.jobs.submitter import Submitter
from orchestrator.storage.object_keys import check_key
from orchestrator.storage.store import ObjectInfo
from orchestrator.transform.originals import Original, Place
from orchestrator.transform.parameters import Parameters
from orchestrator.transform.stores import Stores

log = logging.getLogger(__name__)
STORE = "ico_store"
"""The kind of jobs that store a result and delete those of other versions of its original."""
ETAG, PARAMETERS = "original-etag", "parameters"
"""The metadata of a stored result: the version of the original, and the canonical parameters."""
_NO_CUSTOMER = 0


class StoredResults:
    """Reads stored results, and records the jobs that write and delete them."""

    def __init__(self, stores: Stores, submitter: Submitter) -> None:
        self._stores = stores
        self._submitter = submitter
        self._read_faults = FaultLog(log, "stored results not read", "stored results read again")
        self._faults = FaultLog(log, "results not recorded", "results recorded again")

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
            self._read_faults.report(reason=error.public)
            return None
        self._read_faults.clear()
        return body

    async def record(self, draft: JobDraft) -> None:
        """Record a job. If the database is away, nothing is recorded: the next request that makes
        the result tries again.
        """
        try:
            await self._submitter.submit([draft])
        except Unavailable as error:
            metrics.ICO_RESULTS.labels("unrecorded").inc()
            self._faults.report(reason=error.public)
        else:
            self._faults.clear()

    async def record_change(self, place: Place) -> None:
        """Record the job that deletes the results of earlier versions of an original."""
        await self.record(job_draft(place))

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
        draft = job_draft(
            self.original.place, self.segment, self.parameters.canonical, self.original.etag
        )
        await self.results.record(draft)


def is_result(info: ObjectInfo, original: Original, parameters: Parameters) -> bool:
    """True if the object is the result of this version of the original."""
    metadata = info.metadata
    return (metadata.get(ETAG), metadata.get(PARAMETERS)) == (original.etag, parameters.canonical)


def job_draft(place: Place, segment: str = "", canonical: str = "", etag: str = "") -> JobDraft:
    """The job that stores a result; with an empty `segment` it only deletes outdated results.
    Without `etag` the result is made of the version that is there when the job runs.
    """
    payload = {
        "store": place.store,
        "key": place.key,
        "params": segment,
        "canonical": canonical,
        "etag": etag,
    }
    return JobDraft(STORE, payload, _NO_CUSTOMER)


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
