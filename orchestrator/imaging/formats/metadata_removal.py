"""Removes metadata from the file of a picture without decoding it: camera, place, author, texts,
embedded previews. What is needed to show the picture stays: colour profile and orientation.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.formats.jpeg_orientation import with_orientation

_DAMAGED = "The metadata of the file is damaged, so it cannot be removed."
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PNG_REMOVED = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"))
_WEBP_REMOVED = frozenset((b"EXIF", b"XMP "))
_WEBP_FLAGS = 0x08 | 0x04
"""The bits of VP8X that announce EXIF and XMP."""
_JPEG_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""The application segments that stay, by what they begin with."""
_JPEG_COMMENT, _JPEG_SCAN, _JPEG_END = 0xFE, 0xDA, 0xD9
_GIF_HEAD_BYTES, _GIF_DESCRIPTOR_BYTES = 13, 10
_GIF_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")
_GIF_COMMENT, _GIF_TEXT, _GIF_APPLICATION = 0xFE, 0x01, 0xFF


def without_metadata(body: bytes, name: str, orientation: int) -> bytes:
    """The file `body` of the format `name` (jpeg, png, gif, webp) without metadata. `orientation`
    is that of EXIF, 1 to 8; it is kept. Raises Unsupported for other formats, Damaged.
    """
    try:
        match name:
            case "jpeg":
                return _clean_jpeg(body, orientation)
            case "png":
                return _clean_png(body, orientation)
            case "webp":
                return _clean_webp(body, orientation)
            case "gif":
                return _clean_gif(body)
    except (struct.error, IndexError) as error:
        raise Damaged(_DAMAGED) from error
    raise Unsupported(f"The metadata of {name.upper()} files cannot be removed. Send a JPEG.")


def _clean_jpeg(body: bytes, orientation: int) -> bytes:
    parts, position = [body[:2]], 2
    while True:
        while body[position] == 0xFF and body[position + 1] == 0xFF:
            position += 1
        if body[position] != 0xFF:
            raise Damaged(_DAMAGED)
        marker = body[position + 1]
        if marker == _JPEG_SCAN:
            break
        end = position + 2 + int.from_bytes(body[position + 2 : position + 4], "big")
        if end <= position + 3 or end > len(body):
            raise Damaged(_DAMAGED)
        is_metadata = 0xE0 <= marker <= 0xEF or marker == _JPEG_COMMENT
        kept = _JPEG_KEPT.get(marker, b"\0\0")
        if not is_metadata or body.startswith(kept, position + 4):
            parts.append(body[position:end])
        position = end
    cleaned = b"".join(parts) + _until_end_of_jpeg(body[position:])
    return with_orientation(cleaned, orientation) if orientation > 1 else cleaned


def _until_end_of_jpeg(coded: bytes) -> bytes:
    """The coded data without what follows the end marker: some cameras put a second picture with
    its own metadata there.
    """
    position = 2 + int.from_bytes(coded[2:4], "big")
    while (position := coded.find(b"\xff", position)) >= 0:
        marker = coded[position + 1]
        if marker == _JPEG_END:
            return coded[: position + 2]
        if marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD7:
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + int.from_bytes(coded[position + 2 : position + 4], "big")
    return coded


def _clean_png(body: bytes, orientation: int) -> bytes:
    parts = [_PNG_HEAD]
    for name, start, end in _png_chunks(body):
        if name not in _PNG_REMOVED:
            parts.append(body[start:end])
        if name == b"IHDR" and orientation > 1:
            parts.append(_png_orientation(orientation))
    return b"".join(parts)


def _png_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = len(_PNG_HEAD)
    while position < len(body):
        (length,) = struct.unpack_from(">I", body, position)
        name, end = body[position + 4 : position + 8], position + 12 + length
        if end > len(body):
            raise Damaged(_DAMAGED)
        yield name, position, end
        if name == b"IEND":
            return
        position = end


def _png_orientation(orientation: int) -> bytes:
    content = b"eXIf" + exif_of(orientation)
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def exif_of(orientation: int) -> bytes:
    """EXIF with an orientation and nothing else, without the header that JPEG needs."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def _clean_webp(body: bytes, orientation: int) -> bytes:
    parts, position = [], 12
    while position + 8 <= len(body):
        name = body[position : position + 4]
        (length,) = struct.unpack_from("<I", body, position + 4)
        end = position + 8 + length + length % 2
        chunk = body[position:end]
        if name == b"VP8X":
            flags = chunk[8] & ~_WEBP_FLAGS | (0x08 if orientation > 1 else 0)
            chunk = chunk[:8] + bytes((flags,)) + chunk[9:]
        if name not in _WEBP_REMOVED:
            parts.append(chunk)
        position = end
    if orientation > 1:  # only EXIF says so, and a file with EXIF has VP8X
        exif = exif_of(orientation)
        parts.append(b"EXIF" + struct.pack("<I", len(exif)) + exif)
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _clean_gif(body: bytes) -> bytes:
    position = _GIF_HEAD_BYTES + _colours(body[10])
    parts = [body[:position]]
    while body[position] != 0x3B:
        start = position
        if body[position] == 0x2C:
            position += _GIF_DESCRIPTOR_BYTES + _colours(body[position + 9]) + 1
        elif body[position] == 0x21:
            position += 2
        else:
            raise Damaged(_DAMAGED)
        label = body[start + 1] if body[start] == 0x21 else -1
        application = body[start + 3 : start + 14]
        while body[position]:
            position += body[position] + 1
        position += 1
        is_removed = label in (_GIF_COMMENT, _GIF_TEXT) or (
            label == _GIF_APPLICATION and application not in _GIF_KEPT
        )
        if not is_removed:
            parts.append(body[start:position])
    return b"".join(parts) + b";"


def _colours(packed: int) -> int:
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0
