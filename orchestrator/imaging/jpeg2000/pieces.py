"""Pieces of a codestream that is put together from parts of a file: bytes, and spans of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bytes of the file: offset and number."""

    start: int
    length: int


Piece = bytes | FileSpan


def length_of(piece: Piece) -> int:
    """The number of bytes of a piece."""
    return len(piece) if isinstance(piece, bytes) else piece.length
