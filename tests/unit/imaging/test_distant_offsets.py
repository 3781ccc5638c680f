"""Offsets and lengths of 64 bits in a file, beyond what a file system can seek to."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.pool import ImagingPool
from tests.support.samples import FOLDER

DISTANCES = [2**44 - 1, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("distance", DISTANCES)
async def test_a_tiff_with_its_directory_beyond_every_file_is_damaged(
    pool: ImagingPool, tmp_path: Path, distance: int
) -> None:
    path = tmp_path / "far.tif"
    path.write_bytes(b"II+\0\x08\0\0\0" + struct.pack("<Q", distance) + bytes(64))
    with pytest.raises(Damaged):
        await pool.probe(path)


@pytest.mark.parametrize("distance", DISTANCES)
async def test_a_jpeg2000_with_a_box_longer_than_every_file_is_damaged(
    pool: ImagingPool, tmp_path: Path, distance: int
) -> None:
    body = (FOLDER / "k_rgba.jp2").read_bytes()
    start = body.index(b"jp2h") - 4
    long_box = struct.pack(">I4sQ", 1, b"free", distance)
    path = tmp_path / "far.jp2"
    path.write_bytes(body[:start] + long_box + body[start:])
    with pytest.raises(Damaged):
        await pool.probe(path)


@pytest.mark.parametrize("distance", DISTANCES)
async def test_a_heif_with_a_box_longer_than_every_file_is_refused(
    pool: ImagingPool, tmp_path: Path, distance: int
) -> None:
    body = (FOLDER / "h_heic.heic").read_bytes()
    start = body.index(b"meta") - 4
    path = tmp_path / "far.heic"
    path.write_bytes(body[:start] + struct.pack(">I4sQ", 1, b"free", distance) + body[start:])
    with pytest.raises((Damaged, Unsupported)):
        await pool.probe(path)
