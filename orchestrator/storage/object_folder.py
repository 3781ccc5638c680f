"""Objects as files of one folder: where they are, and reading them. Blocking; call it from threads.

An object is two files beside each other: `{name}={token}.{ext}` holds exactly its bytes and never
changes once it has that name; `{name}=.json` is the record that names it. Replacing the record is
the one moment of change, so a reader sees a whole object with its own metadata, or none. No encoded
name contains `=`, so the objects `a/b` and `a/b/c` can both exist. Files that a killed writer left
are named by records in `=tmp` (`leftovers.py`). docs/adr/0014-objects-as-files.md has the reasons.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import ObjectNotFound, StorageUnavailable
from orchestrator.storage.folder_locks import FolderLocks
from orchestrator.storage.object_keys import check_key
from orchestrator.storage.object_records import (
    PREFIX_CHARS,
    RECORD_SUFFIX,
    Record,
    encode_segment,
    file_name,
)
from orchestrator.storage.store import ObjectInfo

MAX_RACES = 8
"""How often to start again after another process replaced or deleted the object."""


class ObjectFolder:
    """The objects below `root`; any number of processes may read and write them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.temporary = root / "=tmp"
        self.locks = FolderLocks(root)

    def record_path(self, key: str) -> Path:
        """Return the path of the object's record. Raises InvalidInput."""
        *folders, name = (file_name(segment) for segment in check_key(key).split("/"))
        return self.root.joinpath(*folders, name + RECORD_SUFFIX)

    def data_path(self, record: Record) -> Path:
        """Return the path of the file with the object's bytes."""
        return self.record_path(record.info.key).parent / record.file

    def record(self, key: str) -> Record | None:
        """Return the object's record, or None."""
        try:
            return Record.from_json(self.record_path(key).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, key: str) -> tuple[Record, BinaryIO]:
        """Return the record and its file, open for reading. Raises ObjectNotFound."""
        for _ in range(MAX_RACES):
            record = self.record(key)
            if record is None:
                break
            try:
                file = self.data_path(record).open("rb", buffering=0)
            except FileNotFoundError:  # replaced or deleted since the record was read
                continue
            if os.fstat(file.fileno()).st_size != record.info.bytes:
                file.close()
                raise StorageUnavailable("A file of the object store is damaged.")
            return record, file
        raise ObjectNotFound("There is no such object.")

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`; objects deleted since then are left
        out.
        """
        parents, _, begin = prefix.rpartition("/")
        top = self.root.joinpath(*(file_name(part) for part in parents.split("/") if part))
        start = encode_segment(begin)[:PREFIX_CHARS]
        folders = [top]
        while folders:
            folder = folders.pop()
            for entry in entries_of(folder):
                if folder == top and not entry.name[:PREFIX_CHARS].startswith(start):
                    continue
                if entry.name.endswith(RECORD_SUFFIX):
                    info = _listed_info(Path(entry.path))
                    if info is not None and info.key.startswith(prefix):
                        yield info
                elif "=" not in entry.name and entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a directory; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _listed_info(record: Path) -> ObjectInfo | None:
    try:
        info = Record.from_json(record.read_bytes()).info
    except FileNotFoundError:
        return None
    return ObjectInfo(info.key, info.bytes, info.etag, "", info.modified)
