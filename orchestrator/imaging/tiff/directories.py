"""The directories of a TIFF file, as numbers. No pixel is decoded, and nothing is interpreted.

Everything is bounded: the number of directories, of entries and of values, and offsets inside the
file. Where a tag occurs twice the first one counts, as in libtiff.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.imaging.intervals import Span
from orchestrator.model import Dimensions

MAX_DIRECTORIES = 64
LAST_OFFSET = 2**43
"""8 TiB. File systems refuse to seek to much larger offsets: ext4 beyond 16 TiB."""
_MAX_ENTRIES = 512
_MAX_VALUES = 64
"""Values that are read of a tag, except of those that list strips and tiles."""
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS = 254, 255, 256, 257, 258
_COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _ORIENTATION = 259, 262, 273, 274
_SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _INK_SET, _EXTRA_SAMPLES, _FORMAT, _LOWEST, _HIGHEST = 330, 332, 338, 339, 340, 341
_JPEG_TABLES, _JPEG_OFFSET, _JPEG_BYTES, _SUBSAMPLING = 347, 513, 514, 530
_XMP, _DEPTH, _TILE_DEPTH, _PROFILE = 700, 32997, 32998, 34675
_NUMBER_TAGS = frozenset((_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION))
_NUMBER_TAGS |= {_PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT}
_NUMBER_TAGS |= {_SUB_IFDS, _INK_SET, _EXTRA_SAMPLES, _FORMAT, _LOWEST, _HIGHEST, _SUBSAMPLING}
_NUMBER_TAGS |= {_JPEG_OFFSET, _JPEG_BYTES, _DEPTH, _TILE_DEPTH}
_REAL_TAGS = frozenset((_LOWEST, _HIGHEST))
_ARRAY_TAGS = frozenset(
    (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES, _JPEG_TABLES, _PROFILE)
)
_XMP_TYPES = frozenset(((_XMP, 1), (_XMP, 7)))
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_REAL_CODES = {6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 17: "q"}
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
class SampleTags:
    """What the tags say about samples: one entry of `bits` and `formats` for each of the first 64
    samples of a pixel. `photometric` is -1 if the tag is absent.
    """

    photometric: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    count: int
    is_planar: bool
    extras: tuple[int, ...] = ()
    ink_set: int = 1


@dataclass(frozen=True, slots=True)
class Directory:
    """One image of the file: dimensions, tile dimensions ((0, 0) if it has strips), compression.

    Also the offsets of its sub-directories, its tiles or strips, and the shared tables of its JPEG
    tiles.
    """

    dimensions: Dimensions
    tile: Dimensions
    samples: SampleTags
    compression: int = 1
    orientation: int = 0
    """1 to 8, or 0 if the tag is absent. Other values are 1."""
    is_reduced: bool = False
    is_mask: bool = False
    rows_per_strip: int = 0
    depth: int = 1
    subsampling: Dimensions = (2, 2)
    children: tuple[int, ...] = ()
    offsets: TagValues = TagValues()
    sizes: TagValues = TagValues()
    tables: TagValues = TagValues()
    profile: TagValues = TagValues()
    xmp: TagValues = TagValues()
    old_jpeg: Span = (0, 0)
    """The span of the JPEG stream that old-style JPEG compression refers to."""
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    """The range of the samples that the file declares (SMinSampleValue, SMaxSampleValue)."""
    spans: tuple[Span, ...] = ()
    """The bytes of the directory and of the values of all its tags."""

    @property
    def is_tiled(self) -> bool:
        """True for tiles, False for strips."""
        return self.tile != (0, 0)


class DirectoryReader:
    """Follows offsets in one file. The length of every read is checked."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises TiffLayoutError, OSError."""
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
        """The main directories in order, from 1 to MAX_DIRECTORIES. A loop ends the chain. Raises
        TiffLayoutError, OSError.
        """
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
        """(the directory at `offset`, the offset of the next one or 0). A file may end before the
        offset of the next one: then there is none. Raises TiffLayoutError, OSError.
        """
        (count,) = self._unpack(offset, "Q" if self._big else "H")
        if not 0 < count <= _MAX_ENTRIES:
            raise TiffLayoutError("invalid number of entries")
        step, first = (20, offset + 8) if self._big else (12, offset + 2)
        end = first + count * step
        width = 8 if self._big else 4
        body = self._read(first, count * step + width)
        if len(body) < count * step:
            raise TiffLayoutError("the file is incomplete")
        numbers: dict[int, tuple[float, ...]] = {}
        arrays: dict[int, TagValues] = {}
        spans: list[Span] = [(offset, end + width)]
        for n, (tag, kind, number) in enumerate(self._entries(body, count, step)):
            external = self._external_span(body, n * step, _TYPE_BYTES.get(kind, 0) * number)
            if external:
                if external[1] > LAST_OFFSET:
                    raise TiffLayoutError("offset outside the file")
                spans.append(external)
            place = external[0] if external else first + n * step + (12 if self._big else 8)
            if tag in _NUMBER_TAGS and tag not in numbers:
                numbers[tag] = self._read_numbers(tag, kind, number, place)
            elif (tag in _ARRAY_TAGS and tag not in arrays) or (tag, kind) in _XMP_TYPES:
                arrays[tag] = TagValues(self._order + _code(tag, kind), number, place)
        following = body[count * step :]
        (after,) = (
            struct.unpack(self._order + ("Q" if self._big else "I"), following)
            if len(following) == width
            else (0,)
        )
        return _describe(numbers, arrays, tuple(spans)), after

    def _entries(self, body: bytes, count: int, step: int) -> Iterator[tuple[int, int, int]]:
        """(tag, type, number of values) of each entry."""
        layout = struct.Struct(self._order + ("HHQ" if self._big else "HHI"))
        for n in range(count):
            yield layout.unpack_from(body, n * step)

    def _external_span(self, body: bytes, entry: int, size: int) -> Span | None:
        """Where the values of a tag are, `size` bytes; None if they fit into the entry."""
        room, field, code = (8, entry + 12, "Q") if self._big else (4, entry + 8, "I")
        if size <= room:
            return None
        (start,) = struct.unpack_from(self._order + code, body, field)
        return start, start + size

    def _read_numbers(self, tag: int, kind: int, number: int, place: int) -> tuple[float, ...]:
        if tag in _REAL_TAGS and kind not in (*_INTEGER_CODES, *_REAL_CODES):
            return ()  # a declared range is optional
        return self._unpack(place, _code(tag, kind) * min(number, _MAX_VALUES))

    def _unpack(self, offset: int, layout: str) -> tuple[int, ...]:
        layout = self._order + layout
        data = self._read(offset, struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            raise TiffLayoutError("the file is incomplete")
        return struct.unpack(layout, data)

    def _read(self, offset: int, size: int) -> bytes:
        if not 0 <= offset <= LAST_OFFSET:
            raise TiffLayoutError("offset outside the file")
        self._file.seek(offset)
        return self._file.read(size)


def _code(tag: int, kind: int) -> str:
    """The `struct` code of one value. Raises TiffLayoutError if the tag cannot have the type."""
    code = _INTEGER_CODES.get(kind) or (_REAL_CODES.get(kind) if tag in _REAL_TAGS else None)
    if code is None:
        raise TiffLayoutError("tag of an unexpected type")
    return code


def _describe(
    numbers: Mapping[int, tuple[float, ...]],
    arrays: Mapping[int, TagValues],
    spans: tuple[Span, ...],
) -> Directory:
    def one(tag: int, default: int = 0) -> int:
        values = numbers.get(tag)
        return int(values[0]) if values else default

    def several(tag: int) -> tuple[int, ...]:
        return tuple(int(value) for value in numbers.get(tag, ()))

    is_tiled = _TILE_WIDTH in numbers
    count = max(1, one(_SAMPLES, 1))
    nothing = TagValues()
    orientation = one(_ORIENTATION)
    horizontal, vertical = (*several(_SUBSAMPLING), 2, 2)[:2]
    return Directory(
        dimensions=(one(_WIDTH), one(_HEIGHT)),
        tile=(one(_TILE_WIDTH), one(_TILE_HEIGHT)) if is_tiled else (0, 0),
        samples=SampleTags(
            photometric=one(_PHOTOMETRIC, -1),
            bits=(several(_BITS) or (1,))[:count],
            formats=(several(_FORMAT) or (1,))[:count],
            count=count,
            is_planar=one(_PLANAR, 1) == 2 and count > 1,
            extras=several(_EXTRA_SAMPLES),
            ink_set=one(_INK_SET, 1),
        ),
        compression=one(_COMPRESSION, 1),
        orientation=orientation if 1 <= orientation <= 8 else int(_ORIENTATION in numbers),
        is_reduced=bool(one(_SUBFILE) & 1) or one(_OLD_SUBFILE) == 2,
        is_mask=bool(one(_SUBFILE) & 4),
        rows_per_strip=min(one(_ROWS, 2**32 - 1), one(_HEIGHT)),
        depth=max(one(_DEPTH, 1), one(_TILE_DEPTH, 1)),
        subsampling=(horizontal, vertical),
        children=several(_SUB_IFDS),
        offsets=arrays.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, nothing),
        sizes=arrays.get(_TILE_BYTES if is_tiled else _STRIP_BYTES, nothing),
        tables=arrays.get(_JPEG_TABLES, nothing),
        profile=arrays.get(_PROFILE, nothing),
        xmp=arrays.get(_XMP, nothing),
        old_jpeg=(one(_JPEG_OFFSET), one(_JPEG_OFFSET) + one(_JPEG_BYTES)),
        lowest=numbers.get(_LOWEST, ()),
        highest=numbers.get(_HIGHEST, ()),
        spans=spans,
    )
