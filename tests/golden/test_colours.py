"""Colours of derivatives: 16 bits, CMYK, palettes, one bit, transparency, profiles, SVG, PDF and
animations.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, assert_alike, decode
from tests.support import pictures

W, H = 300, 200


def deep_png(body: bytes) -> np.ndarray:
    """16-bit samples of a PNG (Pillow keeps only 8 of RGB)."""
    import pyvips

    return np.asarray(pyvips.Image.pngload_buffer(body).numpy())


@pytest.mark.parametrize("maker", [pictures.png_16, pictures.tiff_16], ids=lambda m: m.__name__)
async def test_16_bits_are_kept_in_png_and_become_8_in_jpeg(
    pool: ImagingPool, gallery: Callable[..., Path], maker: Callable[..., Path]
) -> None:
    path = gallery(maker, W, H)
    probe = await pool.probe(path)
    assert probe.bits == 16
    assert (deep_png(await pool.render(a_recipe(path, probe))) == pictures.deep(W, H)).all()
    jpeg = decode(await pool.render(a_recipe(path, probe, format="jpg")))
    assert_alike(jpeg, pictures.pattern(W, H), mean=4.0)


@pytest.mark.parametrize(
    "maker", [pictures.cmyk_jpeg, pictures.cmyk_tiff], ids=lambda m: m.__name__
)
async def test_cmyk_becomes_srgb(
    pool: ImagingPool, gallery: Callable[..., Path], maker: Callable[..., Path]
) -> None:
    path = gallery(maker, W, H)
    probe = await pool.probe(path)
    assert probe.bands == 4
    actual = decode(await pool.render(a_recipe(path, probe, format="jpg")))
    # The colours of inks depend on the profile, so only the correlation of each band is checked.
    truth = pictures.pattern(W, H).astype(float)
    assert actual.shape == (H, W, 3)
    for band in range(3):
        assert (
            np.corrcoef(actual[..., band].ravel(), truth[..., band].ravel())[0, 1] > 0.65
        )  # blue is outside the gamut


@pytest.mark.parametrize(
    "maker", [pictures.palette_png, pictures.gif, pictures.animated_gif], ids=lambda m: m.__name__
)
async def test_palette_colours_are_converted_to_rgb(
    pool: ImagingPool, gallery: Callable[..., Path], maker: Callable[..., Path]
) -> None:
    path = gallery(maker, W, H)
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path), format="jpg")))
    assert_alike(actual, pictures.pattern(W, H), mean=9.0, p99=60.0)


async def test_an_animation_is_rendered_as_its_first_frame(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.animated_gif, W, H)
    probe = await pool.probe(path)
    assert (probe.dimensions, probe.pages) == ((W, H), 5)
    actual = decode(await pool.render(a_recipe(path, probe)))[..., :3]
    with Image.open(path) as first:
        assert (actual == np.asarray(first.convert("RGB"))).all()


@pytest.mark.parametrize(
    "maker", [pictures.one_bit_png, pictures.one_bit_tiff], ids=lambda m: m.__name__
)
async def test_a_one_bit_picture_is_black_and_white(
    pool: ImagingPool, gallery: Callable[..., Path], maker: Callable[..., Path]
) -> None:
    path = gallery(maker, W, H)
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path))))
    assert (actual == np.asarray(Image.open(path).convert("L"))).all()


async def test_transparency_is_kept_if_the_format_supports_it_and_is_white_in_jpeg(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.alpha_png, W, H)
    probe = await pool.probe(path)
    assert probe.has_alpha
    truth = pictures.alpha(W, H)
    for output in ("png", "webp", "tif"):
        actual = decode(await pool.render(a_recipe(path, probe, format=output)))
        assert (actual[..., 3] == truth[..., 3]).all()
    jpeg = decode(await pool.render(a_recipe(path, probe, format="jpg")))
    assert (jpeg[:, : W // 4 - 8] > 250).all()
    assert_alike(jpeg[:, W // 2 + 8 :], truth[:, W // 2 + 8 :, :3], mean=4.0)


async def test_colours_of_transparent_pixels_do_not_bleed_into_a_smaller_picture(
    pool: ImagingPool, tmp_path: Path
) -> None:
    array = np.zeros((64, 64, 4), np.uint8)
    array[:, :32] = (255, 0, 0, 0)  # transparent, but red
    array[:, 32:] = (0, 0, 255, 255)
    path = tmp_path / "bleed.png"
    Image.fromarray(array).save(path)
    body = await pool.render(a_recipe(path, await pool.probe(path), size=(9, 9)))
    actual = decode(body)
    assert actual[actual[..., 3] > 20][:, 0].max() < 30


async def test_an_embedded_profile_is_applied(pool: ImagingPool, tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    assert lab is not None
    path = tmp_path / "swapped.jpg"
    profile = _swapped_profile()
    pictures.jpeg(path, W, H, icc_profile=profile)
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path), format="jpg")))
    truth = pictures.pattern(W, H).astype(float)
    assert np.corrcoef(actual[..., 0].ravel(), truth[..., 1].ravel())[0, 1] > 0.8


def _swapped_profile() -> bytes:
    """sRGB with the red and green primaries exchanged, so that applying it shows."""
    body = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(body[128:132], "big")
    entries = {bytes(body[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    body[red + 4 : red + 12], body[green + 4 : green + 12] = (
        body[green + 4 : green + 12],
        body[red + 4 : red + 12],
    )
    return bytes(body)  # its description still says sRGB


async def test_a_broken_profile_is_ignored(pool: ImagingPool, tmp_path: Path) -> None:
    path = pictures.jpeg(tmp_path / "p.jpg", W, H, icc_profile=b"not a profile" * 20)
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path), format="jpg")))
    assert_alike(actual, pictures.pattern(W, H))


async def test_an_svg_is_rendered(pool: ImagingPool, gallery: Callable[..., Path]) -> None:
    path = gallery(pictures.svg, W, H)
    probe = await pool.probe(path)
    assert (probe.format, probe.dimensions) == ("svg", (W, H))
    actual = decode(await pool.render(a_recipe(path, probe, format="jpg")))
    assert actual[H // 2, W // 2, 0] > 240
    assert actual[5, 5, 2] > 240


async def test_the_first_page_of_a_pdf_is_rendered(
    pool: ImagingPool, gallery: Callable[..., Path]
) -> None:
    path = gallery(pictures.pdf, 144, 72)
    probe = await pool.probe(path)
    assert (probe.format, probe.dimensions) == ("pdf", (300, 150))
    image = Image.open(io.BytesIO(await pool.render(a_recipe(path, probe, format="jpg"))))
    actual = np.asarray(image.convert("RGB"))
    assert tuple(actual[140, 10] > 128) == (True, False, False)
    assert (actual[10, 290] > 240).all()


async def test_the_colours_of_the_validators_reference_image_are_correct(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = pictures.colour_grid(tmp_path / "grid.png")
    probe = await pool.probe(path)
    truth = np.asarray(Image.open(path).convert("RGB"))
    recipe = a_recipe(path, probe, region=(300, 700, 200, 100), size=(20, 10), format="jpg")
    actual = decode(await pool.render(recipe))
    assert np.abs(actual[5, 5].astype(int) - truth[750, 350]).max() < 6
    assert np.abs(actual[5, 15].astype(int) - truth[750, 450]).max() < 6


@pytest.mark.parametrize("extension", ["jp2", "j2k"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16"])
async def test_every_kind_of_untiled_jpeg2000_is_decoded_correctly(
    pool: ImagingPool, tmp_path: Path, mode: str, extension: str
) -> None:
    truth = pictures.picture(W, H).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        deep = np.asarray(truth).astype(np.uint16) * 257
        truth_16 = Image.fromarray(deep)
        truth_16.save(tmp_path / f"a.{extension}", irreversible=False)
    else:
        truth.save(tmp_path / f"a.{extension}", irreversible=False)
    path = tmp_path / f"a.{extension}"
    probe = await pool.probe(path)
    assert probe.bits == (16 if mode == "I;16" else 8)
    if mode == "I;16":
        actual = deep_png(await pool.render(a_recipe(path, probe)))
        assert (actual.reshape(H, W) == deep).all()
    elif mode in ("RGB", "L"):
        assert (decode(await pool.render(a_recipe(path, probe))) == np.asarray(truth)).all()
    else:
        actual = decode(await pool.render(a_recipe(path, probe, format="jpg")))
        assert_alike(actual, np.asarray(truth.convert("RGB" if mode == "RGBA" else "L")), mean=4.0)


async def test_the_profile_of_a_jpeg2000_is_applied(pool: ImagingPool, tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    pictures.picture(W, H).save(path, irreversible=False)
    path.write_bytes(_with_profile(path.read_bytes(), _swapped_profile()))
    actual = decode(await pool.render(a_recipe(path, await pool.probe(path), format="jpg")))
    truth = pictures.pattern(W, H).astype(float)
    assert np.corrcoef(actual[..., 0].ravel(), truth[..., 1].ravel())[0, 1] > 0.8


def _with_profile(jp2: bytes, profile: bytes) -> bytes:
    """A JP2 whose colour specification is an ICC profile instead of a number."""
    header, colour = jp2.index(b"jp2h") - 4, jp2.index(b"colr") - 4
    length, old = (int.from_bytes(jp2[at : at + 4], "big") for at in (header, colour))
    box = (11 + len(profile)).to_bytes(4, "big") + b"colr\x02\x00\x00" + profile
    return (
        jp2[:header]
        + (length - old + len(box)).to_bytes(4, "big")
        + jp2[header + 4 : colour]
        + box
        + jp2[colour + old :]
    )
