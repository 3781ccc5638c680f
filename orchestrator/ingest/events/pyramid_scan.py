"""Finds the work that no event announces: notes in the process bucket, and objects of the source
bucket that shall be made again. It is accepted like events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.catalog.pyramid_values import Acceptance, SourceChange, SourceObject
from orchestrator.errors import InvalidInput, ObjectNotFound, SettingsError
from orchestrator.ingest.events.event_acceptance import EventAcceptor, has_extension
from orchestrator.ingest.events.event_notes import Note, Notes
from orchestrator.settings import Pyramids
from orchestrator.storage.store import ObjectInfo, ObjectStore

_AT_ONCE = 200
"""Changes in one transaction."""
RERUN_EXTENSIONS = ("jpeg", "jpg", "bmp", "tif", "tiff", "png", "eps", "pdf", "webp", "jp2")
"""Extensions of the objects that are made again unless others are named."""


@dataclass(frozen=True, slots=True)
class ScanItem:
    """What became of one object or note: queued; waiting (its job is in the queue), done (its
    pyramid is stored), or failed for this reason.
    """

    key: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are made again: those with one of the prefixes (none: all), one of the
    extensions, and modified at `since` or later. With `force`, also what is done; else only what
    is new, failed, or was made with another policy.
    """

    prefixes: Sequence[str] = ()
    extensions: Sequence[str] = RERUN_EXTENSIONS
    since: datetime | None = None
    force: bool = False


@dataclass(slots=True)
class _Batch:
    changes: list[SourceChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class PyramidScan:
    """Scans the source and the process bucket."""

    def __init__(
        self,
        settings: Pyramids,
        acceptor: EventAcceptor,
        source: ObjectStore,
        notes: Notes | None,
        policies: tuple[str, str],
    ) -> None:
        """`policies` identify those in force: see SourceChange."""
        self._settings = settings
        self._acceptor = acceptor
        self._source = source
        self._notes = notes
        self._policies = policies

    async def import_notes(self, prefix: str | None = None) -> AsyncIterator[ScanItem]:
        """Submit jobs for the notes of the process bucket, or those whose keys begin with `prefix`.
        A note is kept until its pyramid is stored. Raises SettingsError without a process bucket,
        StorageUnavailable, CatalogUnavailable.
        """
        if self._notes is None:
            raise SettingsError("There is no process bucket. Set pyramids.process_bucket.")
        batch = _Batch()
        async for info in self._notes.list(prefix):
            try:
                change = await self._change_of(await self._notes.read(info.key))
            except (InvalidInput, ObjectNotFound) as error:
                yield ScanItem(info.key, "failed", error.public)
                continue
            batch.changes.append(change)
            batch.notes.append(info.key)
            if len(batch.changes) >= _AT_ONCE:
                async for item in self._accept_notes(batch):
                    yield item
                batch = _Batch()
        async for item in self._accept_notes(batch):
            yield item

    async def rerun(self, selection: Selection, *, dry_run: bool) -> AsyncIterator[ScanItem]:
        """Submit jobs for the selected objects of the source bucket. With `dry_run` nothing is
        submitted, and each selected object is reported as selected. Raises StorageUnavailable,
        CatalogUnavailable.
        """
        changes: list[SourceChange] = []
        async for info in self._select(selection):
            if dry_run:
                yield ScanItem(info.key, "selected")
                continue
            changes.append(
                SourceChange(
                    SourceObject(self._settings.source_bucket, info.key),
                    info.etag.strip('"'),
                    policies=self._policies,
                    retries=True,
                    force=selection.force,
                )
            )
            if len(changes) >= _AT_ONCE:
                for item in await self._accept(changes):
                    yield item
                changes = []
        for item in await self._accept(changes):
            yield item

    async def _select(self, selection: Selection) -> AsyncIterator[ObjectInfo]:
        for prefix in _outermost(selection.prefixes):
            async for info in self._source.list(prefix):
                if not self._acceptor.is_wanted(self._settings.source_bucket, info.key):
                    continue
                if not has_extension(info.key.rpartition("/")[2], selection.extensions):
                    continue
                if selection.since is not None and info.modified < selection.since:
                    continue
                yield info

    async def _change_of(self, note: Note) -> SourceChange:
        """The change that a note reports. One without ETag is of the object as it is now. Raises
        ObjectNotFound.
        """
        etag = note.etag
        if not etag:
            try:
                etag = (await self._source.head(note.key)).etag.strip('"')
            except ObjectNotFound as error:
                raise ObjectNotFound(f"The source bucket has no object {note.key}.") from error
        place = SourceObject(self._settings.source_bucket, note.key)
        return SourceChange(place, etag, is_copyrighted=note.is_copyrighted)

    async def _accept(self, changes: Sequence[SourceChange]) -> list[ScanItem]:
        if not changes:
            return []
        accepted = await self._acceptor.accept(changes)
        return [
            _item(change.source.key, each) for change, each in zip(changes, accepted, strict=True)
        ]

    async def _accept_notes(self, batch: _Batch) -> AsyncIterator[ScanItem]:
        assert self._notes is not None  # noqa: S101  checked by import_notes
        if not batch.changes:
            return
        accepted = await self._acceptor.accept(batch.changes, batch.notes)
        for key, each in zip(batch.notes, accepted, strict=True):
            item = _item(key, each)
            if item.outcome == "done":
                await self._notes.delete(key)
            yield item


def _item(key: str, acceptance: Acceptance) -> ScanItem:
    if acceptance.verdict == "accepted":
        return ScanItem(key, "queued")
    if acceptance.is_pending:
        return ScanItem(key, "waiting")
    if acceptance.fault is not None:
        return ScanItem(key, "failed", acceptance.fault.detail)
    return ScanItem(key, "done")


def _outermost(prefixes: Sequence[str]) -> list[str]:
    """The prefixes that lie below no other one, so that no object is listed twice."""
    chosen: list[str] = []
    for prefix in sorted(prefixes or [""]):
        if not any(prefix.startswith(each) for each in chosen):
            chosen.append(prefix)
    return chosen
