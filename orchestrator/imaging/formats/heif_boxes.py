"""What the boxes of a HEIF or AVIF file say: its brands, and how its pictures are coded.

No pixel is decoded. The number of boxes and the bytes read of each are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Unsupported
from orchestrator.imaging.formats.bounded_read import read_at_most

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
_SEQUENCE = b"msf1"
"""From 1.20 on, libheif refuses a file with this brand and without a sequence (box "moov")."""
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
_TRANSFORMS = frozenset((b"irot", b"imir", b"clap"))
_HEAD_BYTES = 4096
_MAX_BOXES, _MAX_ITEMS = 256, 65_536
_MAX_OFFSET = 2**43
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


def repaired(path: Path) -> bytes | None:
    """The bytes of a file that libheif would refuse or show wrongly, changed so that it does not;
    None for any other file. All boxes keep their length, so all offsets stay right.

    - If no compatible brand is known to libheif, one of them is replaced.
    - If it says that it has a sequence and has none, the brand of sequences is replaced.
    - If properties that turn or crop a picture are listed before its dimensions (as cameras of
      Sony do), they are moved behind them: libheif applies properties in their order.

    Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        start, meta = _find_meta(file)
        brands = _repaired_brands(file, head)
        sorted_meta = _with_transforms_last(meta)
        if brands == head and sorted_meta == meta:
            return None
        file.seek(0)
        body = bytearray(read_at_most(file, _MAX_FILE_BYTES))
    body[: len(brands)] = brands
    body[start : start + len(meta)] = sorted_meta
    return bytes(body)


def _repaired_brands(file: BinaryIO, head: bytes) -> bytes:
    """The head of the file with brands that libheif opens."""
    brands = _brands(head)
    changed = bytearray(head)
    if len(brands) > 1 and _KNOWN_TO_DECODER.isdisjoint(brands[1:]):
        changed[16:20] = b"mif1"
    if _SEQUENCE in brands and not _find_box(file, b"moov")[1]:
        for number, brand in enumerate(brands):
            if brand == _SEQUENCE:
                at = 16 + 4 * (number - 1) if number else 8
                changed[at : at + 4] = b"mif1"
    return bytes(changed)


def check_is_readable(path: Path) -> None:
    """Raises Unsupported, which names the property, if the picture is coded in a way that no
    library here reads. Raises OSError.
    """
    with path.open("rb") as file:
        _, meta = _find_meta(file)
    if not meta:
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


def _find_meta(file: BinaryIO) -> tuple[int, bytes]:
    """(offset in the file, content) of the first "meta" box; (0, b"") if there is none."""
    return _find_box(file, b"meta")


def _find_box(file: BinaryIO, kind: bytes) -> tuple[int, bytes]:
    """(offset in the file, content) of the first box of this kind; (0, b"") if there is none."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        size, start = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == kind:
            file.seek(position + start)
            length = size - start if size else _MAX_META_BYTES
            return position + start, file.read(min(max(0, length), _MAX_META_BYTES))
        if not start <= size < _MAX_OFFSET:  # 0: the box continues to the end of the file
            break
        position += size
    return 0, b""


def _children(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the content of each box between two offsets in `content`."""
    for _ in range(_MAX_ITEMS):
        if position + 8 > end:
            return
        size = int.from_bytes(content[position : position + 4], "big")
        if size < 8:
            return
        yield content[position + 4 : position + 8], position + 8, min(position + size, end)
        position += size


def _find_boxes(meta: bytes, *path: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the content of each box at `path` (types from the outside), if it has at
    least 4 bytes.
    """
    spans = [(4, len(meta))]
    for wanted in path:
        spans = [
            (start, end)
            for outer in spans
            for kind, start, end in _children(meta, *outer)
            if kind == wanted
        ]
    yield from (span for span in spans if span[1] - span[0] >= 4)


def _primary_item(meta: bytes) -> int:
    """The identifier of the primary item; 0 if none is named."""
    for start, _ in _find_boxes(meta, b"pitm"):
        width = 2 if meta[start] == 0 else 4
        return int.from_bytes(meta[start + 4 : start + 4 + width], "big")
    return 0


def _item_types(meta: bytes) -> dict[int, bytes]:
    """The type of each item by its identifier."""
    found: dict[int, bytes] = {}
    for start, end in _find_boxes(meta, b"iinf"):
        entries = start + (6 if meta[start] == 0 else 8)
        for kind, at, last in _children(meta, entries, end):
            layout = {2: ">HH4s", 3: ">IH4s"}.get(meta[at]) if at < last else None
            if kind == b"infe" and layout and last - at >= 4 + struct.calcsize(layout):
                number, _, name = struct.unpack_from(layout, meta, at + 4)
                found[number] = name
    return found


def _with_transforms_last(meta: bytes) -> bytes:
    """`meta` with the properties of each item in the order that ISO/IEC 23008-12, 9.3 asks for:
    those that turn or crop after the others.
    """
    kinds: list[bytes] = []
    for span in _find_boxes(meta, b"iprp", b"ipco"):
        kinds += [kind for kind, _, _ in _children(meta, *span)]
    changed = bytearray(meta)
    for start, end in _find_boxes(meta, b"iprp", b"ipma"):
        if end - start < 8:
            continue
        id_bytes = 2 if meta[start] == 0 else 4
        width = 2 if meta[start + 3] & 1 else 1
        at = start + 8
        for _ in range(min(int.from_bytes(meta[start + 4 : start + 8], "big"), _MAX_ITEMS)):
            first = at + id_bytes + 1
            at = first + width * meta[first - 1] if first <= end else end + 1
            if at > end:
                break
            changed[first:at] = _sort_properties(meta[first:at], width, kinds)
    return bytes(changed)


def _sort_properties(listed: bytes, width: int, kinds: list[bytes]) -> bytes:
    """The associations of one item (`width` bytes each), transformations last."""
    mask = (1 << (8 * width - 1)) - 1
    each = [listed[at : at + width] for at in range(0, len(listed), width)]

    def is_transform(association: bytes) -> bool:
        number = int.from_bytes(association, "big") & mask
        return 1 <= number <= len(kinds) and kinds[number - 1] in _TRANSFORMS

    return b"".join(
        association
        for last in (False, True)
        for association in each
        if is_transform(association) is last
    )
