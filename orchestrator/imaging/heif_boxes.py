"""What the boxes of a HEIF or AVIF file say: its brands, and how its pictures are coded.

No pixel is decoded. The number of boxes and the bytes read of each are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Unsupported

BRANDS = frozenset(
    (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
        *(b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"1pic", b"avif", b"avis", b"avio"),
        *(b"MA1A", b"MA1B", b"MiHE", b"MiHB", b"avci", b"avcs", b"vvic", b"jpeg", b"j2ki"),
    )
)
"""Brands of still pictures and of sequences of pictures."""
_KNOWN_TO_DECODER = frozenset((b"heic", b"heix", b"mif1", b"avif", b"jpeg"))
"""libheif 1.15 opens a file only if it lists one of these as a compatible brand."""
_DECODED = frozenset((b"hvc1", b"av01"))
_DERIVED = frozenset((b"grid", b"iden", b"iovl"))
_CODINGS = {
    b"avc1": "AVC (H.264)",
    b"vvc1": "VVC (H.266)",
    b"lhv1": "layered HEVC",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG2000",
    b"unci": "uncompressed",
}
_MAX_BOXES, _MAX_ITEMS = 256, 65_536
_MAX_META_BYTES = 8 * 1024**2
_MAX_FILE_BYTES = 512 * 1024**2
_ADVICE = "Convert it to HEIC, AVIF, JPEG, PNG or TIFF."


def has_picture_brand(head: bytes) -> bool:
    """True if a file that begins with `head` says that it is HEIF or AVIF."""
    return head[4:8] == b"ftyp" and not BRANDS.isdisjoint(_brands(head))


def _brands(head: bytes) -> tuple[bytes, ...]:
    """The major brand, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))


def with_known_brand(path: Path) -> bytes | None:
    """The bytes of the file with a compatible brand that libheif knows, if it has none; else None.
    Only the list of brands differs: it has the same length, so all offsets stay right.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        listed = _brands(head)[1:]
        if not listed or not _KNOWN_TO_DECODER.isdisjoint(listed):
            return None
        rest = file.read(_MAX_FILE_BYTES)
    return head[:16] + b"mif1" + head[20:] + rest


def check_is_readable(path: Path) -> None:
    """Raises Unsupported, which names the property, if the picture is coded in a way that no
    library here reads. Raises OSError.
    """
    with path.open("rb") as file:
        meta = _find_meta(file)
    if meta is None:
        raise Unsupported(
            f"HEIF files with a sequence and without a still picture are not supported. {_ADVICE}"
        )
    types = _item_types(meta)
    primary = types.get(_primary_item(meta), b"")
    coded = [primary] if primary not in _DERIVED else [*types.values()]
    if types and not _DECODED & {*coded}:
        names = [_CODINGS[coding] for coding in coded if coding in _CODINGS]
        if names:
            raise Unsupported(f"HEIF files with {names[0]} coding are not supported. {_ADVICE}")


def _find_meta(file: BinaryIO) -> bytes | None:
    """The content of the first "meta" box of the file; None if it has none."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return None
        size, start = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"meta":
            file.seek(position + start)
            return file.read(min(max(0, size - start) or _MAX_META_BYTES, _MAX_META_BYTES))
        if size < start:  # 0: the box continues to the end of the file
            return None
        position += size
    return None


def _children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes in `content`."""
    position = 0
    for _ in range(_MAX_ITEMS):
        if position + 8 > len(content):
            return
        size = int.from_bytes(content[position : position + 4], "big")
        if size < 8:
            return
        yield content[position + 4 : position + 8], content[position + 8 : position + size]
        position += size


def _primary_item(meta: bytes) -> int:
    """The identifier of the primary item; 0 if none is named."""
    for kind, content in _children(meta[4:]):
        if kind == b"pitm":
            return int.from_bytes(content[4 : 8 if content[:1] == b"\x01" else 6], "big")
    return 0


def _item_types(meta: bytes) -> dict[int, bytes]:
    """The type of each item by its identifier."""
    found: dict[int, bytes] = {}
    for kind, content in _children(meta[4:]):
        if kind != b"iinf":
            continue
        for entry, item in _children(content[8 if content[:1] != b"\x00" else 6 :]):
            if entry == b"infe" and item[:1] in (b"\x02", b"\x03") and len(item) >= 14:
                layout = ">HH4s" if item[0] == 2 else ">IH4s"
                number, _, name = struct.unpack_from(layout, item, 4)
                found[number] = name
    return found
