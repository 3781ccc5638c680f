"""The main header of a JPEG2000 codestream: image area, tiles, components, decomposition levels.

Follows ISO/IEC 15444-1, annex A. Every loop and length is bounded, so a header with false values is
refused here, before a decoder sees it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from orchestrator.errors import Damaged, Unsupported
from orchestrator.model import Dimensions

INCOMPLETE = "The JPEG2000 file is incomplete. Use a complete copy of the file."
_BROKEN = "The JPEG2000 file has no valid header. Use an undamaged copy of the file."
_MAX_MARKERS = 4096
_MAX_COMPONENTS = 64
_MAX_LEVELS = 32
_MAX_BITS = 31
"""OpenJPEG stores a sample in 32 bits with a sign."""
_HIGH_THROUGHPUT = 0x40
"""The code-block style of HTJ2K (ISO/IEC 15444-15)."""
SOC = b"\xff\x4f"
_SIZ, _COD, _COC, _TLM, _PLM, _PPM = 0xFF51, 0xFF52, 0xFF53, 0xFF55, 0xFF57, 0xFF60
_SOT, _SOD = 0xFF90, 0xFF93
CODING_BYTES = 10
"""Bytes of a COD segment before the sizes of precincts."""
WITH_PRECINCTS = 1
_WITHOUT_LENGTH = range(0xFF30, 0xFF40)
"""Reserved markers, which have no parameters."""
_LISTS_OF_PARTS = frozenset((_TLM, _PLM))

Area = tuple[int, int, int, int]
"""(left, top, right, bottom) on the reference grid."""


@dataclass(frozen=True, slots=True)
class Component:
    """Bits of its samples, and how many columns and rows of the reference grid a sample covers."""

    bits: int
    signed: bool
    dx: int
    dy: int


class Section(NamedTuple):
    """A part of an image on the reference grid; origin and size of its tiles."""

    area: Area
    tile_origin: tuple[int, int]
    tile_size: Dimensions


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the main header says. `levels` is the fewest decomposition levels of any component."""

    area: Area
    tile_origin: tuple[int, int]
    tile_size: Dimensions
    components: tuple[Component, ...]
    levels: int = 0
    progression: int = 0
    """Progression order as in COD. 1 and 2 put resolutions first."""
    high_throughput: bool = False
    start: int = 0
    """Offset of the codestream in the file."""
    first_part: int = 0
    """Offset of the first tile-part in the file."""
    segments: tuple[tuple[int, bytes], ...] = ()
    """(marker, body) of each segment of the main header."""

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) of the image in pixels of the reference grid."""
        return self.area[2] - self.area[0], self.area[3] - self.area[1]

    @property
    def tile(self) -> Dimensions:
        """(width, height) of the tiles in pixels, at most those of the image."""
        width, height = self.dimensions
        return min(self.tile_size[0], width), min(self.tile_size[1], height)

    @property
    def grid(self) -> Dimensions:
        """How many tiles are (in a row, in a column)."""
        across = -(-(self.area[2] - self.tile_origin[0]) // self.tile_size[0])
        down = -(-(self.area[3] - self.tile_origin[1]) // self.tile_size[1])
        return across, down

    @property
    def tile_count(self) -> int:
        """How many tiles the codestream has."""
        return self.grid[0] * self.grid[1]

    @property
    def tiled(self) -> bool:
        """True if the codestream has more than one tile."""
        return self.tile_count > 1

    @property
    def packs_headers(self) -> bool:
        """True if packet headers are in the main header (PPM). Then no tile-part can be left out,
        because they follow the order of all tile-parts.
        """
        return any(marker == _PPM for marker, _ in self.segments)

    @property
    def subsampling(self) -> tuple[int, int]:
        """(columns, rows) of the smallest area that is whole samples of all components."""
        columns = math.lcm(*(component.dx for component in self.components))
        return columns, math.lcm(*(component.dy for component in self.components))

    def tiles_of(self, area: Area) -> list[int]:
        """The numbers of the tiles that `area` touches, in order."""
        (left, top), (width, height) = self.tile_origin, self.tile_size
        rows = range((area[1] - top) // height, -(-(area[3] - top) // height))
        columns = range((area[0] - left) // width, -(-(area[2] - left) // width))
        return [row * self.grid[0] + column for row in rows for column in columns]

    def area_of(self, tile: int) -> Area:
        """The area of the image in a tile."""
        row, column = divmod(tile, self.grid[0])
        (left, top), (width, height) = self.tile_origin, self.tile_size
        left, top = left + column * width, top + row * height
        return (
            max(self.area[0], left),
            max(self.area[1], top),
            min(self.area[2], left + width),
            min(self.area[3], top + height),
        )

    def section_of(self, tiles: Sequence[int]) -> Section:
        """The part of the image in `tiles`, which `tiles_of` returned."""
        first, last = self.area_of(tiles[0]), self.area_of(tiles[-1])
        row, column = divmod(tiles[0], self.grid[0])
        (left, top), (width, height) = self.tile_origin, self.tile_size
        origin = left + column * width, top + row * height
        return Section((*first[:2], *last[2:]), origin, self.tile_size)

    def main_header(self, section: Section | None = None, reduction: int = 0) -> bytes:
        """The main header without lists of tile-parts and packets, which are right only for the
        whole file. `section`: that of a codestream that has only this section of the image.
        `reduction`: that of a codestream without the resolutions that it leaves out.
        """
        body = b"".join(
            struct.pack(">HH", marker, len(body) + 2) + body
            for marker, body in self._rewritten(section, reduction)
            if marker not in _LISTS_OF_PARTS
        )
        return SOC + body

    def _rewritten(self, section: Section | None, reduction: int) -> Iterator[tuple[int, bytes]]:
        for marker, body in self.segments:
            if marker == _SIZ:
                yield marker, self._rewrite_size(body, section, reduction)
            elif marker == _COD and reduction:
                levels = body[5] - reduction
                end = CODING_BYTES + (levels + 1) * (body[0] & WITH_PRECINCTS)
                yield marker, body[:5] + bytes([levels]) + body[6:end]
            else:
                yield marker, body

    def _rewrite_size(self, body: bytes, section: Section | None, reduction: int) -> bytes:
        area, origin, tile = section or Section(self.area, self.tile_origin, self.tile_size)
        values = (*area[2:], *area[:2], *tile, *origin)
        reduced = (-(-value >> reduction) for value in values)
        return body[:2] + struct.pack(">8I", *reduced) + body[34:]


def parse_codestream(file: BinaryIO, start: int) -> Codestream:
    """The main header of the codestream at offset `start` of an open file, or of its first bytes in
    memory. The file is then positioned after the marker of the first tile-part. Raises Damaged,
    Unsupported.
    """
    file.seek(start)
    try:
        if file.read(2) != SOC:
            raise Damaged("The JPEG2000 file contains no codestream. Use an undamaged copy.")
        segments = tuple(_read_segments(file))
        return _describe(segments, start, file.tell() - 2)
    except struct.error as error:
        raise Damaged(INCOMPLETE) from error


def levels_in_segment(marker: int, body: bytes, components: int) -> int | None:
    """The decomposition levels in the body of a COD or COC segment; None for other segments.

    Raises Damaged for a number that is not allowed.
    """
    if marker == _COD and len(body) > 5:
        levels = body[5]
    elif marker == _COC and len(body) > 4:
        levels = body[2 if components < 257 else 3]
    else:
        return None
    if levels > _MAX_LEVELS:
        raise Damaged(_BROKEN)
    return levels


def _describe(segments: tuple[tuple[int, bytes], ...], start: int, first: int) -> Codestream:
    by_marker = dict(segments)
    if _SIZ not in by_marker or len(by_marker.get(_COD, b"")) < 10:
        raise Damaged(_BROKEN)
    area, origin, size, components = _parse_size(by_marker[_SIZ])
    counts = [levels_in_segment(marker, body, len(components)) for marker, body in segments]
    coding = by_marker[_COD]
    return Codestream(
        area,
        origin,
        size,
        components,
        levels=min(count for count in counts if count is not None),
        progression=coding[1],
        high_throughput=bool(coding[8] & _HIGH_THROUGHPUT),
        start=start,
        first_part=first,
        segments=segments,
    )


def _read_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of each segment up to the first tile. Raises struct.error if the file ends."""
    for _ in range(_MAX_MARKERS):
        (marker,) = struct.unpack(">H", file.read(2))
        if marker == _SOT:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker == _SOD or marker < 0xFF00 or length < 2:
            break
        body = file.read(length - 2)
        if len(body) < length - 2:
            raise Damaged(INCOMPLETE)
        yield marker, body
    raise Damaged(_BROKEN)


def _parse_size(
    segment: bytes,
) -> tuple[Area, tuple[int, int], Dimensions, tuple[Component, ...]]:
    """(image area, origin and size of the tiles, components) of a SIZ segment. Raises Damaged,
    Unsupported, struct.error.
    """
    values = struct.unpack(">H8IH", segment[:36])
    right, bottom, left, top, tile_w, tile_h, tile_left, tile_top, count = values[1:]
    samples = segment[36 : 36 + 3 * count]
    is_valid = (
        left < right
        and top < bottom
        and tile_left <= left < tile_left + tile_w
        and tile_top <= top < tile_top + tile_h
        and max(right, bottom) < 2**31
        and count > 0
        and len(samples) == 3 * count
    )
    if not is_valid:
        raise Damaged(_BROKEN)
    if count > _MAX_COMPONENTS:
        raise Unsupported(
            f"JPEG2000 files with more than {_MAX_COMPONENTS} components are not supported. "
            "Convert the file to three components."
        )
    components = tuple(
        Component((kind & 0x7F) + 1, bool(kind & 0x80), dx, dy)
        for kind, dx, dy in struct.iter_unpack("BBB", samples)
    )
    if any(component.dx < 1 or component.dy < 1 or component.bits > 38 for component in components):
        raise Damaged(_BROKEN)
    if any(component.bits > _MAX_BITS for component in components):
        raise Unsupported(
            f"JPEG2000 files with more than {_MAX_BITS} bits for each sample are not supported. "
            "Convert the file to 16 bits."
        )
    return (left, top, right, bottom), (tile_left, tile_top), (tile_w, tile_h), components
