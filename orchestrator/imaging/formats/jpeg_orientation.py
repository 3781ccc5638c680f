"""Changes the EXIF orientation of a JPEG file without touching its pixels or other metadata."""

from __future__ import annotations

import struct
from typing import Literal

from orchestrator.errors import Damaged

_EXIF = b"Exif\0\0"
_ORIENTATION, _SHORT = 0x0112, 3
_ENTRY_BYTES = 12
_CLOCKWISE = {1: 6, 6: 3, 3: 8, 8: 1, 2: 7, 7: 4, 4: 5, 5: 2}
"""The orientation of a picture of each orientation after a quarter turn clockwise."""
_DAMAGED = "The metadata of the JPEG file is damaged."


def turned(orientation: int, quarters: int) -> int:
    """The orientation after so many quarter turns clockwise."""
    for _ in range(quarters % 4):
        orientation = _CLOCKWISE.get(orientation, 6)
    return orientation


def with_orientation(body: bytes, orientation: int) -> bytes:
    """The JPEG file `body` with this EXIF orientation, 1 to 8. Raises Damaged."""
    start, end = _find_exif(body)
    if start == end:
        order: Literal["<", ">"] = ">"
        tiff = b"MM\0*" + struct.pack(">IHI", 8, 0, 0)
    else:
        tiff = body[start + 4 + len(_EXIF) : end]
        order = "<" if tiff[:2] == b"II" else ">"
    try:
        tiff = _with_tag(tiff, order, orientation)
    except struct.error as error:
        raise Damaged(_DAMAGED) from error
    length = len(_EXIF) + len(tiff) + 2
    if length > 0xFFFF:
        raise Damaged("The metadata of the JPEG file is too large to be changed.")
    segment = b"\xff\xe1" + struct.pack(">H", length) + _EXIF + tiff
    return body[:start] + segment + body[end:]


def _find_exif(body: bytes) -> tuple[int, int]:
    """(start, end) of the segment with EXIF; twice the place for one if there is none."""
    position, place = 2, 2
    while body[position : position + 1] == b"\xff" and position + 4 <= len(body):
        marker = body[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA or 0xD0 <= marker <= 0xD9:
            break
        end = position + 2 + int.from_bytes(body[position + 2 : position + 4], "big")
        if marker == 0xE1 and body[position + 4 : position + 4 + len(_EXIF)] == _EXIF:
            return position, end
        if marker == 0xE0 and position == place:  # JFIF stays first
            place = end
        position = end
    return place, place


def _with_tag(tiff: bytes, order: str, orientation: int) -> bytes:
    """The TIFF structure of EXIF with the orientation. Raises struct.error."""
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (number,) = struct.unpack_from(f"{order}H", tiff, first)
    begin = first + 2
    entry = struct.pack(f"{order}HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    tags = [
        struct.unpack_from(f"{order}H", tiff, begin + n * _ENTRY_BYTES)[0] for n in range(number)
    ]
    if _ORIENTATION in tags:
        at = begin + tags.index(_ORIENTATION) * _ENTRY_BYTES
        return tiff[:at] + entry + tiff[at + _ENTRY_BYTES :]
    # A new first directory at the end: no other offset changes.
    entries = [
        tiff[begin + n * _ENTRY_BYTES : begin + (n + 1) * _ENTRY_BYTES] for n in range(number)
    ]
    place = sum(tag < _ORIENTATION for tag in tags)
    entries.insert(place, entry)
    following = tiff[begin + number * _ENTRY_BYTES :][:4].ljust(4, b"\0")
    tiff += b"\0" * (len(tiff) % 2)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following
    return tiff[:4] + struct.pack(f"{order}I", len(tiff)) + tiff[8:] + directory
