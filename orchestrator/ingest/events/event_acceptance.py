"""Accepts changes of the source bucket: each becomes a job, in the transaction that records it.

A repeated or outdated event becomes none. Events of other buckets, and of keys that the settings
leave out, are ignored.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import JobDraft
from orchestrator.catalog.pyramid_values import Acceptance, SourceChange, SourceObject
from orchestrator.ingest.events.event_notes import Note, Notes
from orchestrator.ingest.events.pyramid_keys import asset_of, bases_of, targets_of
from orchestrator.ingest.events.s3_events import ObjectEvent
from orchestrator.jobs.submitter import Submission, Submitter
from orchestrator.settings import Pyramids

log = logging.getLogger(__name__)
PYRAMID = "pyramid"
"""The kind of job that makes the pyramids of an object."""
PYRAMID_REMOVAL = "pyramid-removal"
"""The kind of job that removes the pyramids of an object that was deleted."""
KINDS = (PYRAMID, PYRAMID_REMOVAL)


@dataclass(frozen=True, slots=True)
class EventReport:
    """How many events were accepted, known already, older than what is known, and left out."""

    accepted: int = 0
    repeated: int = 0
    outdated: int = 0
    ignored: int = 0


class EventAcceptor:
    """Accepts changes and submits their jobs."""

    def __init__(
        self, settings: Pyramids, catalog: Catalog, submitter: Submitter, notes: Notes | None
    ) -> None:
        """`notes`: where notes are written, if the settings say so."""
        self._settings = settings
        self._catalog = catalog
        self._submitter = submitter
        self._notes = notes if settings.write_notes else None

    async def accept_events(self, events: Sequence[ObjectEvent]) -> EventReport:
        """Accept the events of one message, all or none. The message may be deleted when this
        returns. Raises CatalogUnavailable, StorageUnavailable (a note could not be written; the
        message must come again), NotFound without the customer of the settings.
        """
        wanted = [event for event in events if self.is_wanted(event.bucket, event.key)]
        changes = [
            SourceChange(
                SourceObject(event.bucket, event.key),
                event.etag,
                event.version,
                event.sequencer,
                event.is_removed,
            )
            for event in wanted
        ]
        notes = [Note(event.key, event.etag) for event in wanted]
        keys = [self._notes.key_of(note) if self._notes else "" for note in notes]
        accepted = await self.accept(changes, keys)
        if self._notes is not None:
            for change, note, each in zip(changes, notes, accepted, strict=True):
                is_waiting = each.verdict == "accepted" or each.is_pending
                if is_waiting and not change.is_removed:
                    await self._notes.write(note)
        counts = Counter(each.verdict for each in accepted)
        report = EventReport(
            counts["accepted"],
            counts["repeated"],
            counts["outdated"],
            ignored=len(events) - len(wanted),
        )
        for outcome in EventReport.__dataclass_fields__:
            metrics.PYRAMID_EVENTS.labels(outcome).inc(getattr(report, outcome))
        return report

    async def accept(
        self, changes: Sequence[SourceChange], notes: Sequence[str] = ()
    ) -> list[Acceptance]:
        """Accept changes in one transaction and submit their jobs, which delete the note in the
        same place of `notes` ("": none) when they are done. Raises CatalogUnavailable, NotFound.
        """
        notes = notes or [""] * len(changes)
        async with self._submitter.submission() as submission:
            return [
                await self._accept(submission, change, note)
                for change, note in zip(changes, notes, strict=True)
            ]

    def is_wanted(self, bucket: str, key: str) -> bool:
        """True for an object of which the settings want a pyramid."""
        settings = self._settings
        name = key.rpartition("/")[2]
        if bucket != settings.source_bucket or not name or name.startswith("."):
            return False
        is_own = settings.source_bucket == settings.image_bucket
        if is_own and key.startswith(settings.image_prefix):
            return False
        if settings.prefixes and not key.startswith(tuple(settings.prefixes)):
            return False
        return not settings.extensions or has_extension(name, settings.extensions)

    async def _accept(self, submission: Submission, change: SourceChange, note: str) -> Acceptance:
        pyramids, source = self._catalog.pyramids, change.source
        bases = bases_of(self._settings.image_prefix, source)
        acceptance = await pyramids.accept(submission.connection, change, bases)
        if acceptance.verdict != "accepted":
            return acceptance
        payload: Mapping[str, Any] = {"bucket": source.bucket, "key": source.key}
        draft = JobDraft(
            PYRAMID_REMOVAL if change.is_removed else PYRAMID,
            {**payload, "note": note} if note else payload,
            self._settings.customer,
            asset=str(asset_of(self._settings, targets_of(acceptance.base, 1)[0])),
            generation=acceptance.generation,
        )
        recorded = await submission.submit([draft])
        await pyramids.assign_job(
            submission.connection, source, acceptance.generation, recorded.ids[0]
        )
        return acceptance


def has_extension(name: str, extensions: Sequence[str]) -> bool:
    """True if a file name has one of these extensions, in any case."""
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    return extension in {each.lower().removeprefix(".") for each in extensions}
