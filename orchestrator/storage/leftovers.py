"""Removes the files that killed writers left in an object folder.

Each such file is in `=tmp`, or is named by a record in `=tmp`, so the tree is never walked.
"""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.errors import StorageUnavailable
from orchestrator.storage.object_folder import ObjectFolder, entries_of
from orchestrator.storage.object_records import Record


def sweep_leftovers(folder: ObjectFolder, older_than_s: float) -> int:
    """Remove files left at least that long ago; returns how many. Blocking."""
    removed = 0
    before = time.time() - older_than_s
    for entry in entries_of(folder.temporary):
        path = Path(entry.path)
        try:
            if path.stat().st_mtime > before:
                continue
            if path.name.endswith(".json"):
                removed += _remove_named_file(folder, path)
            path.unlink()
            removed += 1
        except FileNotFoundError:  # its writer, or another sweep, removed it first
            continue
    return removed


def _remove_named_file(folder: ObjectFolder, path: Path) -> int:
    """Remove the data file that this record names, unless the current object uses it."""
    try:
        record = Record.from_json(path.read_bytes())
    except StorageUnavailable:  # incomplete: its writer was killed before it renamed anything
        return 0
    with folder.locks.hold_key(record.info.key):
        current = folder.record(record.info.key)
        data = folder.data_path(record)
        if (current is not None and current.file == record.file) or not data.exists():
            return 0
        data.unlink(missing_ok=True)
    folder.locks.prune(data.parent)
    return 1
