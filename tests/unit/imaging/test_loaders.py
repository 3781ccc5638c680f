"""What opened pictures declare: orientation, profile, transparency. Codings that are not read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from orchestrator.errors import Damaged, TooLarge, Unprocessable, Unsupported
from orchestrator.imaging import FASTEST, gif_frame, loaders, vips
from orchestrator.imaging.image_metadata import orientation_of_xmp
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.render import render
from tests.golden.comparison import a_recipe, decode
from tests.support import icc, pictures
from tests.support.gif_files import PALETTE, Frame, gif

W, H = 64, 48


def _xmp(orientation: int, prefix: str = "tiff") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:{prefix}="http://ns.adobe.com/tiff/1.0/" {prefix}:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def _exif(orientation: int | None) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if orientation is not None:
        exif[0x0112] = orientation
    return exif.tobytes()


def _save(path: Path, kind: str, **metadata: Any) -> None:
    xmp = metadata.get("xmp")
    if kind == "PNG" and xmp is not None:
        information = PngInfo()
        information.add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode())
        metadata["pnginfo"] = information
    lossless = {"lossless": True} if kind == "WEBP" else {}
    pictures.picture(W, H).save(path, kind, **lossless, **metadata)


CASES: dict[str, tuple[dict[str, bytes], int]] = {
    "nothing": ({}, 1),
    "EXIF 6": ({"exif": _exif(6)}, 6),
    "EXIF 0": ({"exif": _exif(0)}, 1),
    "EXIF 9": ({"exif": _exif(9)}, 1),
    "XMP 6": ({"xmp": _xmp(6)}, 6),
    "XMP 3, EXIF without": ({"xmp": _xmp(3), "exif": _exif(None)}, 3),
    "EXIF 1 before XMP 6": ({"xmp": _xmp(6), "exif": _exif(1)}, 1),
    "EXIF 8 before XMP 6": ({"xmp": _xmp(6), "exif": _exif(8)}, 8),
    "EXIF 0 before XMP 6": ({"xmp": _xmp(6), "exif": _exif(0)}, 1),
    "XMP 9": ({"xmp": _xmp(9)}, 1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_is_turned_as_exif_says_or_else_as_xmp_says(
    pool: ImagingPool, tmp_path: Path, kind: str, name: str
) -> None:
    metadata, orientation = CASES[name]
    path, plain = tmp_path / "a", tmp_path / "plain"
    _save(path, kind, **metadata)
    _save(plain, kind)
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


_EXIF_8 = _exif(8).removeprefix(b"Exif\x00\x00")
_RAW = b"Raw profile type exif\x00"
LATE_CHUNKS = {
    "EXIF": (_chunk(b"eXIf", _EXIF_8), 8),
    "EXIF as text": (_chunk(b"tEXt", _RAW + _raw_profile(_exif(6))), 6),
    "EXIF as compressed text": (
        _chunk(b"zTXt", _RAW + b"\x00" + zlib.compress(_raw_profile(_exif(8)))), 8),
    "XMP": (_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + _xmp(6)), 6),
    "compressed XMP": (
        _chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(_xmp(6))), 6),
    "XMP before EXIF": (
        _chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + _xmp(6))
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
    _save(path, "PNG")
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
    tags = [(700, 1, len(_xmp(xmp)), _xmp(xmp), True)] if xmp else []
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
        pytest.param(_xmp(6), 6, id="attribute"),
        pytest.param(_xmp(6, "t"), 6, id="another prefix"),
        pytest.param(_xmp(6).decode().encode("utf-16"), 6, id="UTF-16"),
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


def _avif(path: Path, **metadata: Any) -> Path:
    pictures.picture(W, H).save(path, "AVIF", quality=95, subsampling="4:4:4", **metadata)
    return path


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
    turned = _avif(tmp_path / "turned.avif", exif=_exif(6))
    assert b"irot" in turned.read_bytes()
    facts = await pool.probe(turned)
    assert (facts.dimensions, facts.orientation) == ((H, W), 1)
    upright = tmp_path / "upright.avif"
    upright.write_bytes(_replace_exif_rotation(turned.read_bytes()))
    facts = await pool.probe(upright)
    assert (facts.dimensions, facts.orientation) == ((W, H), 1)


@pytest.fixture
def heif_here() -> Iterator[None]:
    """Allows the loader of HEIF in this process, which only decode workers may use."""
    pyvips.operation_block_set("VipsForeignLoadHeif", False)
    yield
    pyvips.operation_block_set("VipsForeignLoadHeif", True)


P3 = icc.rgb(icc.P3, icc.srgb_curve())


@pytest.mark.usefixtures("heif_here")
@pytest.mark.parametrize("budget", [64 * 1024**2, 1], ids=["kept in memory", "sequential"])
def test_the_profile_of_an_avif_outlives_its_loader(tmp_path: Path, budget: int) -> None:
    path = tmp_path / "p3.avif"
    red = Image.new("RGB", (W, H), (200, 40, 30))
    red.save(path, "AVIF", quality=100, subsampling="4:4:4", icc_profile=P3)
    open_pictures = OpenPictures(budget, sandboxed=True)
    image = loaders.load_picture("heif", str(path)).copy_memory()
    assert image.get("icc-profile-data") == P3
    for size in ((W, H), (W // 2, H // 2), (9, 7)):
        for _ in range(3):
            recipe = _recipe(path, size)
            actual = decode(render(recipe, open_pictures)).astype(int)
            assert np.abs(actual[2, 2] - (218, 0, 4)).max() <= 8, "not converted from Display P3"


def _recipe(path: Path, size: tuple[int, int]) -> Any:
    return a_recipe(path, probe(path, Bounds(10**8, 10)), size=size)


async def test_an_avif_in_display_p3_has_the_same_colours_before_and_after_conversion(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = _avif(tmp_path / "p3.avif", icc_profile=P3)
    facts = await pool.probe(path)
    bodies = {await pool.render(a_recipe(path, facts)) for _ in range(4)}
    assert len(bodies) == 1
    await pool.convert(path, tmp_path / "source.tif", FASTEST)
    source = await pool.probe(tmp_path / "source.tif")
    converted = decode(await pool.render(a_recipe(tmp_path / "source.tif", source)))
    before = decode(bodies.pop())
    assert np.abs(converted.astype(int) - before).mean() < 3
    plain = _avif(tmp_path / "plain.avif")
    without = decode(await pool.render(a_recipe(plain, await pool.probe(plain))))
    assert np.abs(without.astype(int) - before).max() > 20


GIFS = {
    "frame in the middle": [Frame(5, 6, 10, 8, 2)],
    "with a transparent colour": [Frame(5, 6, 10, 8, 2, transparent=3)],
    "background is transparent": [Frame(5, 6, 10, 8, 2, transparent=1)],
    "disposed to the background": [Frame(5, 6, 10, 8, 2, disposal=2), Frame(0, 0, 40, 30, 3)],
    "disposed to the frame before": [Frame(5, 6, 10, 8, 2, disposal=3), Frame(0, 0, 40, 30, 3)],
    "whole canvas": [Frame(0, 0, 40, 30, 2), Frame(5, 6, 10, 8, 3)],
    "lower right corner": [Frame(30, 22, 10, 8, 2)],
}


@pytest.mark.parametrize("name", GIFS)
async def test_the_area_that_the_first_frame_of_a_gif_leaves_free_is_transparent(
    pool: ImagingPool, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(gif(40, 30, *GIFS[name]))
    with Image.open(path) as reference:
        assert reference.size == (40, 30)
        shown = np.asarray(reference.convert("RGB"))
    left, top, width, height = GIFS[name][0][:4]
    covered = np.zeros((30, 40), bool)
    covered[top : top + height, left : left + width] = True
    probe = await pool.probe(path)
    for _ in range(2):
        pixels = decode(await pool.render(a_recipe(path, probe)))
        assert (pixels[covered][:, :3] == shown[covered]).all()
        assert tuple(pixels[covered][0, :3]) == PALETTE[2]
        if covered.all():
            continue
        assert (pixels[..., 3] == np.where(covered, 255, 0)).all()
        jpeg = decode(await pool.render(a_recipe(path, probe, format="jpg")))
        assert (jpeg[~covered].min(axis=1) > 100).mean() > 0.9
        assert jpeg[29 if top < 20 else 0, 39 if left < 20 else 0].min() > 245


# The bits of colour 2 may look like an end code.
@pytest.mark.parametrize("colour", [1, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 40])
async def test_a_gif_whose_data_has_no_end_code_shows_its_last_pixels(
    pool: ImagingPool, tmp_path: Path, width: int, colour: int
) -> None:
    path = tmp_path / "a.gif"
    for end_code in (False, True):
        path.write_bytes(gif(width, 3, Frame(0, 0, width, 3, colour), end_code=end_code))
        frame = gif_frame.read_first_frame(path)
        assert frame is not None
        assert frame.has_end_code is end_code
        actual = decode(await pool.render(a_recipe(path, await pool.probe(path))))
        assert (actual == PALETTE[colour]).all()


def _with_brands(body: bytes, *brands: bytes) -> bytes:
    """The HEIF file with other brands, in a list of the same length."""
    size = int.from_bytes(body[:4], "big")
    room = (size - 16) // 4 - (len(brands) - 1)
    listed = brands[0] + body[12:16] + b"".join(brands[1:]) + brands[-1] * room
    assert len(listed) == size - 8
    return body[:8] + listed + body[size:]


@pytest.mark.parametrize("brand", [b"mif2", b"msf1", b"miaf", b"avio", b"avis", b"1pic", b"MA1B"])
async def test_a_heif_of_any_picture_brand_is_read(
    pool: ImagingPool, tmp_path: Path, brand: bytes
) -> None:
    plain = _avif(tmp_path / "plain.avif")
    path = tmp_path / "other"
    path.write_bytes(_with_brands(plain.read_bytes(), brand, brand))
    expected = await pool.render(a_recipe(plain, await pool.probe(plain)))
    assert await pool.render(a_recipe(path, await pool.probe(path))) == expected
    path.write_bytes(_with_brands(plain.read_bytes(), b"xxxx", brand))
    assert (await pool.probe(path)).format == "heif"


def _with_rotation_first(body: bytes) -> bytes:
    """An AVIF that lists its last property (the rotation) first, as cameras of Sony do."""
    at = body.index(b"ipma") + 4
    count = body[at + 10]
    listed = body[at + 11 : at + 11 + count]
    return body[: at + 11] + listed[-1:] + listed[:-1] + body[at + 11 + count :]


@pytest.mark.parametrize("orientation", [6, 8])
async def test_a_heif_that_lists_its_rotation_before_its_dimensions_is_turned(
    pool: ImagingPool, tmp_path: Path, orientation: int
) -> None:
    plain = _avif(tmp_path / "plain.avif", exif=_exif(orientation))
    path = tmp_path / "sony.avif"
    path.write_bytes(_with_rotation_first(plain.read_bytes()))
    assert path.read_bytes() != plain.read_bytes()
    facts = await pool.probe(path)
    assert facts.dimensions == (H, W)
    expected = await pool.render(a_recipe(plain, await pool.probe(plain)))
    assert await pool.render(a_recipe(path, facts)) == expected


@pytest.mark.parametrize(
    ("coding", "words"),
    [(b"avc1", "AVC"), (b"vvc1", "VVC"), (b"j2k1", "JPEG2000"), (b"unci", "uncompressed")],
)
async def test_a_heif_coding_that_is_not_read_is_unsupported_and_named(
    pool: ImagingPool, tmp_path: Path, coding: bytes, words: str
) -> None:
    body = _avif(tmp_path / "plain.avif").read_bytes()
    (tmp_path / "other").write_bytes(body.replace(b"av01", coding))
    with pytest.raises(Unsupported, match=words):
        await pool.probe(tmp_path / "other")


async def test_a_heif_without_a_still_picture_is_unsupported(
    pool: ImagingPool, tmp_path: Path
) -> None:
    body = _avif(tmp_path / "plain.avif").read_bytes()
    (tmp_path / "other").write_bytes(body.replace(b"meta", b"moov", 1))
    with pytest.raises(Unsupported, match="sequence"):
        await pool.probe(tmp_path / "other")


async def test_damaged_boxes_of_a_heif_are_refused(pool: ImagingPool, tmp_path: Path) -> None:
    body = _avif(tmp_path / "plain.avif").read_bytes()
    meta = body.index(b"meta")
    for at in range(meta - 4, meta + 200, 7):
        for value in (0, 0xFF):
            changed = body[:at] + bytes((value,)) * 4 + body[at + 4 :]
            (tmp_path / "other").write_bytes(changed)
            try:
                facts = await pool.probe(tmp_path / "other")
                await pool.render(a_recipe(tmp_path / "other", facts))
            except (Unprocessable, TooLarge):
                continue


def _encrypted_pdf(path: Path) -> Path:
    """A PDF that needs a password: the keys of its encryption fit none that is empty."""
    body = pictures.pdf(path, 100, 50).read_bytes()
    rules = (
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32 + b"> >>"
    )
    identity = b" /ID [<00><00>] /Encrypt " + rules
    path.write_bytes(body.replace(b"/Root 1 0 R", b"/Root 1 0 R" + identity))
    return path


async def test_a_pdf_with_a_password_is_unsupported_and_a_broken_one_is_damaged(
    pool: ImagingPool, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match="password"):
        await pool.probe(_encrypted_pdf(tmp_path / "a.pdf"))
    broken = tmp_path / "b.pdf"
    broken.write_bytes(b"%PDF-1.4\n" + b"no objects " * 20)
    with pytest.raises(Damaged):
        await pool.probe(broken)


KEPT: dict[str, Callable[[Path], Any]] = {
    "jpeg": lambda path: _save(path, "JPEG", exif=_exif(6), xmp=_xmp(6), icc_profile=P3),
    "png": lambda path: _save(path, "PNG", exif=_exif(6), icc_profile=P3),
    "webp": lambda path: _save(path, "WEBP", exif=_exif(6), xmp=_xmp(6), icc_profile=P3),
    "heif": lambda path: _avif(path, icc_profile=P3),
}


@pytest.mark.usefixtures("heif_here")
@pytest.mark.parametrize("name", KEPT)
def test_an_opened_image_keeps_its_profile_and_orientation_only(tmp_path: Path, name: Any) -> None:
    KEPT[name](tmp_path / "a")
    image = vips.load(name, str(tmp_path / "a"), access="sequential")
    kept = image.copy_memory()
    del image
    assert kept.get("icc-profile-data") == P3
    assert kept.get("orientation") == (1 if name == "heif" else 6)
    assert not {"exif-data", "xmp-data", "iptc-data"} & {*kept.get_fields()}
    stream = io.BytesIO(kept.pngsave_buffer())
    assert Image.open(stream).info.get("icc_profile") == P3


# libpng drops such a profile itself.
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "AVIF"])
async def test_a_profile_that_does_not_fit_is_noted_in_the_probe(
    pool: ImagingPool, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a"
    pictures.picture(W, H).save(path, kind, icc_profile=icc.gray(1.8))
    assert (await pool.probe(path)).notes == (
        "The embedded colour profile (GRAY) does not fit the channels. It is ignored.",
    )
    pictures.picture(W, H).save(path, kind, icc_profile=P3)
    assert (await pool.probe(path)).notes == ()
    pictures.picture(W, H).save(path, kind)
    assert (await pool.probe(path)).notes == ()
