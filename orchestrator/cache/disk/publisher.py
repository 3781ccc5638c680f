"""Publishes written temporary files: enters them into the index, then gives them their names."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place, share_of
from orchestrator.cache.disk.files import allocated
from orchestrator.cache.disk.index import is_full
from orchestrator.cache.disk.index_rows import delete_rows, enter_file, enter_folder, has_row
from orchestrator.cache.disk.ledger import Ledger
from orchestrator.errors import NoRoom
from orchestrator.exception_text import describe_error
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Publication:
    """A written temporary file that becomes a product; `need` bytes of the ledger's claimed room
    belong to it.
    """

    place: Place
    temp: Path
    need: int
    pinned: bool = False


class Publisher:
    """Publishes files within the room of one ledger. One thread only."""

    def __init__(self, ledger: Ledger) -> None:
        self.deleted_externally = 0
        """Files that are published again because they were deleted without eviction."""
        self.ledger = ledger
        self._tree = ledger.tree
        self._evictor = ledger.evictor

    def publish(self, publications: Iterable[Publication]) -> list[Publication]:
        """Enter the files, then rename them; returns those that are published.

        The temporary files of the others are removed. Raises NoRoom when the index cannot be used;
        then nothing is published.
        """
        batch = list(publications)
        folders: dict[str, int] = {}
        try:
            published = self.ledger.index.run(lambda db: self._publish(db, batch, folders))
        finally:
            for publication in batch:
                self.ledger.unclaim(publication.need)
                with suppress(OSError):  # a published one has no temporary name
                    publication.temp.unlink()
        if any(self._tree.folder_size(name) != size for name, size in folders.items()):
            self.ledger.index.run(lambda db: self._measure_folders(db, folders))
        return published

    def _publish(
        self, db: sqlite3.Connection, batch: list[Publication], folders: dict[str, int]
    ) -> list[Publication]:
        with self.ledger.charge(db):
            entered: list[Publication] = []
            for publication in batch:
                if self._enter(db, publication, {p.place for p in entered}):
                    entered.append(publication)
            for name, text in _folders_of(entered).items():
                folders[name] = enter_folder(db, self._tree, name, text)
        # The lock is still held: no process evicts an entry whose file has not got its name yet.
        failed = [publication for publication in entered if not self._rename(publication)]
        if failed:
            with self.ledger.charge(db):
                delete_rows(db, [publication.place for publication in failed])
        return [publication for publication in entered if publication not in failed]

    def _enter(self, db: sqlite3.Connection, publication: Publication, entered: set[Place]) -> bool:
        place = publication.place
        try:
            size = allocated(publication.temp.stat())
            spared = {*entered, place}
            if not self._evictor.fits_share(db, share_of(place.name), size, spared):
                return False
            self._tree.make_folder(place)
        except OSError:
            return False
        if has_row(db, place):
            self.deleted_externally += self._tree.size(place) is None
        if publication.pinned:
            db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?)", (place.asset, place.text))
        enter_file(db, self._evictor.limits.order, place, size, self._evictor.now())
        return True

    def _rename(self, publication: Publication) -> bool:
        try:
            self._tree.publish(publication.temp, publication.place)
        except OSError:
            return False
        return True

    def _measure_folders(self, db: sqlite3.Connection, folders: Iterable[str]) -> None:
        with self.ledger.charge(db):
            for name in folders:
                enter_folder(db, self._tree, name)


def _folders_of(publications: list[Publication]) -> dict[str, str]:
    """The folders that may have grown, in order; with the asset's id where they are an asset's."""
    names = {"": "", TEMP_FOLDER: ""}
    for publication in publications:
        place = publication.place
        names |= {place.asset[:2]: "", place.folder: place.text}
    return dict(sorted(names.items()))


class WriteFailures:
    """Logs that a cache cannot be written."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._faults = FaultLog(log, "cache not writable", "cache writable again")

    def report(self, action: str, error: BaseException) -> None:
        """Log the failure; make room if the disk is full."""
        cause = error.__cause__ or error
        if is_full(cause):
            with suppress(NoRoom):
                self._ledger.relieve()
        self._faults.report(cache=self._name, error=f"{action}: {describe_error(cause)}")

    def clear(self) -> None:
        """Log that the cache can be written again, after a failure."""
        self._faults.clear(cache=self._name)
