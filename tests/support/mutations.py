"""Damages picture files at random but repeatably: the same seed gives the same file.

Each mutation is of one kind: changed bytes, a cut, a length field, a field of dimensions, two boxes
or chunks exchanged, a part repeated or zeroed. PNG checksums are corrected, so that a decoder reads
further than the first chunk.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.samples import list_samples

Mutation = Callable[[bytearray, random.Random], None]
_EDGE_VALUES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_HEADER = 2048
_SUPERBOXES = (b"jp2h", b"meta", b"iprp", b"ipco", b"moov")


def mutate(body: bytes, seed: int, size: tuple[int, int] = (0, 0)) -> bytes:
    """A damaged form of `body`, whose picture has `size` (width, height)."""
    chance = random.Random(seed)
    mutated = bytearray(body)
    kinds: list[Mutation] = [
        _flip,
        _flip_header,
        _cut,
        _zero,
        _repeat,
        _set_number,
        _swap,
        _resize_box,
    ]
    if size[0]:
        kinds.append(lambda data, chance: _change_dimension(data, chance, size))
    chance.choice(kinds)(mutated, chance)
    return bytes(_with_checksums(mutated))


def damaged_samples(folder: Path, seeds: Iterable[int]) -> list[Path]:
    """A damaged form of one of the sample pictures for each seed, written into `folder`. Half of
    them are JPEG2000, which our own binding reads.
    """
    samples = list_samples()
    codestreams = [sample for sample in samples if sample.path.suffix == ".jp2"]
    files = []
    for seed in seeds:
        kind = codestreams if seed % 2 else samples
        sample = kind[seed * 7 % len(kind)]
        path = folder / f"{seed}-{sample.path.name}"
        path.write_bytes(mutate(sample.path.read_bytes(), seed + 9000))
        files.append(path)
    return files


def _flip(data: bytearray, chance: random.Random) -> None:
    """Change 1 to 20 bytes anywhere."""
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)


def _flip_header(data: bytearray, chance: random.Random) -> None:
    """Change 1 to 4 bytes near the beginning."""
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(min(_HEADER, len(data)))] = chance.randrange(256)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(8, max(9, len(data))) :]


def _zero(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randint(4, 600))
    data[start:end] = bytes(end - start)


def _repeat(data: bytearray, chance: random.Random) -> None:
    """Insert a part of the file again at another place."""
    start = chance.randrange(len(data))
    part = data[start : start + chance.randint(4, 400)]
    at = chance.randrange(len(data))
    data[at:at] = part


def _set_number(data: bytearray, chance: random.Random) -> None:
    """Write an edge value over a number of 1, 2 or 4 bytes in the header."""
    width, order = chance.choice((1, 2, 4)), chance.choice(("big", "little"))
    at = chance.randrange(max(1, min(_HEADER, len(data)) - width))
    value = chance.choice(_EDGE_VALUES) % 256**width
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


def _change_dimension(data: bytearray, chance: random.Random, size: tuple[int, int]) -> None:
    """Write another number where the file has its width or height."""
    places = [
        (at, width, order)
        for side in size
        for width in (2, 4)
        for order in ("big", "little")
        for at in _find_all(data, side.to_bytes(width, order))  # type: ignore[arg-type]
    ]
    if not places:
        _set_number(data, chance)
        return
    at, width, order = chance.choice(places)
    old = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
    new = chance.choice((0, 1, old - 1, old + 1, old // 2, old * 2, old + 256, 4001, 65535))
    data[at : at + width] = (new % 256**width).to_bytes(width, order)  # type: ignore[arg-type]


def _swap(data: bytearray, chance: random.Random) -> None:
    """Exchange two parts: two boxes of an ISO file, else two blocks of equal length."""
    boxes = _boxes(data, 0, len(data))
    if len(boxes) >= 2:
        (a, a_end), (b, b_end) = sorted(chance.sample(boxes, 2))
        if a_end <= b:
            data[a:b_end] = data[b:b_end] + data[a_end:b] + data[a:a_end]
            return
    length = chance.randint(2, max(3, min(200, len(data) // 3)))
    a = chance.randrange(max(1, len(data) // 2 - length))
    b = chance.randrange(len(data) // 2, max(len(data) // 2 + 1, len(data) - length))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]


def _resize_box(data: bytearray, chance: random.Random) -> None:
    """Change the length field of a box of an ISO file, else any number of the header."""
    boxes = _boxes(data, 0, len(data))
    if not boxes:
        _set_number(data, chance)
        return
    start, end = chance.choice(boxes)
    length = chance.choice((0, 1, 7, 8, end - start - 1, end - start + 1, 2 * (end - start), 2**31))
    data[start : start + 4] = struct.pack(">I", max(0, length))


def _boxes(data: bytearray, start: int, end: int) -> list[tuple[int, int]]:
    """(start, end) of each box and of the boxes in it, if the file is made of boxes."""
    found: list[tuple[int, int]] = []
    while start + 8 <= end:
        length = int.from_bytes(data[start : start + 4], "big")
        kind = bytes(data[start + 4 : start + 8])
        if length < 8 or start + length > end or not all(32 <= each < 127 for each in kind):
            break
        found.append((start, start + length))
        if kind in _SUPERBOXES:
            inside = start + 8 + (4 if kind == b"meta" else 0)
            found += _boxes(data, inside, start + length)
        start += length
    return found


def _find_all(data: bytearray, number: bytes) -> list[int]:
    found, at = [], data.find(number)
    while at >= 0 and len(found) < 20:
        found.append(at)
        at = data.find(number, at + 1)
    return found


def _with_checksums(data: bytearray) -> bytearray:
    """The file with right checksums of its chunks if it is a PNG."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data
