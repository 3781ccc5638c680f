"""Computes which bytes of a source one recipe needs, from those bytes of it that are present.

Of a JPEG2000 file whose tile-parts are sorted by resolution this is a prefix. Of a tiled pyramid
TIFF it is the directories, and the tiles of one level that the region touches. Everything that a
header says is checked. Where the answer is None, the whole file must be read.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, cast

from orchestrator.errors import Unprocessable
from orchestrator.imaging.formats.file_type import HEAD_BYTES, sniff
from orchestrator.imaging.intervals import Span, Spans
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Header, parse_header
from orchestrator.imaging.jpeg2000.tile_parts import (
    END_OF_CODESTREAM,
    SOT,
    parse_tile_part_list,
    prefix_lengths,
    walk_tile_parts,
)
from orchestrator.imaging.picture_headers import coarsest_level
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.render import region_to_read
from orchestrator.imaging.tiff.directories import MAX_DIRECTORIES, Directory, TagValues
from orchestrator.imaging.tiff.pyramid import TiffPicture, parse_picture
from orchestrator.model import Dimensions

_SMALLEST_TILE = 16
_START_OF_TILE_PART = struct.pack(">H", SOT)


class BytesMissing(Exception):
    """These bytes of the file must be fetched first. Only `routing` handles this error."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.span = span


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
        """Set the position, relative to the start or to the current position; the new position."""
        self._position = offset if whence == os.SEEK_SET else self._position + offset
        return self._position

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer than `size` only at the end of the file. Raises BytesMissing."""
        start = min(self._position, self.size)
        end = self.size if size < 0 else min(start + size, self.size)
        if self._present.missing((start, end)):
            raise BytesMissing((start, end))
        data = os.pread(self._descriptor, end - start, start)
        self._position = start + len(data)
        return data


@dataclass(frozen=True, slots=True)
class Jpeg2000Outline:
    """How many bytes of a JPEG2000 file each reduction n = 0, 1 ... needs, and its header."""

    prefix_lengths: tuple[int, ...]
    header: Jp2Header

    @property
    def levels(self) -> tuple[Dimensions, ...]:
        """The dimensions of the levels that the reader offers."""
        return self.header.levels


@dataclass(frozen=True, slots=True)
class TiffOutline:
    """The directories of a pyramid TIFF, and the dimensions of its levels."""

    picture: TiffPicture
    levels: tuple[Dimensions, ...]


SourceOutline = Jpeg2000Outline | TiffOutline


@dataclass(frozen=True, slots=True)
class NeededBytes:
    """Bytes of a source. If `end` is not 0, the decoder must find an end marker at that offset."""

    spans: tuple[Span, ...]
    end: int = 0


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
        case Jpeg2000Outline(lengths, header):
            n = coarsest_level(header.levels, recipe.region, recipe.size)
            end = lengths[header.base_reduction(n)]
            return NeededBytes(((0, end),), end)
        case TiffOutline(picture, levels):
            n, (left, top, width, height) = region_to_read(recipe, levels)
            level = picture.levels[n].directory
            columns = left // level.tile[0], -(-(left + width) // level.tile[0])
            rows = top // level.tile[1], -(-(top + height) // level.tile[1])
            spans = _tile_spans(file, level, columns, rows)
            return None if spans is None else NeededBytes((*picture.spans, *spans))


def write_end_marker(descriptor: int, end: int, previous_end: int) -> None:
    """Write the end marker at `end`. If `previous_end` is not 0, an end marker is there, and the
    marker of the next tile-part is restored in its place.

    A decoder that reads the file at the same time finds one of the two markers at each offset,
    because both begin with the same byte.
    """
    os.pwrite(descriptor, END_OF_CODESTREAM, end)
    if previous_end:
        os.pwrite(descriptor, _START_OF_TILE_PART, previous_end)


def is_complete(file: BinaryIO, end: int) -> bool:
    """True if the tile-parts up to the end marker at `end` are exactly those that the header
    lists.
    """
    try:
        stream = parse_header(file).stream
        parts = [part for part in parse_tile_part_list(stream) if part.end <= end]
        walked = list(walk_tile_parts(file, stream.first_part))
        return walked == parts and file.tell() == end + len(END_OF_CODESTREAM)
    except (Unprocessable, struct.error, ValueError):
        return False


def _jpeg2000_outline(file: PartialFile) -> Jpeg2000Outline | None:
    binary = cast("BinaryIO", file)
    header = parse_header(binary)
    lengths = prefix_lengths(parse_tile_part_list(header.stream), header.stream)
    if not lengths or lengths[0] + len(END_OF_CODESTREAM) > file.size:
        return None
    return Jpeg2000Outline(lengths, header)


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
