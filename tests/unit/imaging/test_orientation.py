"""Which way up a picture is: EXIF, else XMP; in HEIF and AVIF only the properties of the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from orchestrator.imaging import FASTEST
from orchestrator.imaging.formats.image_metadata import orientation_of_xmp
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures
from tests.support.metadata import H, W, avif, exif_of, save_pattern, xmp_packet

CASES: dict[str, tuple[dict[str, bytes], int]] = {
    "nothing": ({}, 1),
    "EXIF 6": ({"exif": exif_of(6)}, 6),
    "EXIF 0": ({"exif": exif_of(0)}, 1),
    "EXIF 9": ({"exif": exif_of(9)}, 1),
    "XMP 6": ({"xmp": xmp_packet(6)}, 6),
    "XMP 3, EXIF without": ({"xmp": xmp_packet(3), "exif": exif_of(None)}, 3),
    "EXIF 1 before XMP 6": ({"xmp": xmp_packet(6), "exif": exif_of(1)}, 1),
    "EXIF 8 before XMP 6": ({"xmp": xmp_packet(6), "exif": exif_of(8)}, 8),
    "EXIF 0 before XMP 6": ({"xmp": xmp_packet(6), "exif": exif_of(0)}, 1),
    "XMP 9": ({"xmp": xmp_packet(9)}, 1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_is_turned_as_exif_says_or_else_as_xmp_says(
    pool: ImagingPool, tmp_path: Path, kind: str, name: str
) -> None:
    metadata, orientation = CASES[name]
    path, plain = tmp_path / "a", tmp_path / "plain"
    save_pattern(path, kind, **metadata)
    save_pattern(plain, kind)
    probe = await pool.probe(path)
    assert probe.orientation == orientation
    assert probe.dimensions == ((H, W) if orientation >= 5 else (W, H))
    turned = {1: 0, 6: 3, 8: 1, 3: 2}[orientation]
    expected = np.rot90(
        decode(await pool.render(a_recipe(plain, await pool.probe(plain)))), k=turned
    )
    assert (decode(await pool.render(a_recipe(path, probe))) == expected).all()
    source = await pool.convert(path, tmp_path / "source.tif", FASTEST)
    assert source.dimensions == probe.dimensions
    assert source.orientation == 1


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def _raw_profile(exif: bytes) -> bytes:
    """EXIF as ImageMagick writes it into text."""
    return b"\nexif\n%8d\n" % len(exif) + exif.hex().encode() + b"\n"


_EXIF_8 = exif_of(8).removeprefix(b"Exif\x00\x00")
_RAW = b"Raw profile type exif\x00"
_ADOBE = b"XML:com.adobe.xmp\x00"
LATE_CHUNKS = {
    "EXIF": (_chunk(b"eXIf", _EXIF_8), 8),
    "EXIF as text": (_chunk(b"tEXt", _RAW + _raw_profile(exif_of(6))), 6),
    "EXIF as compressed text": (
        _chunk(b"zTXt", _RAW + b"\x00" + zlib.compress(_raw_profile(exif_of(8)))), 8),
    "XMP": (_chunk(b"iTXt", _ADOBE + b"\x00\x00\x00\x00" + xmp_packet(6)), 6),
    "compressed XMP": (
        _chunk(b"iTXt", _ADOBE + b"\x01\x00\x00\x00" + zlib.compress(xmp_packet(6))), 6),
    "XMP before EXIF": (
        _chunk(b"iTXt", _ADOBE + b"\x00\x00\x00\x00" + xmp_packet(6))
        + _chunk(b"eXIf", _EXIF_8), 8),
    "broken EXIF": (_chunk(b"eXIf", b"MM\x00*\xff\xff\xff\xff"), 1),
    "broken text": (_chunk(b"zTXt", _RAW + b"\x00no data"), 1),
    "odd digits": (_chunk(b"tEXt", _RAW + b"\nexif\n 3\n4d4\n"), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LATE_CHUNKS)
async def test_a_png_is_turned_as_chunks_after_its_pixels_say(
    pool: ImagingPool, tmp_path: Path, name: str
) -> None:
    chunks, orientation = LATE_CHUNKS[name]
    path = tmp_path / "a.png"
    save_pattern(path, "PNG")
    body = path.read_bytes()
    end = body.rindex(b"IEND") - 4
    path.write_bytes(body[:end] + chunks + body[end:])
    probe = await pool.probe(path)
    assert probe.orientation == orientation
    expected = np.rot90(pictures.pattern(W, H), k={1: 0, 6: 3, 8: 1}[orientation])
    assert (decode(await pool.render(a_recipe(path, probe))) == expected).all()


@pytest.mark.parametrize(
    ("tag", "xmp", "orientation"),
    [(None, 6, 6), (None, None, 1), (1, 6, 1), (8, 6, 8), (0, 6, 1), (None, 9, 1)],
    ids=["XMP", "nothing", "tag 1", "tag 8", "tag 0", "XMP 9"],
)
async def test_a_tiff_is_turned_as_its_tag_says_or_else_as_xmp_says(
    pool: ImagingPool, tmp_path: Path, tag: int | None, xmp: int | None, orientation: int
) -> None:
    tags = [(700, 1, len(xmp_packet(xmp)), xmp_packet(xmp), True)] if xmp else []
    tags += [(274, 3, 1, tag, True)] if tag is not None else []
    path = tmp_path / "a.tif"
    shown = pictures.pattern(W, H)
    tifffile.imwrite(path, shown, photometric="rgb", extratags=tags, metadata=None)
    probe = await pool.probe(path)
    assert probe.orientation == orientation
    expected = np.rot90(shown, k={1: 0, 6: 3, 8: 1}[orientation])
    assert (decode(await pool.render(a_recipe(path, probe))) == expected).all()
    assert (await pool.convert(path, tmp_path / "s.tif", FASTEST)).dimensions == probe.dimensions


@pytest.mark.parametrize(
    ("packet", "orientation"),
    [
        pytest.param(xmp_packet(6), 6, id="attribute"),
        pytest.param(xmp_packet(6, "t"), 6, id="another prefix"),
        pytest.param(xmp_packet(6).decode().encode("utf-16"), 6, id="UTF-16"),
        pytest.param(b"<tiff:Orientation>8</tiff:Orientation>", 8, id="element"),
        pytest.param(b"<tiff:Orientation> 8 </tiff:Orientation>", 8, id="blanks"),
        pytest.param(b"tiff:Orientation='3'", 3, id="apostrophes"),
        pytest.param(b"tiff:Orientation='0'", None, id="0"),
        pytest.param(b"tiff:Orientation='12'", None, id="12"),
        pytest.param(b"exif:Orientation='3'", None, id="another name"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"<" * 5_000_000, None, id="long"),
        pytest.param(b"xmlns:a = " * 400_000, None, id="many names"),
        pytest.param(b"tiff:Orientation" + b" " * 4_000_000, None, id="many blanks"),
    ],
)
def test_the_orientation_of_an_xmp_packet_is_read_as_text(
    packet: bytes, orientation: int | None
) -> None:
    assert orientation_of_xmp(packet) == orientation


def _replace_exif_rotation(body: bytes) -> bytes:
    """An AVIF whose rotation property is another property that decoders skip."""
    assert body.count(b"irot") == 1
    at = body.index(b"ipma")
    (length,) = struct.unpack_from(">I", body, at - 4)
    changed = bytearray(body.replace(b"irot", b"free"))
    associations = changed[at + 8 : at - 4 + length]
    changed[at + 8 : at - 4 + length] = bytes(
        value & 0x7F if value > 0x80 else value for value in associations
    )
    return bytes(changed)


async def test_exif_does_not_turn_an_avif_and_a_rotation_property_does(
    pool: ImagingPool, tmp_path: Path
) -> None:
    turned = avif(tmp_path / "turned.avif", exif=exif_of(6))
    assert b"irot" in turned.read_bytes()
    facts = await pool.probe(turned)
    assert (facts.dimensions, facts.orientation) == ((H, W), 1)
    upright = tmp_path / "upright.avif"
    upright.write_bytes(_replace_exif_rotation(turned.read_bytes()))
    facts = await pool.probe(upright)
    assert (facts.dimensions, facts.orientation) == ((W, H), 1)
