"""Metadata is removed from files, and the orientation of a JPEG is changed, without any change of
pixels.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.formats.jpeg_orientation import turned, with_orientation
from orchestrator.imaging.formats.metadata_removal import without_metadata

PICTURES = Path(__file__).parents[2] / "pictures"
JPEGS = sorted(path.name for path in PICTURES.glob("j_*.jpg") if "noeoi" not in path.name)
PLACE = {1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)}


def an_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "SECRET-CAMERA"
    exif[0x0112] = orientation
    exif.get_ifd(0x8825).update(PLACE)
    return exif


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_each_jpeg_gets_an_orientation_and_keeps_its_pixels(name: str, orientation: int) -> None:
    body = (PICTURES / name).read_bytes()
    changed = with_orientation(body, orientation)
    assert opened(changed).getexif().get(0x0112) == orientation
    assert opened(changed).tobytes() == opened(body).tobytes()
    again = with_orientation(changed, 1)
    assert opened(again).getexif().get(0x0112) == 1


@pytest.mark.parametrize("name", JPEGS)
def test_each_jpeg_without_metadata_keeps_its_pixels(name: str) -> None:
    body = (PICTURES / name).read_bytes()
    for orientation in (1, 8):
        cleaned = opened(without_metadata(body, "jpeg", orientation))
        assert cleaned.tobytes() == opened(body).tobytes()
        assert dict(cleaned.getexif()) == ({} if orientation == 1 else {0x0112: 8})
        assert cleaned.info.get("icc_profile") == opened(body).info.get("icc_profile")


def test_other_metadata_stays_when_the_orientation_changes() -> None:
    exif = an_exif()
    del exif[0x0112]
    body = encoded(Image.new("RGB", (16, 8)), "JPEG", exif=exif)
    changed = opened(with_orientation(body, 3)).getexif()
    assert (changed[0x0112], changed[0x010F]) == (3, "SECRET-CAMERA")
    assert changed.get_ifd(0x8825)[1] == "N"


def test_a_turn_is_that_of_the_upright_picture() -> None:
    picture = Image.effect_noise((16, 8), 90).convert("RGB")
    for orientation in range(1, 9):
        for quarters in range(1, 4):
            before, after = Image.Exif(), Image.Exif()
            before[0x0112], after[0x0112] = orientation, turned(orientation, quarters)
            upright = [
                ImageOps.exif_transpose(opened(encoded(picture, "PNG", exif=exif)))
                for exif in (before, after)
            ]
            wanted = upright[0].rotate(-90 * quarters, expand=True)
            assert upright[1].tobytes() == wanted.tobytes(), (orientation, quarters)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_only_the_orientation_is_left(form: str, orientation: int) -> None:
    picture = Image.effect_noise((40, 20), 90).convert("RGB")
    options: dict[str, object] = {"exif": an_exif(orientation)}
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", "SECRET-AUTHOR")
        texts.add_itxt("XML:com.adobe.xmp", "SECRET-PLACE")
        options["pnginfo"] = texts
    else:
        options["xmp"] = b"<x:xmpmeta>SECRET-PLACE</x:xmpmeta>"
    body = encoded(picture, form, **options)
    assert b"SECRET" in body
    cleaned = without_metadata(body, form.lower(), orientation)
    assert b"SECRET" not in cleaned
    assert opened(cleaned).tobytes() == opened(body).tobytes()
    assert opened(cleaned).getexif().get(0x0112, 1) == orientation


def test_a_gif_keeps_its_frames_and_loop() -> None:
    frames = [Image.new("RGB", (20, 10), name) for name in ("red", "lime", "blue")]
    body = encoded(
        frames[0],
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=70,
        loop=3,
        comment=b"SECRET",
    )
    cleaned = without_metadata(body, "gif", 1)
    assert (b"SECRET" in body, b"SECRET" in cleaned) == (True, False)
    for each in (body, cleaned):
        image = opened(each)
        assert (image.info["loop"], image.info["duration"]) == (3, 70)
        assert len(list(ImageSequence.Iterator(image))) == 3


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "webp"])
def test_a_cut_file_is_damaged_or_has_no_metadata(form: str) -> None:
    body = encoded(Image.new("RGB", (20, 10)), form, exif=an_exif())
    for length in range(20, len(body), 7):
        try:
            without_metadata(body[:length], form, 1)
        except Damaged:
            continue


def test_other_formats_are_refused() -> None:
    with pytest.raises(Unsupported):
        without_metadata(b"", "heif", 1)
