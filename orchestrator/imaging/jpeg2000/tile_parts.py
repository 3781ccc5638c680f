"""Where in a JPEG2000 file each resolution ends (peers.md 2.6; ISO/IEC 15444-1, A.4.2 and A.7.1).

A file whose every tile has a tile-part for each resolution, low ones first, can be read from its
front: the first `prefix_lengths(...)[n]` bytes and an end marker decode at reduction n, or further
down, to the very pixels of the whole file. The lengths are in the main header (TLM) of what we
write, so its first kilobytes tell; of other files the tile-parts are walked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.imaging.jpeg2000.codestream import Codestream, main_segments, parse_codestream

END = b"\xff\xd9"
"""What a prefix must be followed by (EOC)."""
SOT, TLM = 0xFF90, 0xFF55
_RESOLUTION_FIRST = (1, 2)
"""RLCP and RPCL."""
_MOST_PARTS = 2_000_000


@dataclass(frozen=True, slots=True)
class TilePart:
    """A piece of a tile: its number within the tile, where it begins in the file and its bytes."""

    tile: int
    number: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.length


def prefix_lengths(parts: Sequence[TilePart], stream: Codestream) -> tuple[int, ...]:
    """How many bytes of the file hold what reduction n = 0, 1 ... needs; () when resolutions are
    not told apart by tile-parts.
    """
    resolutions = stream.levels + 1
    by_tile: dict[int, int] = {}
    for part in parts:
        if part.number != by_tile.get(part.tile, 0):
            return ()
        by_tile[part.tile] = part.number + 1
    if (
        stream.progression not in _RESOLUTION_FIRST
        or len(by_tile) != tiles_of(stream)
        or any(count != resolutions for count in by_tile.values())
    ):
        return ()
    ends = [0] * resolutions
    for part in parts:
        ends[part.number] = max(ends[part.number], part.end)
    for n in range(1, resolutions):
        ends[n] = max(ends[n], ends[n - 1])
    return tuple(reversed(ends))


def tiles_of(stream: Codestream) -> int:
    """How many tiles a codestream has."""
    across, down = (
        -(-full // edge) for full, edge in zip(stream.dimensions, stream.tile, strict=True)
    )
    return across * down


def read_prefix_lengths(file: BinaryIO) -> tuple[int, ...]:
    """`prefix_lengths` of an open file, or of its first kilobytes in memory where those say it; ()
    when the file is not made so or that cannot be told. Raises Unprocessable for a broken header.
    """
    file.seek(0)
    stream = parse_codestream(file)
    try:
        parts = listed(file) or list(walk(file, file.tell() - 2))
    except (struct.error, ValueError):
        return ()
    return prefix_lengths(parts, stream)


def walk(file: BinaryIO, first: int) -> Iterator[TilePart]:
    """Every tile-part from the one at `first` to the end marker. Raises ValueError or struct.error
    where they do not follow each other to it.
    """
    at = first
    for _ in range(_MOST_PARTS):
        file.seek(at)
        (marker,) = struct.unpack(">H", file.read(2))
        if marker == 0xFFD9:
            return
        length, tile, size, number, _ = struct.unpack(">HHIBB", file.read(10))
        if marker != SOT or length != 10 or size < 14:
            raise ValueError("no tile-part here")
        yield TilePart(tile, number, at, size)
        at += size
    raise ValueError("more tile-parts than any picture has")


def listed(file: BinaryIO) -> list[TilePart]:
    """The tile-parts as the main header lists them (TLM), in the order of the file; [] where it
    does not. The file then stands behind the marker of the first.

    Raises Unprocessable for a broken header, ValueError or struct.error for a broken list.
    """
    _, segments = main_segments(file)
    first = file.tell() - 2
    lists = sorted((body[0], body) for marker, body in segments if marker == TLM and len(body) > 2)
    found: list[TilePart] = []
    seen: dict[int, int] = {}
    at = first
    for _, body in lists:
        number = {1: "B", 2: "H"}.get(body[1] >> 4 & 3)
        kind = f">{number}{'I' if body[1] & 0x40 else 'H'}"
        if number is None:
            raise ValueError("tiles without numbers")
        for tile, length in struct.iter_unpack(kind, body[2:]):
            found.append(TilePart(tile, seen.get(tile, 0), at, length))
            seen[tile] = seen.get(tile, 0) + 1
            at += length
    return found


def listing(parts: Sequence[TilePart]) -> bytes:
    """TLM segments that say where these tile-parts lie, one behind the other.

    Raises ValueError for more than fit 256 segments.
    """
    at_once = (0xFFFF - 4) // 6
    out = bytearray()
    for number, start in enumerate(range(0, len(parts), at_once)):
        if number > 255:
            raise ValueError("too many tile-parts to list")
        some = parts[start : start + at_once]
        out += struct.pack(">HHBB", TLM, 4 + 6 * len(some), number, 0x60)
        out += b"".join(struct.pack(">HI", part.tile, part.length) for part in some)
    return bytes(out)
