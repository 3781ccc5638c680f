"""Assembles the codestream that OpenJPEG decodes: the main header and those parts of some tiles
that an area needs.

So OpenJPEG sees no boxes, no lists of tile-parts and no other tiles. Each tile is contiguous and
says how many tile-parts it has. Of a large tile whose packets are listed, only the packets of the
area are read; empty ones replace the others. Nothing is copied: OpenJPEG reads the spans of the
file through callbacks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from orchestrator.errors import Damaged
from orchestrator.imaging.jpeg2000.codestream import INCOMPLETE, Area, Section
from orchestrator.imaging.jpeg2000.coding_style import PLT, RLCP, RPCL, parse_coding_style
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout
from orchestrator.imaging.jpeg2000.part_headers import SOT_BYTES, PartHeader, read_part_header
from orchestrator.imaging.jpeg2000.pieces import FileSpan, Piece, length_of
from orchestrator.imaging.jpeg2000.tile_parts import END_OF_CODESTREAM, SOT, TilePart

if TYPE_CHECKING:
    from orchestrator.imaging.jpeg2000.packet_index import PacketIndex

LARGE_TILE_PIXELS = 1_000_000
"""Of tiles with fewer pixels all packets are read: parsing them takes less time than finding those
that are needed.
"""
_MAX_COUNT = 255
_MAX_INDEXES = 4
_SOD = b"\xff\x93"


class Assembly(NamedTuple):
    """A codestream, the requested area on its reference grid, and the reduction that a decoder must
    still apply.
    """

    pieces: list[Piece]
    area: Area
    reduction: int


class _Selection(NamedTuple):
    """Which packets of a tile are used: those of `area` at `reduction`, `within` a part of the
    tile, and (`is_reduced`) none of higher resolutions, not even empty ones.
    """

    area: Area
    reduction: int
    within: Area | None
    is_reduced: bool


class Assembler:
    """Assembles parts of one file. It keeps where the packets of large tiles are."""

    def __init__(self, layout: Jp2Layout) -> None:
        self._layout = layout
        self._style = parse_coding_style(layout.stream) if layout.by_parts else None
        self._indexes: dict[int, tuple[PacketIndex | None, Sequence[PartHeader]]] = {}

    @property
    def kept_bytes(self) -> int:
        """Memory that the kept indexes take."""
        return sum(index.kept_bytes for index, _ in self._indexes.values() if index)

    def selects_packets(self, tile: int) -> bool:
        """True if only some packets of `tile` may be read, where they are listed."""
        stream = self._layout.stream
        left, top, right, bottom = stream.area_of(tile)
        is_large = (right - left) * (bottom - top) > LARGE_TILE_PIXELS
        return self._style is not None and is_large and not stream.high_throughput

    def assemble(self, file: BinaryIO, area: Area, reduction: int) -> Assembly:
        """The codestream that has the tiles of `area` of the reference grid at `reduction`.

        Raises Damaged if a tile-part is missing, UnsafeParts if a header contradicts the list.
        """
        stream = self._layout.stream
        tiles, shift, section = stream.tiles_of(area), 0, None
        pieces: list[Piece] = []
        if stream.packs_headers:
            pieces += self._every_part()
        elif len(tiles) == 1 and (index := self.packet_index(file, tiles[0])):
            # OpenJPEG prepares every code-block of a tile, so the tile is cut, too.
            part, shift = index.surroundings(area), self._shift(reduction, stream.area[:2])
            section = Section(part, part[:2], (part[2] - part[0], part[3] - part[1]))
            selection = _Selection(area, reduction, part, bool(shift))
            pieces += self._select_packets(index, tiles[0], 0, selection)
        else:
            if stream.tiled and self._ends_with_resolution():
                shift = self._shift(reduction, (*stream.tile_origin, *stream.tile_size))
            selection = _Selection(area, reduction, None, bool(shift))
            # OpenJPEG prepares every tile of the image.
            section = stream.section_of(tiles) if self._layout.by_parts else None
            for number, tile in enumerate(tiles):
                pieces += self._assemble_tile(file, tile, number if section else tile, selection)
        pieces = [stream.main_header(section, shift), *pieces, END_OF_CODESTREAM]
        left, top, right, bottom = (-(-at >> shift) for at in area)
        return Assembly(pieces, (left, top, right, bottom), reduction - shift)

    def _shift(self, reduction: int, corners: tuple[int, ...]) -> int:
        """`reduction` if the codestream can be written without the higher resolutions, which
        OpenJPEG would prepare, else 0. `corners` are where its tiles begin.
        """
        stream = self._layout.stream
        is_aligned = all(at % (1 << reduction) == 0 for at in (*corners, *stream.area[:2]))
        is_plain = stream.subsampling == (1, 1) and not stream.high_throughput
        return reduction if self._style and is_aligned and is_plain else 0

    def _ends_with_resolution(self) -> bool:
        """True if the data of a tile, up to the end of a resolution, begin its tile-parts."""
        style = self._style
        return style is not None and (
            style.progression in (RLCP, RPCL) or self._layout.by_resolution
        )

    def parts_of_tile(self, tile: int, reduction: int) -> Sequence[TilePart]:
        """The tile-parts of a tile that are needed at `reduction`. Raises Damaged."""
        layout = self._layout
        parts = layout.index.parts.get(tile, [])
        needed = layout.stream.levels + 1 - reduction
        if not parts or (not layout.index.is_whole and len(parts) < needed):
            raise Damaged(INCOMPLETE)
        return parts[:needed] if layout.by_resolution else parts

    def packet_index(self, file: BinaryIO, tile: int) -> PacketIndex | None:
        """The packets of a large tile; None if they are not listed rightly. Raises UnsafeParts."""
        return self._read_index(file, tile)[0] if self.selects_packets(tile) else None

    def _assemble_tile(
        self, file: BinaryIO, tile: int, number: int, selection: _Selection
    ) -> Iterator[Piece]:
        index = self.packet_index(file, tile)
        if index is not None:
            yield from self._select_packets(index, tile, number, selection)
            return
        count = len(self._layout.index.parts.get(tile, []))
        parts = self.parts_of_tile(tile, selection.reduction)
        for part in parts:
            if self._layout.by_parts:
                read_part_header(file, part, count)
            yield from _write_tile_part(part, number, len(parts))

    def _select_packets(
        self, index: PacketIndex, tile: int, number: int, selection: _Selection
    ) -> Iterator[Piece]:
        """A tile-part with the packets of the selection, as those of the tile `number`."""
        empty = self._style.empty_packet if self._style else b"\0"
        header = _first_header(self._indexes[tile][1][0])
        area, reduction, within, is_reduced = selection
        packets = list(index.select(area, reduction, empty, within=within, is_reduced=is_reduced))
        length = SOT_BYTES + len(header) + sum(map(length_of, packets))
        yield struct.pack(">HHHIBB", SOT, 10, number, length, 0, 1)
        yield header
        yield from packets

    def _read_index(
        self, file: BinaryIO, tile: int
    ) -> tuple[PacketIndex | None, Sequence[PartHeader]]:
        if tile not in self._indexes and self._style is not None:
            # here, because numpy takes 15 MB of every process that imports it
            from orchestrator.imaging.jpeg2000.packet_index import read_packet_index

            parts = self._layout.index.parts.get(tile, [])
            headers = [read_part_header(file, part, len(parts)) for part in parts]
            index = read_packet_index(self._layout.stream, self._style, tile, headers)
            while len(self._indexes) >= _MAX_INDEXES:
                del self._indexes[next(iter(self._indexes))]
            self._indexes[tile] = index, headers
        return self._indexes[tile]

    def _every_part(self) -> Iterator[Piece]:
        index = self._layout.index
        if not index.is_whole:
            raise Damaged(INCOMPLETE)
        every = sorted(
            (part for parts in index.parts.values() for part in parts), key=lambda part: part.start
        )
        for part in every:
            yield from _write_tile_part(part, part.tile, len(index.parts[part.tile]))


def _first_header(header: PartHeader) -> bytes:
    """The segments of the header of a tile that stay right when it has other packets."""
    kept = b"".join(
        struct.pack(">HH", marker, len(body) + 2) + body
        for marker, body in header.segments
        if marker != PLT
    )
    return kept + _SOD


def _write_tile_part(part: TilePart, tile: int, count: int) -> Iterator[Piece]:
    """The tile-part with a header that says its length, its tile and how many parts that has."""
    count = count if count <= _MAX_COUNT else 0
    yield struct.pack(">HHHIBB", SOT, 10, tile, part.length, part.number, count)
    yield FileSpan(part.start + SOT_BYTES, part.length - SOT_BYTES)
