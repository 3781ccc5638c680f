"""Computes which bytes of a source one recipe needs, from those bytes of it that are present.

Of a JPEG2000 file it is the headers, and the tile-parts or the packets that the region touches. Of
a tiled pyramid TIFF it is the directories, and the tiles of one level that the region touches.
Everything that a header says is checked. Where the answer is None, the whole file must be read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from orchestrator.errors import Unprocessable
from orchestrator.imaging.formats.file_type import HEAD_BYTES, sniff
from orchestrator.imaging.intervals import Span, Spans
from orchestrator.imaging.jpeg2000.assembly import Assembler
from orchestrator.imaging.jpeg2000.codestream import Area
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout, parse_layout
from orchestrator.imaging.jpeg2000.part_headers import UnsafeParts
from orchestrator.imaging.jpeg2000.pieces import FileSpan
from orchestrator.imaging.jpeg2000_levels import decoded_area
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.render import region_to_read
from orchestrator.imaging.tiff.directories import MAX_DIRECTORIES, Directory, TagValues
from orchestrator.imaging.tiff.pyramid import TiffPicture, parse_picture
from orchestrator.model import Dimensions

_SMALLEST_TILE = 16
_READ_AHEAD = 32 * 1024
"""Directories and headers are fetched in pieces of at least this size."""
_MAX_PARTS_READ = 16
"""Without a list of its tile-parts a file has to be read one header after the other."""
_HEADER_BYTES = 16 * 1024
"""Of the tile-part of a large tile: its header with the lengths of a few thousand packets."""
_LARGEST_SHARE = 2
"""If more than this fraction (1/n) of a JPEG2000 file is needed, the whole file is read."""


class BytesMissing(Exception):
    """These bytes of the file must be fetched first. Only `routing` handles this error."""

    def __init__(self, *spans: Span) -> None:
        super().__init__(spans)
        self.spans = spans


class PartialFile(io.RawIOBase):
    """A file of `size` bytes of which only `present` are there. Reading others raises
    BytesMissing.
    """

    def __init__(self, descriptor: int, size: int, present: Spans) -> None:
        self._descriptor = descriptor
        self.size = size
        self._present = present
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, relative to the start, the current position or the end; the new one."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer than `size` only at the end of the file. Raises BytesMissing."""
        start = min(self._position, self.size)
        end = self.size if size < 0 else min(start + size, self.size)
        if self._present.missing((start, end)):
            raise BytesMissing((start, min(max(end, start + _READ_AHEAD), self.size)))
        data = os.pread(self._descriptor, end - start, start)
        self._position = start + len(data)
        return data

    def require(self, *spans: Span) -> None:
        """Raises BytesMissing with those of the spans that are not complete."""
        missing = [span for span in spans if self._present.missing(span)]
        if missing:
            raise BytesMissing(*missing)


@dataclass(frozen=True, slots=True)
class Jpeg2000Outline:
    """The headers of a JPEG2000 file and where its tile-parts are."""

    layout: Jp2Layout
    assembler: Assembler

    @property
    def levels(self) -> tuple[Dimensions, ...]:
        """The dimensions of the levels that the reader offers."""
        return self.layout.header.levels


@dataclass(frozen=True, slots=True)
class TiffOutline:
    """The directories of a pyramid TIFF, and the dimensions of its levels."""

    picture: TiffPicture
    levels: tuple[Dimensions, ...]


SourceOutline = Jpeg2000Outline | TiffOutline


@dataclass(frozen=True, slots=True)
class NeededBytes:
    """Bytes of a source."""

    spans: tuple[Span, ...]


def read_outline(file: PartialFile) -> SourceOutline | None:
    """What the headers say, or None if only the whole file is usable. Raises BytesMissing."""
    file.seek(0)
    try:
        name = sniff(file.read(HEAD_BYTES))
        if name == "jpeg2000":
            return _jpeg2000_outline(file)
        return _tiff_outline(file) if name == "tiff" else None
    except (Unprocessable, struct.error, ValueError):
        return None


def needed_bytes(outline: SourceOutline, recipe: Recipe, file: PartialFile) -> NeededBytes | None:
    """What the recipe needs, or None if that cannot be computed. Raises BytesMissing."""
    if outline.levels[0] != recipe.dimensions:
        return None
    match outline:
        case Jpeg2000Outline(layout, assembler):
            n, region = region_to_read(recipe, layout.header.levels)
            reduction, area = decoded_area(layout, n, region)
            return _jpeg2000_bytes(file, assembler, layout, area, reduction)
        case TiffOutline(picture, levels):
            n, (left, top, width, height) = region_to_read(recipe, levels)
            level = picture.levels[n].directory
            columns = left // level.tile[0], -(-(left + width) // level.tile[0])
            rows = top // level.tile[1], -(-(top + height) // level.tile[1])
            spans = _tile_spans(file, level, columns, rows)
            return None if spans is None else NeededBytes((*picture.spans, *spans))


def _jpeg2000_outline(file: PartialFile) -> Jpeg2000Outline:
    layout = parse_layout(cast("BinaryIO", file), by_parts=True, max_parts=_MAX_PARTS_READ)
    return Jpeg2000Outline(layout, Assembler(layout))


def _jpeg2000_bytes(
    file: PartialFile, assembler: Assembler, layout: Jp2Layout, area: Area, reduction: int
) -> NeededBytes | None:
    try:
        first = list(_read_first(assembler, layout, area, reduction))
        if sum(end - start for start, end in first) * _LARGEST_SHARE > file.size:
            return None
        file.require(*first)
        assembly = assembler.assemble(cast("BinaryIO", file), area, reduction)
    except (Unprocessable, UnsafeParts):
        return None
    spans = [
        (piece.start, piece.start + piece.length)
        for piece in assembly.pieces
        if isinstance(piece, FileSpan)
    ]
    is_small = sum(end - start for start, end in spans) * _LARGEST_SHARE <= file.size
    return NeededBytes((*first, *spans)) if is_small else None


def _read_first(
    assembler: Assembler, layout: Jp2Layout, area: Area, reduction: int
) -> Iterator[Span]:
    """The tile-parts that are needed whole, and of the others the headers, so that all of them are
    fetched at the same time.
    """
    for tile in layout.stream.tiles_of(area):
        if assembler.selects_packets(tile):
            for part in layout.index.parts.get(tile, []):
                yield part.start, min(part.end, part.start + _HEADER_BYTES)
        else:
            for part in assembler.parts_of_tile(tile, reduction):
                yield part.start, part.end


def _tiff_outline(file: PartialFile) -> TiffOutline | None:
    file.seek(0)
    picture = parse_picture(cast("BinaryIO", file), inspect_tiles=False)
    is_bounded = all(end <= file.size for _, end in picture.spans)
    if (
        not is_bounded
        or not picture.random_access
        or picture.pages >= MAX_DIRECTORIES
        or not all(_lists_all_tiles(level.directory) for level in picture.levels)
    ):
        return None
    return TiffOutline(picture, tuple(level.dimensions for level in picture.levels))


def _lists_all_tiles(level: Directory) -> bool:
    """True if each tile is stored as one piece, and all are listed."""
    if min(level.tile) < _SMALLEST_TILE or min(level.dimensions) < 1:
        return False
    count = _tiles_across(level) * -(-level.dimensions[1] // level.tile[1])
    return level.offsets.count == level.sizes.count == count


def _tiles_across(level: Directory) -> int:
    return -(-level.dimensions[0] // level.tile[0])


def _tile_spans(
    file: PartialFile, level: Directory, columns: Span, rows: Span
) -> list[Span] | None:
    """Where the tiles of these columns and rows are; None if one is outside the file."""
    spans: list[Span] = []
    for row in range(*rows):
        first, count = row * _tiles_across(level) + columns[0], columns[1] - columns[0]
        starts = _read_values(file, level.offsets, first, count)
        sizes = _read_values(file, level.sizes, first, count)
        spans += [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return spans if all(end <= file.size for _, end in spans) else None


def _read_values(file: PartialFile, values: TagValues, first: int, count: int) -> tuple[int, ...]:
    step = struct.calcsize(values.code)
    file.seek(values.offset + first * step)
    data = file.read(count * step)
    return struct.unpack(f"{values.code[0]}{count}{values.code[1]}", data)
