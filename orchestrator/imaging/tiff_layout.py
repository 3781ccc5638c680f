"""The layout of a TIFF, read from its directories: which images are tiled, and which are reductions
of the first one. No pixel is decoded.

libvips 8.14 does not report whether a TIFF is tiled. Everything is bounded: the number of
directories and entries, and offsets inside the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.imaging.intervals import Span
from orchestrator.model import Dimensions

MAX_DIRECTORIES = 64
_MAX_ENTRIES = 512
_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 256, 257, 259, 262
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _JPEG_TABLES = 330, 347
_NUMBER_TAGS = frozenset(
    (_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS)
)
_ARRAY_TAGS = frozenset((_TILE_OFFSETS, _TILE_BYTES, _JPEG_TABLES))
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
"""Size in bytes of one value of each TIFF type."""


class TiffLayoutError(ValueError):
    """The directories cannot be followed."""


@dataclass(frozen=True, slots=True)
class TagValues:
    """Offset in the file of the `count` values of a tag, each packed as `code` (of `struct`)."""

    code: str = "<B"
    count: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """One image of the file: dimensions, tile dimensions ((0, 0) if it has strips), compression.

    Also the offsets of its sub-directories, its tiles and the shared tables of its JPEG tiles.
    """

    dimensions: Dimensions
    tile: Dimensions
    children: tuple[int, ...] = ()
    compression: int = 0
    photometric: int = 0
    offsets: TagValues = TagValues()
    sizes: TagValues = TagValues()
    tables: TagValues = TagValues()
    spans: tuple[Span, ...] = ()
    """The bytes of the directory and of the values of all its tags."""


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """`levels` begins with page 1 and continues while each image is tiled and half as large as the
    previous one, rounded up or down.
    """

    levels: tuple[Directory, ...]
    subifds: bool
    pages: int
    spans: tuple[Span, ...] = ()
    """The bytes of all directories, including those that are no level."""


def read_layout(path: Path) -> TiffLayout:
    """The layout of the file at `path`. Raises TiffLayoutError if it has no readable directory,
    OSError.
    """
    with path.open("rb") as file:
        return parse_layout(file)


def parse_layout(file: BinaryIO) -> TiffLayout:
    """The layout of an open file. Raises TiffLayoutError, OSError."""
    reader = _DirectoryReader(file)
    pages = list(reader.read_chain())
    first = pages[0]
    children = [reader.read_directory(offset)[0] for offset in first.children]
    levels = [first]
    for candidate in children or pages[1:]:
        if (
            not first.tile[0]
            or not candidate.tile[0]
            or not _is_half(candidate.dimensions, levels[-1].dimensions)
        ):
            break
        levels.append(candidate)
    spans = tuple(span for directory in (*pages, *children) for span in directory.spans)
    return TiffLayout(tuple(levels), bool(children), len(pages), spans)


def _is_half(small: Dimensions, large: Dimensions) -> bool:
    return all(b // 2 <= a <= -(-b // 2) or a == b == 1 for a, b in zip(small, large, strict=True))


class _DirectoryReader:
    """Follows offsets in one file. The length of every read is checked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = file.read(16)
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        if not self._order or len(head) < 8:
            raise TiffLayoutError("no TIFF header")
        (magic,) = struct.unpack(self._order + "H", head[2:4])
        self._big = magic == 43
        if magic not in (42, 43) or (self._big and len(head) < 16):
            raise TiffLayoutError("no TIFF header")
        self._first = struct.unpack(
            self._order + ("Q" if self._big else "I"), head[8:16] if self._big else head[4:8]
        )[0]

    def read_chain(self) -> Iterator[Directory]:
        """The main directories in order, from 1 to MAX_DIRECTORIES. A loop ends the chain."""
        offset, seen = self._first, set[int]()
        while offset and offset not in seen and len(seen) < MAX_DIRECTORIES:
            seen.add(offset)
            try:
                directory, offset = self.read_directory(offset)
            except TiffLayoutError:
                if len(seen) == 1:
                    raise
                return
            yield directory
        if not seen:
            raise TiffLayoutError("no directory")

    def read_directory(self, offset: int) -> tuple[Directory, int]:
        """(the directory at `offset`, the offset of the next one or 0)."""
        (count,) = self._read(offset, "Q" if self._big else "H")
        if not 0 < count <= _MAX_ENTRIES:
            raise TiffLayoutError("invalid number of entries")
        step, first = (20, offset + 8) if self._big else (12, offset + 2)
        values: dict[int, tuple[int, ...]] = {}
        arrays: dict[int, TagValues] = {}
        spans = [(offset, first + count * step + (8 if self._big else 4))]
        for n in range(count):
            entry = first + n * step
            tag, kind, number = self._read(entry, "HHQ" if self._big else "HHI")
            spans += self._find_external_values(entry, _TYPE_BYTES.get(kind, 0) * number)
            if tag in _NUMBER_TAGS:
                values[tag] = self._read_values(entry, kind, number)
            elif tag in _ARRAY_TAGS:
                arrays[tag] = self._locate_values(entry, kind, number)
        (following,) = self._read(first + count * step, "Q" if self._big else "I")
        one = {tag: numbers[0] for tag, numbers in values.items() if numbers}
        directory = Directory(
            dimensions=(one.get(_WIDTH, 0), one.get(_HEIGHT, 0)),
            tile=(one.get(_TILE_WIDTH, 0), one.get(_TILE_HEIGHT, 0)),
            children=values.get(_SUB_IFDS, ()),
            compression=one.get(_COMPRESSION, 0),
            photometric=one.get(_PHOTOMETRIC, 0),
            offsets=arrays.get(_TILE_OFFSETS, TagValues()),
            sizes=arrays.get(_TILE_BYTES, TagValues()),
            tables=arrays.get(_JPEG_TABLES, TagValues()),
            spans=tuple(spans),
        )
        return directory, following

    def _read_values(self, entry: int, kind: int, number: int) -> tuple[int, ...]:
        if number > MAX_DIRECTORIES:
            raise TiffLayoutError("too many values")
        located = self._locate_values(entry, kind, number)
        return self._read(located.offset, located.code[1:] * number)

    def _locate_values(self, entry: int, kind: int, number: int) -> TagValues:
        code = _TYPE_CODES.get(kind)
        if code is None:
            raise TiffLayoutError("tag of an unexpected type")
        external = self._find_external_values(entry, struct.calcsize(self._order + code) * number)
        offset = external[0][0] if external else entry + (12 if self._big else 8)
        return TagValues(self._order + code, number, offset)

    def _find_external_values(self, entry: int, size: int) -> list[Span]:
        """The span of the values of a tag, `size` bytes; [] if they fit into the entry."""
        room, field = (8, entry + 12) if self._big else (4, entry + 8)
        if size <= room:
            return []
        (start,) = self._read(field, "Q" if self._big else "I")
        return [(start, start + size)]

    def _read(self, offset: int, layout: str) -> tuple[int, ...]:
        layout = self._order + layout
        size = struct.calcsize(layout)
        if not 0 <= offset < 2**62:
            raise TiffLayoutError("offset outside the file")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:
            raise TiffLayoutError("the file is incomplete")
        return struct.unpack(layout, data)
