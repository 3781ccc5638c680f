"""The handlers of the jobs that make and remove the pyramids of one object of the source bucket.

A job may run twice and comes to the same result. Nothing is recorded as stored before the pyramid
is verified, is in the image bucket, and is served by its asset.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.jobs import Job
from orchestrator.catalog.pyramid_sources import PyramidSources
from orchestrator.catalog.pyramid_values import PyramidSource, SourceObject, StoredPyramid
from orchestrator.errors import (
    AssetNotFound,
    ObjectNotFound,
    OrchestratorError,
    StateConflict,
    Superseded,
    Unavailable,
    fault_of,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.events.event_notes import Notes
from orchestrator.ingest.events.pyramid_keys import asset_of, bases_of, targets_of
from orchestrator.ingest.ingest_run import IngestRunner
from orchestrator.ingest.policies import USE_ORIGINAL
from orchestrator.ingest.pyramid_maker import Pyramid, make_pyramids
from orchestrator.ingest.pyramid_policies import PyramidPolicy
from orchestrator.ingest.register import Request
from orchestrator.ingest.rights import AssetEditor
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.stage_timer import StageTimer
from orchestrator.jobs.fair_slots import FairSlots
from orchestrator.jobs.retry_decision import Retry, decide_retry
from orchestrator.model import Asset, AssetId
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.reader_types import FetchedFile
from orchestrator.origins.s3_address import BucketObject
from orchestrator.settings import Pyramids
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
_TIFF = "image/tiff"


@dataclass(frozen=True, slots=True)
class PyramidParts:
    """What the handlers use. `images` is the image bucket; a conversion occupies one of the
    `slots`.
    """

    settings: Pyramids
    policy: PyramidPolicy
    sources: PyramidSources
    assets: Assets
    images: ObjectStore
    source_bucket: ObjectStore
    notes: Notes | None
    imaging: ImagingPool
    scratch: Scratch
    fetcher: OriginFetcher
    runner: IngestRunner
    editor: AssetEditor
    slots: FairSlots
    max_attempts: int


class PyramidHandler:
    """Handles jobs of the kind `pyramid`."""

    def __init__(self, parts: PyramidParts) -> None:
        self._parts = parts
        self._publisher = PyramidPublisher(parts)

    async def __call__(self, job: Job) -> None:
        """Make the pyramids of the object, store and serve them. The reason of a failure is
        recorded with the source. Raises Superseded if a later change was accepted,
        OriginUnavailable, NoRoom, StorageUnavailable, StateConflict, and as `make_pyramids`.
        """
        try:
            await self._make(job)
        except Superseded:
            await _delete_note(self._parts, job)  # the note of an object that is replaced
            raise
        await _delete_note(self._parts, job)

    async def _make(self, job: Job) -> None:
        source, stages = await _current(self._parts, job), StageTimer()
        try:
            await self._run_steps(source, job, stages)
        except Superseded:
            raise
        except Exception as error:  # recorded, then raised to the worker loop
            await _current(self._parts, job)
            if isinstance(error, OrchestratorError) and not error.stage:
                error.stage = stages.current
            await self._record_failure(source, job, error, stages.current)
            raise

    async def _run_steps(self, source: PyramidSource, job: Job, stages: StageTimer) -> None:
        parts, place = self._parts, source.source
        async with parts.scratch.folder() as folder:
            with stages.step("fetch"):
                origin = BucketObject(place.bucket, place.key).location()
                original = await parts.fetcher.fetch(
                    parts.settings.customer, origin, folder / "original"
                )
            made = folder / "pyramids"
            await asyncio.to_thread(made.mkdir)
            with stages.step("convert"):
                async with parts.slots.hold(parts.settings.customer):
                    pyramids = await make_pyramids(
                        parts.imaging,
                        original.path,
                        parts.policy,
                        made,
                        is_copyrighted=source.is_copyrighted,
                        check_room=parts.scratch.check_room,
                    )
            await _current(parts, job)
            with stages.step("store"):
                stored = await self._publisher.publish(source, pyramids, job)
            stages.current = "record"
            is_current = await parts.sources.finish(
                place,
                source.generation,
                etag=original.etag.strip('"'),
                made_with=digest_of(parts.policy, is_copyrighted=source.is_copyrighted),
                pyramids=stored,
            )
        if not is_current:
            raise Superseded
        log.info(
            "pyramid stored",
            extra={"bucket": place.bucket, "key": place.key, "pyramids": len(stored)},
        )

    async def _record_failure(
        self, source: PyramidSource, job: Job, error: Exception, stage: str
    ) -> None:
        fault = fault_of(error, stage)
        decision = decide_retry(error, fault, job, self._parts.max_attempts)
        try:
            await self._parts.sources.record_failure(
                source.source,
                source.generation,
                fault,
                job.attempts,
                is_final=not isinstance(decision, Retry),
            )
        except Unavailable as outage:  # the job has the reason, too
            log.warning("failed pyramid not recorded", extra={"reason": outage.public})


class PyramidPublisher:
    """Stores pyramids in the image bucket, registers the assets that serve them, and removes
    both.
    """

    def __init__(self, parts: PyramidParts) -> None:
        self._parts = parts

    async def publish(
        self, source: PyramidSource, pyramids: Sequence[Pyramid], job: Job
    ) -> list[StoredPyramid]:
        """Store and serve the pyramids of a source, and remove those of pages that it no longer
        has. Raises StorageUnavailable, StateConflict, and as `IngestRunner.run`.
        """
        settings, place = self._parts.settings, source.source
        bases = dict.fromkeys((source.base, *bases_of(settings.image_prefix, place)))
        candidates = [targets_of(base, len(pyramids)) for base in bases]
        assets = {target: asset_of(settings, target) for each in candidates for target in each}
        targets = await self._parts.sources.claim_targets(
            place, candidates, {target: str(asset) for target, asset in assets.items()}
        )
        stored = [
            await self._publish_one(page, target, pyramid, job)
            for page, (target, pyramid) in enumerate(zip(targets, pyramids, strict=True))
        ]
        known = await self._parts.sources.pyramids_of(place)
        await self.remove([each for each in known if each.target not in targets])
        return stored

    async def remove(self, pyramids: Sequence[StoredPyramid]) -> None:
        """Delete the assets of pyramids, then the pyramids. Raises StorageUnavailable."""
        for each in pyramids:
            origin = self._origin_of(each.target)

            def check(known: Asset | None, origin: str = origin) -> None:
                if known is None or known.as_requested().origin != origin:
                    raise AssetNotFound("The asset has another origin.")

            with suppress(AssetNotFound):
                await self._parts.editor.delete(AssetId.parse(each.asset), check)
        await self._parts.images.delete([each.target for each in pyramids])

    async def _publish_one(
        self, page: int, target: str, pyramid: Pyramid, job: Job
    ) -> StoredPyramid:
        asset_id = asset_of(self._parts.settings, target)
        origin = self._origin_of(target)

        def check(known: Asset | None) -> None:
            if known is not None and known.as_requested().origin != origin:
                raise StateConflict(
                    f"The asset {asset_id} exists with another origin. Delete it, or choose another"
                    " space for pyramids (pyramids.space)."
                )

        check(await self._parts.assets.get(asset_id))  # before anything is stored
        info = await self._parts.images.put(target, pyramid.path, media_type=_TIFF)
        width, height = pyramid.dimensions
        copy = await asyncio.to_thread(_describe, pyramid.path, info.etag)
        accepted = await self._parts.runner.accept(
            Request(asset_id, origin, optimisation_policy=USE_ORIGINAL), check=check
        )
        with suppress(Superseded):  # a later change of the asset, such as of its rights
            await self._parts.runner.run(asset_id, accepted.ingest_generation, job.id, copy=copy)
        return StoredPyramid(
            target, page, str(asset_id), info.etag, width, height, pyramid.levels, pyramid.bytes
        )

    def _origin_of(self, target: str) -> str:
        return BucketObject(self._parts.settings.image_bucket, target).location()


class RemovalHandler:
    """Handles jobs of the kind `pyramid-removal`."""

    def __init__(self, parts: PyramidParts, make: PyramidHandler) -> None:
        """`make` handles an object that exists all the same: a version of it was deleted, or it was
        written again.
        """
        self._parts = parts
        self._make = make
        self._publisher = PyramidPublisher(parts)

    async def __call__(self, job: Job) -> None:
        """Remove the pyramids of an object that does not exist. Raises as PyramidHandler."""
        source = await _current(self._parts, job)
        place = source.source
        try:
            info = await self._parts.source_bucket.head(place.key)
        except ObjectNotFound:
            info = None
        if info is not None:
            await self._make(job)
            return
        sources = self._parts.sources
        await self._publisher.remove(await sources.pyramids_of(place))
        is_current = await sources.finish(
            place, source.generation, etag="", made_with="", pyramids=(), is_removed=True
        )
        if not is_current:
            raise Superseded
        log.info("pyramid removed", extra={"bucket": place.bucket, "key": place.key})


def digest_of(policy: PyramidPolicy, *, is_copyrighted: bool) -> str:
    """Identifies what a policy makes of a picture under copyright or of another one."""
    values = repr((policy.conversion_for(is_copyrighted=is_copyrighted), policy.first_page_only))
    return hashlib.blake2b(values.encode(), digest_size=12).hexdigest()


async def _current(parts: PyramidParts, job: Job) -> PyramidSource:
    """The source of a job. Raises Superseded if a later change was accepted."""
    place = SourceObject(job.payload["bucket"], job.payload["key"])
    source = await parts.sources.get(place)
    if source is None or source.generation != job.generation:
        raise Superseded
    return source


async def _delete_note(parts: PyramidParts, job: Job) -> None:
    """Delete the note of a job whose work is done. Raises StorageUnavailable."""
    note = job.payload.get("note")
    if note and parts.notes is not None:
        await parts.notes.delete(note)


def _describe(path: Path, etag: str) -> FetchedFile:
    """Describe a pyramid as a copy of its origin (blocking)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FetchedFile(path, path.stat().st_size, digest, digest, _TIFF, etag)
