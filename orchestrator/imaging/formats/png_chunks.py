"""The orientation that the chunks of a PNG state. libvips reads only the chunks before the pixels,
and ImageMagick writes EXIF after them or as text.

No pixel is decoded. The number of chunks and the bytes read of each are bounded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.imaging.formats.image_metadata import orientation_of_xmp

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_MAX_CHUNKS, _MAX_CHUNK_BYTES, _MAX_ENTRIES = 200_000, 4 * 1024**2, 512
_RAW_EXIF = re.compile(rb"\s*(?:exif|app1|generic profile)\s+\d+\s+([0-9a-fA-F\s]+)")
_ORIENTATION_TAG, _SHORT = 0x0112, 3


def orientation_of_png(path: Path) -> int | None:
    """The orientation (1 to 8; 1 for other numbers) that EXIF states, else the one of XMP; None if
    neither has one. Raises OSError.
    """
    of_xmp: int | None = None
    for kind, body in _read_chunks(path):
        if kind == b"eXIf":
            of_exif = orientation_of_exif(body)
        else:
            keyword, text = _read_text(kind, body)
            if keyword == b"XML:com.adobe.xmp":
                of_xmp = of_xmp or orientation_of_xmp(text)
            of_exif = _orientation_of_raw_profile(keyword, text)
        if of_exif is not None:
            return of_exif
    return of_xmp


def orientation_of_exif(body: bytes) -> int | None:
    """The orientation that EXIF states (1 to 8; 1 for other numbers); None if it states none."""
    body = body.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(body[:4])
    if order is None or len(body) < 8:
        return None
    (start,) = struct.unpack_from(order + "I", body, 4)
    if start + 2 > len(body):
        return None
    (count,) = struct.unpack_from(order + "H", body, start)
    entries = body[start + 2 : start + 2 + 12 * min(count, _MAX_ENTRIES)]
    for at in range(0, len(entries) - 11, 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", entries, at)
        if (tag, kind) == (_ORIENTATION_TAG, _SHORT):
            return int(value) if 1 <= value <= 8 else 1
    return None


def _read_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the chunks that may have EXIF or XMP."""
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return
            length = int.from_bytes(head[:4], "big")
            if (head[4:] == b"eXIf" or head[4:] in _TEXT) and length <= _MAX_CHUNK_BYTES:
                yield head[4:], file.read(length)
                file.seek(4, 1)
            else:
                file.seek(length + 4, 1)


def _read_text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """(keyword, text) of a text chunk, not compressed."""
    keyword, _, rest = body.partition(b"\x00")
    is_compressed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        is_compressed = rest[:1] == b"\x01"
        rest = rest[2:].split(b"\x00", 2)[-1]  # after the language and the translated keyword
    if is_compressed:
        try:
            rest = zlib.decompressobj().decompress(rest, _MAX_CHUNK_BYTES)
        except zlib.error:
            rest = b""
    return keyword, rest


def _orientation_of_raw_profile(keyword: bytes, text: bytes) -> int | None:
    """The orientation of EXIF that is stored as text of hexadecimal digits."""
    if keyword not in (b"Raw profile type exif", b"Raw profile type APP1"):
        return None
    found = _RAW_EXIF.match(text)
    if found is None:
        return None
    digits = b"".join(found[1].split())
    return orientation_of_exif(bytes.fromhex(digits[: len(digits) & ~1].decode()))
