"""Records and file names of the filesystem form: pure, no I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import orjson

from orchestrator.errors import PreconditionFailed, StorageUnavailable
from orchestrator.storage.store import ObjectInfo

RECORD = "=.json"
"""What the name of a record's file ends with."""
KEPT_OF_LONG = 100
"""Characters a name has in common with what it encodes, however long that is."""
_MAX_NAME = 150


@dataclass(frozen=True, slots=True)
class Record:
    """An object's record: what is known of it, and the name of the file with its bytes."""

    info: ObjectInfo
    file: str

    def to_json(self) -> bytes:
        """The record as it is stored."""
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
        """Read what `to_json` wrote. Raises StorageUnavailable for anything else."""
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
    """What must hold of the object that is there for a write to happen."""

    if_absent: bool = False
    if_match: str = ""

    def check(self, current: Record | None) -> None:
        """Raises PreconditionFailed if it does not hold."""
        if self.if_absent and current is not None:
            raise PreconditionFailed("There is an object under this key already.")
        if self.if_match and (current is None or current.info.etag != self.if_match):
            raise PreconditionFailed("The object is not the one expected.")


def encoded(segment: str) -> str:
    """The segment in plain ASCII: letters, digits, `.`, `-`, `_` and percent-encoded bytes."""
    return quote(segment, safe="").replace("~", "%7E")


def file_name(segment: str) -> str:
    """A file name for the segment: unique, plain ASCII, never too long, never `.` or `..`."""
    name = encoded(segment)
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:KEPT_OF_LONG]}~{hashlib.sha256(segment.encode()).hexdigest()[:32]}"


def extension(key: str) -> str:
    """The key's own extension, for readers that go by it; empty if it is not a plain one."""
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", key)
    return match[0] if match else ""
