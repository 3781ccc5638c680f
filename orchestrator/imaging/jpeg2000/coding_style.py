"""How the packets of a codestream are made: progression order, layers, precincts, markers in
packets (ISO/IEC 15444-1, A.6.1).

Only codestreams whose tiles and components all have the style of the main header are described. The
packets of others are not located.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.imaging.jpeg2000.codestream import CODING_BYTES, WITH_PRECINCTS, Codestream

COD, COC, PLT, POC, PPM, PPT = 0xFF52, 0xFF53, 0xFF58, 0xFF5F, 0xFF60, 0xFF61
CHANGES_PACKETS = frozenset((COD, COC, POC, PPM, PPT))
"""Markers in the header of a tile that change which packets it has, or where their headers are."""
LRCP, RLCP, RPCL, PCRL, CPRL = range(5)
_WITH_EPH = 4
_LARGEST_PRECINCT = 15


@dataclass(frozen=True, slots=True)
class CodingStyle:
    """The style of all tiles and components. `precincts` has the exponents (of the width, of the
    height) at each resolution, the lowest first.
    """

    progression: int
    layers: int
    levels: int
    precincts: tuple[tuple[int, int], ...]
    ends_headers: bool
    """True if an EPH marker follows each packet header."""

    @property
    def empty_packet(self) -> bytes:
        """A packet that adds nothing to its precinct. An SOP marker is optional, so it has none."""
        return b"\0\xff\x92" if self.ends_headers else b"\0"


def parse_coding_style(stream: Codestream) -> CodingStyle | None:
    """The style of a codestream; None if parts of it have another one, or packet headers are not in
    the packets.
    """
    bodies = [body for marker, body in stream.segments if marker == COD]
    others = CHANGES_PACKETS - {COD}
    if len(bodies) != 1 or any(marker in others for marker, _ in stream.segments):
        return None
    body = bodies[0]
    progression, layers, levels = body[1], int.from_bytes(body[2:4], "big"), body[5]
    sizes = body[CODING_BYTES:] if body[0] & WITH_PRECINCTS else b"\xff" * (levels + 1)
    precincts = tuple((size & _LARGEST_PRECINCT, size >> 4) for size in sizes)
    is_valid = progression <= CPRL and layers > 0 and len(precincts) == levels + 1
    # A precinct of one sample cannot be divided into those of the bands (B.6).
    if not is_valid or any(0 in exponents for exponents in precincts[1:]):
        return None
    return CodingStyle(progression, layers, levels, precincts, bool(body[0] & _WITH_EPH))
