"""Records and file names of an object folder. Pure, no I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import orjson

from orchestrator.errors import PreconditionFailed, StorageUnavailable
from orchestrator.storage.store import ObjectInfo

RECORD_SUFFIX = "=.json"
"""The end of the name of a record's file."""
PREFIX_CHARS = 100
"""A file name begins with at least this many characters of the encoded segment, or all of it."""
_MAX_NAME = 150


@dataclass(frozen=True, slots=True)
class Record:
    """The description of an object, and the name of the file with its bytes."""

    info: ObjectInfo
    file: str

    def to_json(self) -> bytes:
        """Return the record as it is stored."""
        info = self.info
        return orjson.dumps(
            {
                "key": info.key,
                "file": self.file,
                "bytes": info.bytes,
                "etag": info.etag,
                "mediaType": info.media_type,
                "modified": info.modified.isoformat(),
                "metadata": dict(info.metadata),
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        """Parse a stored record. Raises StorageUnavailable if it is damaged."""
        try:
            fields = orjson.loads(text)
            info = ObjectInfo(
                key=fields["key"],
                bytes=fields["bytes"],
                etag=fields["etag"],
                media_type=fields["mediaType"],
                modified=datetime.fromisoformat(fields["modified"]),
                metadata=fields["metadata"],
            )
            return cls(info, fields["file"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageUnavailable("A record of the object store is damaged.") from error


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition on the current object under which a write is made."""

    if_absent: bool = False
    if_match: str = ""

    def check(self, current: Record | None) -> None:
        """Raise PreconditionFailed if the condition does not hold."""
        if self.if_absent and current is not None:
            raise PreconditionFailed("There is already an object under this key.")
        if self.if_match and (current is None or current.info.etag != self.if_match):
            raise PreconditionFailed("Another writer created, replaced or deleted the object.")


def encode_segment(segment: str) -> str:
    """Return the segment in ASCII: letters, digits, `.`, `-`, `_` and percent-encoded bytes."""
    return quote(segment, safe="").replace("~", "%7E")


def file_name(segment: str) -> str:
    """Return a file name for the segment: unique, ASCII, not too long, never `.` or `..`."""
    name = encode_segment(segment)
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:PREFIX_CHARS]}~{hashlib.sha256(segment.encode()).hexdigest()[:32]}"


def extension(key: str) -> str:
    """Return the key's extension with its dot, for readers that use it; "" if it is unusual."""
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", key)
    return match[0] if match else ""
