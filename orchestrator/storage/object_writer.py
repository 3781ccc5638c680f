"""Writes, copies and deletes the objects of an object folder. Blocking; call it from threads.

`object_folder.py` describes the files. Every change survives a power cut, and a kill at any moment
leaves the old object or the new one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import StorageUnavailable
from orchestrator.storage.folder_locks import sync_folder
from orchestrator.storage.object_folder import MAX_RACES, ObjectFolder
from orchestrator.storage.object_records import Condition, Record, extension, file_name
from orchestrator.storage.store import CHUNK_BYTES, ObjectInfo


@dataclass(frozen=True, slots=True)
class _StagedFile:
    """Bytes written and synced in `=tmp`, not yet under any key."""

    token: str
    path: Path
    bytes: int
    etag: str


class ObjectWriter:
    """Changes the objects of one folder; any number of processes may do so at the same time."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder
        self._temporary = folder.temporary
        self._locks = folder.locks

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str],
        condition: Condition,
    ) -> ObjectInfo:
        """Store the bytes under the key. Raises PreconditionFailed."""
        condition.check(self._folder.record(key))  # before the bytes are written, to save the work
        staged = self._stage(body)
        return self._publish(key, staged, media_type, metadata, condition)

    def copy(self, source: str, target: str) -> ObjectInfo:
        """Store the object under a second key. Both share one file's bytes, which never change.
        Raises ObjectNotFound.
        """
        for _ in range(MAX_RACES):
            record, file = self._folder.open(source)
            with file:
                staged = self._stage_link(record, file)
            if staged is not None:
                info = record.info
                return self._publish(target, staged, info.media_type, info.metadata, Condition())
        raise StorageUnavailable("The object is replaced too often to be copied. Try again.")

    def delete(self, key: str) -> None:
        """Remove the object and the directories this leaves empty; a missing object is no error."""
        with self._locks.hold_key(key):
            record = self._folder.record(key)
            if record is None:
                return
            leftover = self._temporary / f"{secrets.token_hex(8)}.json"
            self._locks.move(self._folder.record_path(key), leftover)
            self._folder.data_path(record).unlink(missing_ok=True)
            leftover.unlink(missing_ok=True)
        self._locks.prune(self._folder.record_path(key).parent)

    def _stage(self, body: bytes | BinaryIO) -> _StagedFile:
        digest, size = hashlib.blake2b(digest_size=16), 0
        token = secrets.token_hex(8)
        path = self._temporary / f"{token}.data"
        try:
            with _create_file(path) as file:
                for chunk in _chunks(body):
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                _sync(file)
        except BaseException:  # whatever the cause, no file may remain in `=tmp`
            path.unlink(missing_ok=True)
            raise
        return _StagedFile(token, path, size, f'"{digest.hexdigest()}"')

    def _stage_link(self, record: Record, file: BinaryIO) -> _StagedFile | None:
        """Return the object's bytes under a temporary name; None if they were removed since."""
        token = secrets.token_hex(8)
        path = self._temporary / f"{token}.data"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self._folder.data_path(record), path)
        except FileNotFoundError:
            return None
        except OSError:  # the filesystem has no hard links
            return self._stage(file)
        return _StagedFile(token, path, record.info.bytes, record.info.etag)

    def _publish(
        self,
        key: str,
        staged: _StagedFile,
        media_type: str,
        metadata: Mapping[str, str],
        condition: Condition,
    ) -> ObjectInfo:
        """Put the staged bytes under the key, and remove the object they replace."""
        file = f"{file_name(key.rpartition('/')[2])}={staged.token}{extension(key)}"
        info = ObjectInfo(
            key, staged.bytes, staged.etag, media_type, datetime.now(UTC), dict(metadata)
        )
        record = Record(info, file)
        staged_record = self._temporary / f"{staged.token}.json"
        try:
            self._write_record(staged_record, record)
            with self._locks.hold_key(key):
                current = self._folder.record(key)
                condition.check(current)
                # A kill between here and the second rename leaves the bytes in place without a
                # record; `staged_record` still names them for the sweep. The replaced object is
                # named in `=tmp` too, before its file can become unreachable.
                self._locks.move(staged.path, self._folder.data_path(record))
                leftover = self._write_leftover(current)
                self._locks.move(staged_record, self._folder.record_path(key))
        except BaseException:  # whatever the cause, the object must be stored whole or not at all
            self._withdraw(record, staged.path, staged_record)
            raise
        sync_folder(self._folder.record_path(key).parent)
        if current is not None and leftover is not None:
            self._folder.data_path(current).unlink(missing_ok=True)
            leftover.unlink(missing_ok=True)
        return info

    def _write_leftover(self, current: Record | None) -> Path | None:
        """Name the object that is being replaced in `=tmp`, for the sweep after a kill."""
        if current is None:
            return None
        leftover = self._temporary / f"{secrets.token_hex(8)}.json"
        leftover.write_bytes(current.to_json())
        return leftover

    def _withdraw(self, record: Record, *temporary: Path) -> None:
        """Remove what a failed write left, unless its record is already in place."""
        for path in temporary:
            path.unlink(missing_ok=True)
        current = self._folder.record(record.info.key)
        if current is None or current.file != record.file:
            self._folder.data_path(record).unlink(missing_ok=True)
            self._locks.prune(self._folder.data_path(record).parent)

    def _write_record(self, path: Path, record: Record) -> None:
        with _create_file(path) as file:
            file.write(record.to_json())
            _sync(file)


def _create_file(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def _chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    while chunk := body.read(CHUNK_BYTES):
        yield chunk


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
