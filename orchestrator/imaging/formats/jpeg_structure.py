"""What the markers of a JPEG file say: how it is coded, and whether its end marker is missing.

No pixel is decoded. Everything is bounded: the number of segments, and the bytes that are searched.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.formats.bounded_read import read_at_most

END = b"\xff\xd9"
_SOS, _EOI, _JPEG_LS = 0xDA, 0xD9, 0xF7
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_FRAMES = frozenset((*range(0xC0, 0xD0), _JPEG_LS)) - {0xC4, 0xC8, 0xCC}
_READABLE_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_LONELY = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a segment."""
_MAX_SEGMENTS = 4096
_MAX_REPAIRED_BYTES = 256 * 1024**2
_CHUNK_BYTES = 64 * 1024
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker in entropy-coded data, other than a restart marker."""
_LAST_COEFFICIENT = 63
_ADVICE = "Convert it to an 8-bit JPEG, PNG or TIFF."


@dataclass(frozen=True, slots=True)
class Frame:
    """How a JPEG is coded: the marker of its frame, bits of a sample, (width, height) in pixels,
    identifiers of its components, and the offset of its first scan in bytes.
    """

    marker: int
    bits: int
    dimensions: tuple[int, int]
    components: bytes
    scan: int


def read_frame(file: BinaryIO) -> Frame | None:
    """The frame of an open JPEG file; None if its segments end before the first scan."""
    frame: tuple[int, int, tuple[int, int], bytes] | None = None
    position = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF or marker in _LONELY:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            frame = _parse_frame(marker, file.read(6 + 3 * 255))
        if marker in (_SOS, _EOI):
            return Frame(*frame, position) if frame and marker == _SOS else None
        position += 2 + int.from_bytes(head[2:], "big")
    return None


def _parse_frame(marker: int, body: bytes) -> tuple[int, int, tuple[int, int], bytes] | None:
    if len(body) < 6:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    return marker, bits, (width, height), body[6 : 6 + 3 * components : 3]


def check_is_readable(frame: Frame) -> None:
    """Raises Unsupported, which names the property, for a coding that no library here reads."""
    if frame.marker == _JPEG_LS:
        raise Unsupported(f"JPEG-LS files are not supported. {_ADVICE}")
    if frame.marker in (0xC3, 0xCB):
        raise Unsupported(f"Lossless JPEG files are not supported. {_ADVICE}")
    if frame.marker not in _READABLE_FRAMES:
        raise Unsupported(f"Hierarchical JPEG files are not supported. {_ADVICE}")
    if frame.bits != 8:
        raise Unsupported(f"JPEG files with {frame.bits}-bit samples are not supported. {_ADVICE}")
    if len(frame.components) not in (1, 3, 4):
        count = len(frame.components)
        raise Unsupported(f"JPEG files with {count} components are not supported. {_ADVICE}")


def complete(path: Path) -> bytes | None:
    """The bytes of a JPEG that lacks its end marker, with that marker; None if it has one.

    Raises Damaged if whole scans are missing, Unsupported for a coding that is not read, OSError.
    """
    with path.open("rb") as file:
        frame = read_frame(file)
        if frame is None:
            return None  # libvips reports what is wrong
        check_is_readable(frame)
        size = file.seek(0, 2)
        if _has_end(file, frame.scan, size) or size > _MAX_REPAIRED_BYTES:
            return None
        file.seek(0)
        body = read_at_most(file, _MAX_REPAIRED_BYTES)
    body = body.removesuffix(b"\xff") + END
    if not _has_all_scans(frame, body):
        raise Damaged("The image file is incomplete.")
    return body


def _has_end(file: BinaryIO, start: int, size: int) -> bool:
    """True if an end marker follows `start`. The end of the file is searched first, where it is in
    nearly all files.
    """
    file.seek(max(start, size - 2))
    if file.read(2) == END:
        return True
    at, following = size, b""
    while at > start:
        first = max(start, at - _CHUNK_BYTES)
        file.seek(first)
        chunk = file.read(at - first)
        if END in chunk + following:
            return True
        at, following = first, chunk[:1]
    return False


def _has_all_scans(frame: Frame, body: bytes) -> bool:
    """True if each component has all its coefficients in full precision. A progressive file that
    ends between two scans would be shown blurred, without an error.
    """
    last = _LAST_COEFFICIENT if frame.marker in _PROGRESSIVE else 0
    missing = {(part, n) for part in frame.components for n in range(last + 1)}
    for scan in _scans(body, frame.scan):
        count = scan[0]
        first, end, precision = scan[1 + 2 * count :][:3]
        if precision & 15 == 0:
            missing -= {
                (part, n) for part in scan[1 : 1 + 2 * count : 2] for n in range(first, end + 1)
            }
    return not missing


def _scans(body: bytes, position: int) -> Iterator[bytes]:
    """The parameters of each scan from `position`: number of components, two bytes for each, first
    and last coefficient, precision.
    """
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(body, position)
        if found is None or body[found.start() + 1] == _EOI or found.end() + 2 > len(body):
            return
        (length,) = struct.unpack_from(">H", body, found.end())
        if body[found.start() + 1] == _SOS:
            parameters = body[found.end() + 2 : found.end() + length]
            if not parameters or len(parameters) < 4 + 2 * parameters[0]:
                return
            yield parameters
        position = found.end() + length
