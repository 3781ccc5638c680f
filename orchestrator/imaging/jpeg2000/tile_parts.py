"""Where in a JPEG2000 file each tile-part is, and each resolution ends (ISO/IEC 15444-1, A.4.2 and
A.7.1).

A file in which every tile has one tile-part for each resolution, low resolutions first, can be read
from its start: the first `prefix_lengths(...)[n]` bytes and an end marker decode at reduction n, or
a further reduction, to the same pixels as the whole file. Files that we write list the lengths in
the main header (TLM), so their first kilobytes are enough. Other files are walked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from orchestrator.imaging.jpeg2000.boxes import read_boxes
from orchestrator.imaging.jpeg2000.codestream import Codestream, parse_codestream

END_OF_CODESTREAM = b"\xff\xd9"
"""The EOC marker. A prefix must be followed by it."""
SOT, TLM = 0xFF90, 0xFF55
_EOC = 0xFFD9
_RESOLUTION_FIRST = (1, 2)
"""The progressions RLCP and RPCL."""
_MAX_TILE_PARTS = 2_000_000


class TilePart(NamedTuple):
    """One tile-part: its tile, its number within the tile, its offset in the file and its length in
    bytes.
    """

    tile: int
    number: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.start + self.length


def prefix_lengths(parts: Sequence[TilePart], stream: Codestream) -> tuple[int, ...]:
    """How many bytes of the file reduction n = 0, 1 ... needs. () if the tile-parts do not separate
    the resolutions.
    """
    resolutions = stream.levels + 1
    counts: dict[int, int] = {}
    for part in parts:
        if part.number != counts.get(part.tile, 0):
            return ()
        counts[part.tile] = part.number + 1
    if (
        stream.progression not in _RESOLUTION_FIRST
        or len(counts) != stream.tile_count
        or any(count != resolutions for count in counts.values())
    ):
        return ()
    ends = [0] * resolutions
    for part in parts:
        ends[part.number] = max(ends[part.number], part.end)
    for n in range(1, resolutions):
        ends[n] = max(ends[n], ends[n - 1])
    return tuple(reversed(ends))


def read_prefix_lengths(file: BinaryIO) -> tuple[int, ...]:
    """`prefix_lengths` of an open file, or of its first kilobytes in memory if these have the list.

    () if the tile-parts do not separate the resolutions, or cannot be read. Raises Unprocessable
    for a broken header.
    """
    stream = parse_codestream(file, read_boxes(file).start)
    try:
        parts = parse_tile_part_list(stream) or list(walk_tile_parts(file, stream.first_part))
    except (struct.error, ValueError):
        return ()
    return prefix_lengths(parts, stream)


def walk_tile_parts(file: BinaryIO, first: int) -> Iterator[TilePart]:
    """Every tile-part from offset `first` to the end marker.

    Raises ValueError or struct.error if the tile-parts are not contiguous up to the end marker.
    """
    start = first
    for _ in range(_MAX_TILE_PARTS):
        file.seek(start)
        (marker,) = struct.unpack(">H", file.read(2))
        if marker == _EOC:
            return
        length, tile, size, number, _ = struct.unpack(">HHIBB", file.read(10))
        if marker != SOT or length != 10 or size < 14:
            raise ValueError("no tile-part at this offset")
        yield TilePart(tile, number, start, size)
        start += size
    raise ValueError("too many tile-parts")


def parse_tile_part_list(stream: Codestream) -> list[TilePart]:
    """The tile-parts that the main header lists (TLM), in file order; [] if it has no list. Raises
    ValueError or struct.error for a broken list.
    """
    start = stream.first_part
    lists = sorted(
        (body[0], body) for marker, body in stream.segments if marker == TLM and len(body) > 2
    )
    parts: list[TilePart] = []
    counts: dict[int, int] = {}
    for _, body in lists:
        tile_code = {1: "B", 2: "H"}.get(body[1] >> 4 & 3)
        entry = f">{tile_code}{'I' if body[1] & 0x40 else 'H'}"
        if tile_code is None:
            raise ValueError("the list has no tile numbers")
        for tile, length in struct.iter_unpack(entry, body[2:]):
            number = counts.get(tile, 0)
            parts.append(TilePart(tile, number, start, length))
            counts[tile] = number + 1
            start += length
    return parts


def build_tile_part_list(parts: Sequence[TilePart]) -> bytes:
    """TLM segments that list contiguous tile-parts. Raises ValueError if they need more than 256
    segments.
    """
    per_segment = (0xFFFF - 4) // 6
    segments = bytearray()
    for number, start in enumerate(range(0, len(parts), per_segment)):
        if number > 255:
            raise ValueError("too many tile-parts to list")
        chunk = parts[start : start + per_segment]
        segments += struct.pack(">HHBB", TLM, 4 + 6 * len(chunk), number, 0x60)
        segments += b"".join(struct.pack(">HI", part.tile, part.length) for part in chunk)
    return bytes(segments)
