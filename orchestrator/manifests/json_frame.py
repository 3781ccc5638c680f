"""JSON documents that are written piece by piece: what is before the members of their last list,
and what is after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

MEMBERS_OF_A_PIECE = 20
"""Members that are written at once: about 50 kB of canvases, made in two milliseconds."""


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

    def whole(self, members: Iterable[dict[str, Any]]) -> bytes:
        """The document with these members."""
        return b"".join(self.pieces(members))

    def pieces(self, members: Iterable[dict[str, Any]]) -> Iterator[bytes]:
        """The document in pieces of a few members, which are made one after the other."""
        piece, separator = bytearray(self.before), b""
        for count, member in enumerate(members, 1):
            piece += separator + orjson.dumps(member)
            separator = b","
            if count % MEMBERS_OF_A_PIECE == 0:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece + self.after)
