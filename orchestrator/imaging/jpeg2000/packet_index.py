"""Where each packet of one tile is, from the packet lengths in its headers (PLT, ISO/IEC 15444-1,
A.7.3).

The lengths are used only if they account for every byte of the tile and for every packet that the
tile must have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.imaging.jpeg2000.codestream import Area, Codestream
from orchestrator.imaging.jpeg2000.coding_style import PLT, CodingStyle
from orchestrator.imaging.jpeg2000.packet_order import TilePackets
from orchestrator.imaging.jpeg2000.part_headers import PartHeader
from orchestrator.imaging.jpeg2000.pieces import FileSpan, Piece

_LONGEST_NUMBER = 5
"""Bytes of a packet length with 32 bits."""


class PacketIndex:
    """The packets of one tile: their precincts, and their places in the file."""

    def __init__(
        self, packets: TilePackets, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Made by `read_packet_index`."""
        self._packets = packets
        self._starts, self._lengths = starts, lengths

    @property
    def kept_bytes(self) -> int:
        """Memory that the index takes."""
        return 4 * self._starts.nbytes

    def surroundings(self, area: Area) -> Area:
        """See `TilePackets.surroundings`."""
        return self._packets.surroundings(area)

    def select(
        self,
        area: Area,
        reduction: int,
        empty: bytes,
        *,
        within: Area | None = None,
        is_reduced: bool = False,
    ) -> Iterator[Piece]:
        """The packets that are needed to decode `area` at `reduction`, with an `empty` packet in
        the place of each other one. `within` surroundings of the area, no others;
        `is_reduced`: none of a resolution that the reduction leaves out.
        """
        packets, order = self._packets, self._packets.order
        needed = packets.needed(area, reduction)[order]
        starts, ends = self._starts, self._starts + self._lengths
        if within is not None or is_reduced:
            inside = packets.inside(within, reduction if is_reduced else 0)[order]
            needed, starts, ends = needed[inside], starts[inside], ends[inside]
        follows = (needed[1:] == needed[:-1]) & (~needed[1:] | (starts[1:] == ends[:-1]))
        first = np.flatnonzero(np.concatenate(([True], ~follows)))
        last = np.append(first[1:], len(needed)) - 1
        rows = zip(
            needed[first].tolist(),
            starts[first].tolist(),
            ends[last].tolist(),
            (last - first + 1).tolist(),
            strict=True,
        )
        for is_needed, start, end, count in rows:
            yield FileSpan(start, end - start) if is_needed else empty * count


def read_packet_index(
    stream: Codestream, style: CodingStyle, tile: int, headers: Sequence[PartHeader]
) -> PacketIndex | None:
    """The packets of `tile`, whose tile-parts have these `headers`. None if their lengths are not
    there or not right.
    """
    starts, lengths = [], []
    try:
        for header in headers:
            found = _parse_lengths(
                b"".join(body[1:] for marker, body in header.segments if marker == PLT)
            )
            if found.sum() != header.end - header.data:
                return None
            starts.append(header.data + np.cumsum(found) - found)
            lengths.append(found)
        packets = TilePackets(stream, style, tile)
    except ValueError:
        return None
    index = PacketIndex(packets, np.concatenate(starts), np.concatenate(lengths))
    return index if sum(map(len, lengths)) == len(packets.order) else None


def _parse_lengths(body: bytes) -> NDArray[np.int64]:
    """Numbers of seven bits in each byte, the highest first; a byte below 128 ends a number. Raises
    ValueError.
    """
    digits = np.frombuffer(body, np.uint8).astype(np.int64)
    ends = np.flatnonzero(digits < 128)
    if len(digits) and (not len(ends) or ends[-1] != len(digits) - 1):
        raise ValueError("the last packet length is cut")
    sizes = np.diff(ends, prepend=-1)
    if not len(sizes):
        return sizes
    if sizes.max() > _LONGEST_NUMBER:
        raise ValueError("a packet length is too long")
    places = np.repeat(ends, sizes) - np.arange(len(digits))
    numbers: NDArray[np.int64] = np.add.reduceat((digits & 127) << 7 * places, ends - sizes + 1)
    return numbers
