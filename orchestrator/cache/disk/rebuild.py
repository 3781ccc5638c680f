"""Rebuilds a lost index from the files, a few folders at a time, while serving goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from orchestrator.cache.disk.eviction import Evictor
from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place
from orchestrator.cache.disk.files import allocated
from orchestrator.cache.disk.index import Index, read_meta, transaction, write_meta
from orchestrator.cache.disk.index_rows import (
    delete_rows,
    enter_file,
    enter_folder,
    has_row,
    remove_empty_folder,
)
from orchestrator.cache.locks import release_and_remove, try_lock

_ASSETS_AT_ONCE = 16


class Rebuild:
    """Enters every file of one cache into its index. One thread only."""

    def __init__(self, index: Index, evictor: Evictor) -> None:
        self._index = index
        self._tree = evictor.tree
        self._order = evictor.limits.order
        self._now = evictor.now

    def due_in_s(self, grace_s: float) -> float | None:
        """Seconds until a rebuild must begin; None if the index knows all files.

        It begins `grace_s` seconds after the index was created: by then each living process has
        entered what it has reserved, so no room is granted twice.
        """
        since = self._index.run(lambda db: _walking_since(db) if _is_walking(db) else None)
        # Capped: the clock may have been set back since.
        return None if since is None else min(grace_s, since + grace_s - self._now())

    def begin(self) -> Iterator[None] | None:
        """An iterator that enters a few folders with each step; None if another process rebuilds.

        Until the end no room is granted, so any time may pass between steps. Raises OSError.
        """
        path = self._index.folder / "walk.lock"
        descriptor = try_lock(path)
        return None if descriptor is None else self._steps(path, descriptor)

    def _steps(self, path: Path, descriptor: int) -> Iterator[None]:
        try:
            since = self._index.run(_walking_since)
            assets = self._tree.assets()
            while batch := list(islice(assets, _ASSETS_AT_ONCE)):
                self._index.run(partial(self._enter_assets, assets=batch))
                yield
            self._index.run(partial(_end_walk, since=since))
        finally:
            release_and_remove(path, descriptor)

    def _enter_assets(self, db: sqlite3.Connection, assets: Iterable[str]) -> None:
        with transaction(db):
            for folder in ("", TEMP_FOLDER):
                enter_folder(db, self._tree, folder)
            for asset in assets:
                for place in self._tree.names(asset):
                    self._enter_file(db, place)
                for folder in (asset[:2], f"{asset[:2]}/{asset}"):
                    enter_folder(db, self._tree, folder)
                remove_empty_folder(db, self._tree, asset)

    def _enter_file(self, db: sqlite3.Connection, place: Place) -> None:
        try:
            status = (self._tree.root / place.path).stat()
        except OSError:
            return
        if not self._index.is_trusted(status):
            if self._tree.remove(place):
                delete_rows(db, [place])
        elif not has_row(db, place):
            used = max(status.st_mtime, status.st_atime)
            enter_file(db, self._order, place, allocated(status), used)


def _is_walking(db: sqlite3.Connection) -> bool:
    return bool(read_meta(db, "walking"))


def _walking_since(db: sqlite3.Connection) -> float:
    return float(read_meta(db, "walking_since") or 0.0)


def _end_walk(db: sqlite3.Connection, since: float) -> None:
    if _walking_since(db) == since:  # otherwise the index was lost again in the meantime
        with transaction(db):
            write_meta(db, "walking", 0)
