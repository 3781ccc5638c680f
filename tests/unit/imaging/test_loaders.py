"""What opened pictures declare: profile, depth, transparency. Codings that are not read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from orchestrator.errors import Damaged, TooLarge, Unprocessable, Unsupported
from orchestrator.imaging import FASTEST, vips
from orchestrator.imaging.formats import gif_frame, loaders
from orchestrator.imaging.open_pictures import OpenPictures
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.probe import Bounds, probe
from orchestrator.imaging.render import render
from tests.golden.comparison import a_recipe, decode
from tests.support import icc, pictures
from tests.support.gif_files import PALETTE, Frame, gif
from tests.support.metadata import H, W, avif, exif_of, save_pattern, xmp_packet

PICTURES = Path(__file__).parents[2] / "pictures"


@pytest.fixture
def heif_here() -> Iterator[None]:
    """Allows the loader of HEIF in this process, which only decode workers may use."""
    pyvips.operation_block_set("VipsForeignLoadHeif", False)
    yield
    pyvips.operation_block_set("VipsForeignLoadHeif", True)


async def test_a_heif_of_more_than_8_bits_has_the_full_range(
    pool: ImagingPool, tmp_path: Path
) -> None:
    sample = PICTURES / "m_heic10.heic"
    body = await pool.render(a_recipe(sample, await pool.probe(sample)))
    pixels = pyvips.Image.pngload_buffer(body).numpy()
    assert (pixels == (pixels >> 6 << 6 | pixels >> 10)).all()
    path = tmp_path / "12.avif"
    steps = np.linspace(0, 65535, 8).astype(np.uint16)
    bars = np.repeat(np.repeat(steps[None, :, None], 16, axis=1), 64, axis=0).repeat(3, axis=2)
    image = pyvips.Image.new_from_array(bars).copy(interpretation="rgb16")
    image.heifsave(str(path), compression="av1", bitdepth=12, lossless=True)
    facts = await pool.probe(path)
    assert facts.bits == 16
    actual = pyvips.Image.pngload_buffer(await pool.render(a_recipe(path, facts))).numpy()
    assert np.abs(actual[32, 8::16].astype(int) - steps[:, None]).max() <= 16
    assert (actual[32, -8] == 65535).all()


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
    path = avif(tmp_path / "p3.avif", icc_profile=P3)
    facts = await pool.probe(path)
    bodies = {await pool.render(a_recipe(path, facts)) for _ in range(4)}
    assert len(bodies) == 1
    await pool.convert(path, tmp_path / "source.tif", FASTEST)
    source = await pool.probe(tmp_path / "source.tif")
    converted = decode(await pool.render(a_recipe(tmp_path / "source.tif", source)))
    before = decode(bodies.pop())
    assert np.abs(converted.astype(int) - before).mean() < 3
    plain = avif(tmp_path / "plain.avif")
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
    plain = avif(tmp_path / "plain.avif")
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
    plain = avif(tmp_path / "plain.avif", exif=exif_of(orientation))
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
    body = avif(tmp_path / "plain.avif").read_bytes()
    (tmp_path / "other").write_bytes(body.replace(b"av01", coding))
    with pytest.raises(Unsupported, match=words):
        await pool.probe(tmp_path / "other")


async def test_a_heif_without_a_still_picture_is_unsupported(
    pool: ImagingPool, tmp_path: Path
) -> None:
    body = avif(tmp_path / "plain.avif").read_bytes()
    (tmp_path / "other").write_bytes(body.replace(b"meta", b"moov", 1))
    with pytest.raises(Unsupported, match="sequence"):
        await pool.probe(tmp_path / "other")


async def test_damaged_boxes_of_a_heif_are_refused(pool: ImagingPool, tmp_path: Path) -> None:
    body = avif(tmp_path / "plain.avif").read_bytes()
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


async def test_a_png_in_the_form_of_ios_is_unsupported(pool: ImagingPool, tmp_path: Path) -> None:
    path = pictures.png(tmp_path / "a.png", W, H)
    body = path.read_bytes()
    path.write_bytes(body[:8] + b"\x00\x00\x00\x04CgBI" + bytes(8) + body[8:])
    with pytest.raises(Unsupported, match="CgBI"):
        await pool.probe(path)


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
    "jpeg": lambda path: save_pattern(
        path, "JPEG", exif=exif_of(6), xmp=xmp_packet(6), icc_profile=P3
    ),
    "png": lambda path: save_pattern(path, "PNG", exif=exif_of(6), icc_profile=P3),
    "webp": lambda path: save_pattern(
        path, "WEBP", exif=exif_of(6), xmp=xmp_packet(6), icc_profile=P3
    ),
    "heif": lambda path: avif(path, icc_profile=P3),
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
