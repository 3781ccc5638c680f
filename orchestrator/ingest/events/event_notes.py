"""Notes: small JSON documents in the process bucket, one for each object that waits for its
pyramid. They are read by `pyramid import-docs`, and written for events if `pyramids.write_notes` is
set.

A note is deleted when its pyramid is stored. The queue is the record of the work: notes are for
other programs, and for the system that this product replaces.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.errors import InvalidInput, TooLarge
from orchestrator.storage.store import ObjectInfo, ObjectStore, read

log = logging.getLogger(__name__)
_MAX_BYTES = 64 * 1024
_COPYRIGHT = "copyright"


@dataclass(frozen=True, slots=True)
class Note:
    """A note: the key and the ETag of an object of the source bucket ("" if it has none), and
    whether the object is under copyright (None: the note does not say).
    """

    key: str
    etag: str = ""
    is_copyrighted: bool | None = None


class Notes:
    """The notes in the process bucket. Every method raises StorageUnavailable."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        """`store` is the process bucket; the keys of notes begin with `prefix`."""
        self._store = store
        self._prefix = prefix

    def key_of(self, note: Note) -> str:
        """The key under which a note is written: a digest of key and ETag of the object, so that
        two objects never share one.
        """
        name = hashlib.blake2b(f"{note.key}\0{note.etag}".encode(), digest_size=16).hexdigest()
        return f"{self._prefix}{name}.json"

    async def write(self, note: Note) -> None:
        """Write a note."""
        directory, slash, _ = note.key.rpartition("/")
        body = {"key": note.key, "eTag": note.etag, "path": directory + slash}
        await self._store.put(self.key_of(note), orjson.dumps(body), media_type="application/json")

    async def list(self, prefix: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield every note; with a `prefix`, those whose keys begin so."""
        async for info in self._store.list(self._prefix if prefix is None else prefix):
            if info.key.endswith(".json"):
                yield info

    async def read(self, key: str) -> Note:
        """Read a note. Raises InvalidInput for one that names no object, ObjectNotFound."""
        try:
            return _parse(await read(self._store, key, max_bytes=_MAX_BYTES))
        except TooLarge as error:
            raise InvalidInput("The note is too large.") from error

    async def delete(self, key: str) -> None:
        """Delete a note."""
        await self._store.delete([key])


def _parse(body: bytes) -> Note:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("The note is not a JSON document.") from error
    key = document.get("key") if isinstance(document, Mapping) else None
    if not isinstance(key, str) or not key or "\0" in key:
        raise InvalidInput("The note has no text key.")
    etag = document.get("eTag")
    status = document.get("copyrightStatus")
    return Note(
        key,
        etag.strip('"') if isinstance(etag, str) else "",
        status.lower() == _COPYRIGHT if isinstance(status, str) else None,
    )
