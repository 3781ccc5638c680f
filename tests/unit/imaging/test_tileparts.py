"""Any list of tile-parts in a header is parsed or refused."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.imaging.jpeg2000.codestream import parse_codestream
from orchestrator.imaging.jpeg2000.tile_parts import parse_tile_part_list

SIZ = struct.pack(">H8IH", 0, 1024, 1024, 0, 0, 256, 256, 0, 0, 3) + b"\x07\x01\x01" * 3
COD = bytes([0, 2, 0, 1, 0, 5, 4, 4, 0, 1])


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">HH", marker, len(body) + 2) + body


def codestream(*lists: bytes) -> io.BytesIO:
    segments = b"".join(segment(0xFF55, body) for body in lists)
    head = b"\xff\x4f" + segment(0xFF51, SIZ) + segment(0xFF52, COD) + segments
    return io.BytesIO(head + b"\xff\x90" + bytes(64))


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_list_of_tile_parts_is_parsed_or_refused(lists: list[bytes]) -> None:
    with suppress(ValueError, struct.error):
        parse_tile_part_list(parse_codestream(codestream(*lists), 0))


@pytest.mark.parametrize("entry_size", range(256))
def test_every_entry_size_of_a_list_is_parsed_or_refused(entry_size: int) -> None:
    file = codestream(bytes([0, entry_size]) + bytes(60))  # a multiple of every entry length
    if entry_size >> 4 & 3 in (1, 2):
        assert parse_tile_part_list(parse_codestream(file, 0))
    else:
        with pytest.raises(ValueError, match="no tile numbers"):
            parse_tile_part_list(parse_codestream(file, 0))
