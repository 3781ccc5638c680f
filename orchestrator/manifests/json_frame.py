"""JSON documents that are written piece by piece: what is before the members of their last list,
and what is after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class JsonFrame:
    """A document around the members of its last list."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, document: dict[str, Any]) -> JsonFrame:
        """The frame of a document whose last property, at any depth, is an empty list."""
        before, _, after = orjson.dumps(document).rpartition(b"[]")
        return cls(before + b"[", b"]" + after)

    def whole(self, members: list[dict[str, Any]]) -> bytes:
        """The document with these members."""
        return self.before + b",".join(orjson.dumps(each) for each in members) + self.after
