"""Which bytes of a source one recipe needs, told from the bytes of it that are there already.

Of a JPEG2000 whose tile-parts are sorted by resolution it is a prefix, of a tiled pyramid TIFF its
directories and the tiles of one level that a region touches. Whatever a header claims is checked;
what cannot be told so is None, and then the whole file is to be read.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, cast

from orchestrator.errors import Unprocessable
from orchestrator.imaging.file_type import HEAD_BYTES, sniff
from orchestrator.imaging.intervals import Span, Spans
from orchestrator.imaging.jpeg2000.codestream import parse_codestream
from orchestrator.imaging.jpeg2000.tile_parts import END, SOT, listed, prefix_lengths, walk
from orchestrator.imaging.open_pictures import Picture, choose, halvings
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.render import area
from orchestrator.imaging.tiff_layout import (
    MAX_DIRECTORIES,
    Array,
    Directory,
    Layout,
    TiffLayoutError,
    parse_layout,
)

_SMALLEST_TILE = 16
_NEXT = struct.pack(">H", SOT)


class Absent(Exception):
    """These bytes of the file have to be fetched first; for routing only."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.span = span


class PartialFile(io.RawIOBase):
    """A file of `size` bytes of which only `filled` are there; reading others raises Absent."""

    def __init__(self, descriptor: int, size: int, filled: Spans) -> None:
        self._descriptor = descriptor
        self.size = size
        self._filled = filled
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file, from the start or from here."""
        self._at = offset if whence == os.SEEK_SET else self._at + offset
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on, fewer only at the end of the file. Raises Absent."""
        start = min(self._at, self.size)
        end = self.size if size < 0 else min(start + size, self.size)
        if self._filled.missing((start, end)):
            raise Absent((start, end))
        data = os.pread(self._descriptor, end - start, start)
        self._at = start + len(data)
        return data


@dataclass(frozen=True, slots=True)
class Prefixes:
    """How many bytes of a JPEG2000 hold what reduction n = 0, 1 ... needs, and a Picture of it."""

    lengths: tuple[int, ...]
    picture: Picture


@dataclass(frozen=True, slots=True)
class Tiles:
    """The directories of a pyramid TIFF, and a Picture of it."""

    layout: Layout
    picture: Picture


Outline = Prefixes | Tiles


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a source; `end`, if not 0, is where a decoder must find an end marker."""

    spans: tuple[Span, ...]
    end: int = 0


def read_outline(file: PartialFile) -> Outline | None:
    """What the headers say, or None if parts of the file are no use. Raises Absent."""
    file.seek(0)
    try:
        name = sniff(file.read(HEAD_BYTES))
        if name == "jpeg2000":
            return _prefixes(file)
        return _tiles(file) if name == "tiff" else None
    except (Unprocessable, TiffLayoutError, struct.error, ValueError):
        return None


def part_of(outline: Outline, recipe: Recipe, file: PartialFile) -> Part | None:
    """What the recipe needs, or None if that cannot be told. Raises Absent."""
    if outline.picture.levels[0] != recipe.dimensions:
        return None
    match outline:
        case Prefixes(lengths, picture):
            end = lengths[choose(picture, recipe.region, recipe.size)]
            return Part(((0, end),), end)
        case Tiles(layout, picture):
            n, (left, top, width, height) = area(recipe, picture)
            level = layout.levels[n]
            columns = left // level.tile[0], -(-(left + width) // level.tile[0])
            rows = top // level.tile[1], -(-(top + height) // level.tile[1])
            spans = _tile_spans(file, level, columns, rows)
            return None if spans is None else Part((*layout.places, *spans))


def seal(descriptor: int, end: int, before: int) -> None:
    """Put the end marker at `end`; where it was `before`, if not 0, the next tile-part begins.

    At every moment a decoder finds one of the two: both markers begin with the same byte.
    """
    os.pwrite(descriptor, END, end)
    if before:
        os.pwrite(descriptor, _NEXT, before)


def is_sealed(file: BinaryIO, end: int) -> bool:
    """True if up to the end marker at `end` there is what the header lists, to the byte."""
    try:
        parts = [part for part in listed(file) if part.end <= end]
        return list(walk(file, file.tell() - 2)) == parts and file.tell() == end + len(END)
    except (Unprocessable, struct.error, ValueError):
        return False


def _prefixes(file: PartialFile) -> Prefixes | None:
    binary = cast("BinaryIO", file)
    file.seek(0)
    stream = parse_codestream(binary)
    lengths = prefix_lengths(listed(binary), stream)
    if not lengths or lengths[0] + len(END) > file.size:
        return None
    levels = halvings(stream.dimensions, stream.levels)
    return Prefixes(lengths, Picture((), "", "jpeg2000", levels, lazy=True))


def _tiles(file: PartialFile) -> Tiles | None:
    file.seek(0)
    layout = parse_layout(cast("BinaryIO", file))
    bounded = all(end <= file.size for _, end in layout.places)
    if not bounded or layout.pages >= MAX_DIRECTORIES or not all(map(_is_regular, layout.levels)):
        return None
    levels = tuple(level.dimensions for level in layout.levels)
    return Tiles(layout, Picture((), "", "tiff", levels, lazy=True, layout=layout))


def _is_regular(level: Directory) -> bool:
    """True if each tile is coded as one piece, and all are listed."""
    if min(level.tile) < _SMALLEST_TILE or min(level.dimensions) < 1:
        return False
    count = _across(level) * -(-level.dimensions[1] // level.tile[1])
    return level.offsets.count == level.sizes.count == count


def _across(level: Directory) -> int:
    return -(-level.dimensions[0] // level.tile[0])


def _tile_spans(
    file: PartialFile, level: Directory, columns: Span, rows: Span
) -> list[Span] | None:
    """Where the tiles of these columns and rows are; None if one is outside the file."""
    spans: list[Span] = []
    for row in range(*rows):
        first, count = row * _across(level) + columns[0], columns[1] - columns[0]
        starts = _values(file, level.offsets, first, count)
        sizes = _values(file, level.sizes, first, count)
        spans += [(at, at + size) for at, size in zip(starts, sizes, strict=True)]
    return spans if all(end <= file.size for _, end in spans) else None


def _values(file: PartialFile, array: Array, first: int, count: int) -> tuple[int, ...]:
    step = struct.calcsize(array.code)
    file.seek(array.offset + first * step)
    data = file.read(count * step)
    return struct.unpack(f"{array.code[0]}{count}{array.code[1]}", data)
