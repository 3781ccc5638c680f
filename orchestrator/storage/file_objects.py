"""Objects as files of one folder: the blocking half of the filesystem form; call it from threads.

An object is two files beside each other: `{name}={token}.{ext}` with exactly its bytes, never
changed once it has that name, and `{name}=.json`, the record that points to it. Renaming the
record is the one instant of change, so a reader sees a whole object with its own metadata or
none. `=` is in no encoded name, so `a/b` and `a/b/c` live side by side. What a killed process
leaves is named in `=tmp` and removed by `sweep`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import ObjectNotFound, StorageUnavailable
from orchestrator.storage.object_keys import checked
from orchestrator.storage.object_records import (
    KEPT_OF_LONG,
    RECORD,
    Condition,
    Record,
    encoded,
    extension,
    file_name,
)
from orchestrator.storage.store import CHUNK_BYTES, ObjectInfo

_LOCKS = 64
_RACES = 8
"""How often a race with a replacing or deleting neighbour is run again before giving up."""


@dataclass(frozen=True, slots=True)
class _Staged:
    """Bytes written and synced in `=tmp`, not yet under any key."""

    token: str
    path: Path
    bytes: int
    etag: str


class Folder:
    """Reads and changes the objects below `root`; any number of processes may at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "=tmp"
        self._locks = root / "=locks"

    def record(self, key: str) -> Record | None:
        """The object's record, or None."""
        try:
            return Record.from_json(self._record_path(key).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, key: str) -> tuple[Record, BinaryIO]:
        """The record and its file, opened for reading. Raises ObjectNotFound."""
        for _ in range(_RACES):
            record = self.record(key)
            if record is None:
                break
            try:
                file = self.data_path(record).open("rb", buffering=0)
            except FileNotFoundError:  # replaced or deleted since: look again
                continue
            if os.fstat(file.fileno()).st_size != record.info.bytes:
                file.close()
                raise StorageUnavailable("A file of the object store is damaged.")
            return record, file
        raise ObjectNotFound("There is no such object.")

    def data_path(self, record: Record) -> Path:
        """Where the record's bytes are."""
        return self._record_path(record.info.key).parent / record.file

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str],
        condition: Condition,
    ) -> ObjectInfo:
        """Store the bytes under the key; they and the change itself survive a power cut."""
        condition.check(self.record(key))  # spares the copy when it is already in vain
        staged = self._stage(body)
        return self._publish(key, staged, media_type, metadata, condition)

    def copy(self, source: str, target: str) -> ObjectInfo:
        """Give the object a second key. Its bytes are shared: they never change. Raises
        ObjectNotFound.
        """
        for _ in range(_RACES):
            record, file = self.open(source)
            with file:
                staged = self._stage_again(record, file)
            if staged is not None:
                info = record.info
                return self._publish(target, staged, info.media_type, info.metadata, Condition())
        raise StorageUnavailable("The object is being replaced over and over.")

    def delete(self, key: str) -> None:
        """Remove the object and the folders this leaves empty; nothing there is no error."""
        with self._locked(key):
            record = self.record(key)
            if record is None:
                return
            gone = self._temporary / f"{secrets.token_hex(8)}.json"
            self._renamed(self._record_path(key), gone)
            self.data_path(record).unlink(missing_ok=True)
            gone.unlink(missing_ok=True)
        self._prune(self._record_path(key).parent)

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`; what vanishes meanwhile is left out."""
        parents, _, begin = prefix.rpartition("/")
        top = self.root.joinpath(*(file_name(part) for part in parents.split("/") if part))
        start = encoded(begin)[:KEPT_OF_LONG]
        folders = [top]
        while folders:
            folder = folders.pop()
            for entry in _entries(folder):
                if folder == top and not entry.name[:KEPT_OF_LONG].startswith(start):
                    continue
                if entry.name.endswith(RECORD):
                    yield from self._listed(Path(entry.path), prefix)
                elif "=" not in entry.name and entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))

    def sweep(self, older_than_s: float) -> int:
        """Remove what killed writers left at least that long ago; returns how many files."""
        swept = 0
        before = time.time() - older_than_s
        for entry in _entries(self._temporary):
            left = Path(entry.path)
            try:
                if left.stat().st_mtime > before:
                    continue
                swept += self._sweep_named(left) if left.suffix == ".json" else 0
                left.unlink()
                swept += 1
            except FileNotFoundError:  # its writer, or another sweep, was quicker
                continue
        return swept

    def _stage(self, body: bytes | BinaryIO) -> _Staged:
        digest, size = hashlib.blake2b(digest_size=16), 0
        token = secrets.token_hex(8)
        path = self._temporary / f"{token}.data"
        try:
            with self._created(path) as file:
                for chunk in _chunks(body):
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                _sync(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _Staged(token, path, size, f'"{digest.hexdigest()}"')

    def _stage_again(self, record: Record, file: BinaryIO) -> _Staged | None:
        """The same bytes under a temporary name; None if they are gone by now."""
        token = secrets.token_hex(8)
        path = self._temporary / f"{token}.data"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.data_path(record), path)
        except FileNotFoundError:
            return None
        except OSError:  # no hard links here
            return self._stage(file)
        return _Staged(token, path, record.info.bytes, record.info.etag)

    def _publish(
        self,
        key: str,
        staged: _Staged,
        media_type: str,
        metadata: Mapping[str, str],
        condition: Condition,
    ) -> ObjectInfo:
        file = f"{file_name(key.rpartition('/')[2])}={staged.token}{extension(key)}"
        info = ObjectInfo(
            key, staged.bytes, staged.etag, media_type, datetime.now(UTC), dict(metadata)
        )
        record = Record(info, file)
        written = self._temporary / f"{staged.token}.json"
        try:
            self._write_record(written, record)
            with self._locked(key):
                current = self.record(key)
                condition.check(current)
                # From here to the second rename a kill leaves the bytes in place without a record;
                # `written` still names them for the sweep. What is replaced is named there too,
                # before it can be orphaned.
                self._renamed(staged.path, self.data_path(record))
                left = self._name_replaced(current)
                self._renamed(written, self._record_path(key))
        except BaseException:
            self._withdraw(record, staged.path, written)
            raise
        _sync_folder(self._record_path(key).parent)
        if current is not None and left is not None:
            self.data_path(current).unlink(missing_ok=True)
            left.unlink(missing_ok=True)
        return info

    def _name_replaced(self, current: Record | None) -> Path | None:
        if current is None:
            return None
        left = self._temporary / f"{secrets.token_hex(8)}.json"
        left.write_bytes(current.to_json())
        return left

    def _withdraw(self, record: Record, *temporary: Path) -> None:
        for path in temporary:
            path.unlink(missing_ok=True)
        current = self.record(record.info.key)
        if current is None or current.file != record.file:
            self.data_path(record).unlink(missing_ok=True)
            self._prune(self.data_path(record).parent)

    def _sweep_named(self, left: Path) -> int:
        """Remove the bytes a left-over record names, unless the object that is there uses them."""
        try:
            record = Record.from_json(left.read_bytes())
        except StorageUnavailable:  # torn: then nothing was renamed yet
            return 0
        with self._locked(record.info.key):
            current = self.record(record.info.key)
            path = self.data_path(record)
            if (current is not None and current.file == record.file) or not path.exists():
                return 0
            path.unlink(missing_ok=True)
        self._prune(path.parent)
        return 1

    def _write_record(self, path: Path, record: Record) -> None:
        with self._created(path) as file:
            file.write(record.to_json())
            _sync(file)

    def _created(self, path: Path) -> BinaryIO:
        try:
            return path.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")

    def _renamed(self, source: Path, target: Path) -> None:
        """Rename; the target's folder is made if need be, and not removed before it is in use."""
        try:
            source.rename(target)
        except FileNotFoundError:
            with self._lock("folders", fcntl.LOCK_SH):
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            _sync_folders(target.parent, self.root)

    def _listed(self, path: Path, prefix: str) -> Iterator[ObjectInfo]:
        try:
            info = Record.from_json(path.read_bytes()).info
        except FileNotFoundError:
            return
        if info.key.startswith(prefix):
            yield ObjectInfo(info.key, info.bytes, info.etag, "", info.modified)

    def _prune(self, folder: Path) -> None:
        """Remove the folder and those above it, as far as they are empty."""
        with self._lock("folders", fcntl.LOCK_EX):
            while folder != self.root:
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone
                    return
                folder = folder.parent

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """One writer at a time for this key (and some others)."""
        stripe = hashlib.blake2b(key.encode(), digest_size=2).digest()
        with self._lock(str(int.from_bytes(stripe) % _LOCKS), fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, name: str, kind: int) -> Iterator[None]:
        """Hold a lock over all threads and processes of the host. `folders` is taken last."""
        path = self._locks / name
        try:
            file = path.open("wb")
        except FileNotFoundError:
            self._locks.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        with file:
            fcntl.flock(file, kind)
            yield

    def _record_path(self, key: str) -> Path:
        *folders, name = (file_name(segment) for segment in checked(key).split("/"))
        return self.root.joinpath(*folders, name + RECORD)


def _chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    while chunk := body.read(CHUNK_BYTES):
        yield chunk


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # its object was deleted again already
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folders(folder: Path, root: Path) -> None:
    while folder != root:
        folder = folder.parent
        _sync_folder(folder)
