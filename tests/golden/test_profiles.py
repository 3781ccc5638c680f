"""Colours of every kind of profile, channels, depth and alpha, against lcms itself (by Pillow)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from orchestrator.imaging import FASTEST, MAX_QUALITY, colour, profiles, vips
from orchestrator.imaging.pool import ImagingPool
from tests.golden.comparison import a_recipe, decode
from tests.support import icc

_PATCHES = {
    1: [(0,), (30,), (77,), (128,), (200,), (255,)],
    3: [(0, 0, 0), (255, 255, 255), (200, 40, 30), (30, 180, 60), (20, 60, 210), (90, 90, 90)],
    4: [(0, 0, 0, 0), (255, 0, 0, 0), (40, 220, 60, 0), (0, 0, 0, 255), (60, 40, 200, 30),
        (255, 255, 255, 255)],
}  # fmt: skip
_ALPHAS = (255, 128, 0, 64, 200, 255)
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_DECLARED = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("cmyk", "cmyk")}
_TOLERANCE = 2


def _rgb_to_lab(r: float, g: float, b: float) -> tuple[float, float, float]:
    return 20 + 75 * (0.3 * r + 0.6 * g + 0.1 * b), 60 * (r - g), 60 * (g - b)


PROFILES = {
    "linear named sRGB": (3, icc.rgb(icc.SRGB, 1.0, name="sRGB linear")),
    "Adobe RGB": (3, icc.rgb(icc.ADOBE, 2.2)),
    "Display P3": (3, icc.rgb(icc.P3, icc.srgb_curve())),
    "sRGB by another name": (3, icc.rgb(icc.SRGB, icc.srgb_curve(), name="camera")),
    "RGB with a perceptual table": (3, icc.table(b"RGB ", _rgb_to_lab)),
    "RGB with a colorimetric table": (3, icc.table(b"RGB ", _rgb_to_lab, tag=b"A2B1")),
    "RGB with a saturation table": (3, icc.table(b"RGB ", _rgb_to_lab, tag=b"A2B2")),
    "gray with gamma 1.8": (1, icc.gray(1.8)),
    "linear gray": (1, icc.gray(1.0)),
    "CMYK with a perceptual table": (4, icc.table(b"CMYK", icc.inks_to_lab)),
    "CMYK with a colorimetric table": (4, icc.table(b"CMYK", icc.inks_to_lab, tag=b"A2B1")),
    "CMYK without a profile": (4, None),
}
_INTENTS = {
    "RGB with a perceptual table": ImageCms.Intent.PERCEPTUAL,
    "RGB with a saturation table": ImageCms.Intent.SATURATION,
    "CMYK with a perceptual table": ImageCms.Intent.PERCEPTUAL,
}


def _lcms(count: int, profile: bytes, intent: ImageCms.Intent) -> np.ndarray:
    """The patches in sRGB (or gray) by lcms, 8 bits, (patches, channels)."""
    pixels = np.array([_PATCHES[count]], np.uint8)
    picture = Image.fromarray(pixels[..., 0] if count == 1 else pixels, _MODES[count])
    change = ImageCms.buildTransform(
        io.BytesIO(profile),
        ImageCms.createProfile("sRGB"),
        _MODES[count],
        "RGB",
        renderingIntent=intent,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    changed = ImageCms.applyTransform(picture, change)
    assert changed is not None
    return np.asarray(changed)[0, :, : 1 if count == 1 else 3].astype(float)


def _declared(count: int, profile: bytes | None, *, deep: bool, alpha: bool) -> Any:
    """The patches as a reader returns them."""
    rows = [
        (*patch, *((a,) if alpha else ()))
        for patch, a in zip(_PATCHES[count], _ALPHAS, strict=True)
    ]
    pixels = np.array([rows], np.uint16 if deep else np.uint8) * (257 if deep else 1)
    image = pyvips.Image.new_from_array(pixels.astype(np.uint16 if deep else np.uint8))
    image = image.copy(interpretation=_DECLARED[count][deep])
    if profile is not None:
        vips.attach_profile(image, profile)
    return image


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("name", PROFILES)
def test_colours_are_those_of_lcms(name: str, deep: bool, alpha: bool) -> None:
    count, profile = PROFILES[name]
    used = profile if profile is not None else pyvips.Image.profile_load("cmyk")
    expected = _lcms(count, bytes(used), _INTENTS.get(name, ImageCms.Intent.RELATIVE_COLORIMETRIC))
    image = colour.to_web(_declared(count, profile, deep=deep, alpha=alpha), keep_16=True)
    assert image.format == ("ushort" if deep else "uchar")
    assert image.interpretation == _DECLARED[1 if count == 1 else 3][deep]
    actual = image.numpy().reshape(len(_ALPHAS), -1) / (257 if deep else 1)
    colours = expected.shape[1]
    # With 8 bits lcms rounds dark colours of steep curves by a level more than with 16.
    assert np.abs(actual[:, :colours] - expected).max() <= _TOLERANCE + deep
    assert actual.shape[1] == colours + alpha
    if alpha:
        assert actual[:, -1].tolist() == list(_ALPHAS)


@pytest.mark.parametrize("count", [1, 3, 4], ids=["gray", "RGB", "CMYK"])
def test_16_bits_with_alpha_become_8_where_the_format_has_8(count: int) -> None:
    image = colour.to_web(_declared(count, None, deep=True, alpha=True))
    shallow = colour.to_web(_declared(count, None, deep=False, alpha=True))
    assert image.format == "uchar"
    assert np.abs(image.numpy().astype(int) - shallow.numpy()).max() <= 1
    assert image[-1].numpy().ravel().tolist() == list(_ALPHAS)


def test_black_ink_without_a_profile_is_nearly_black() -> None:
    black = colour.to_web(_declared(4, None, deep=False, alpha=False)).numpy()[0]
    assert black[5].max() <= 24
    assert black[3].max() <= 24
    assert black[0].min() >= 254


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_lab_is_of_white_point_d50(deep: bool) -> None:
    lab = np.array([[[50, 60, -40], [80, -30, 50], [0, 0, 0], [100, 0, 0], [50, 0, 0]]], np.float32)
    stored = np.stack([lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128], -1)
    stored = np.rint(stored).astype(np.uint8)
    stored[..., 1:] ^= 128  # Pillow's form of a and b
    change = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", 1
    )
    expected = np.asarray(ImageCms.applyTransform(Image.fromarray(stored, "LAB"), change))
    image = pyvips.Image.new_from_array(lab).copy(interpretation="lab")
    if deep:  # 16 bits
        image = image.colourspace("labs")
    actual = colour.to_web(image).numpy()
    assert np.abs(actual.astype(int) - expected).max() <= _TOLERANCE


@pytest.mark.parametrize("name", PROFILES)
def test_what_was_converted_is_not_converted_again(name: str) -> None:
    count, profile = PROFILES[name]
    once = colour.to_web(_declared(count, profile, deep=False, alpha=True))
    assert (colour.to_web(once).numpy() == once.numpy()).all()


FOREIGN = [
    pytest.param(3, icc.gray(1.0), id="gray profile on RGB"),
    pytest.param(1, icc.rgb(icc.ADOBE, 2.2), id="RGB profile on gray"),
    pytest.param(3, icc.table(b"CMYK", icc.inks_to_lab), id="CMYK profile on RGB"),
    pytest.param(4, icc.rgb(icc.ADOBE, 2.2), id="RGB profile on CMYK"),
    pytest.param(3, b"not a profile" * 20, id="no profile"),
    pytest.param(3, icc.rgb(icc.ADOBE, 2.2)[:200], id="incomplete profile"),
    pytest.param(3, icc.table(b"RGB ", _rgb_to_lab)[:500], id="incomplete table"),
]


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize(("count", "profile"), FOREIGN)
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(
    count: int, profile: bytes, alpha: bool
) -> None:
    image = _declared(count, profile, deep=False, alpha=alpha)
    plain = _declared(count, None, deep=False, alpha=alpha)
    assert (colour.to_web(image).numpy() == colour.to_web(plain).numpy()).all()
    note = colour.ignored_profile(image)
    assert note is not None
    assert note.endswith("It is ignored.")
    assert colour.ignored_profile(plain) is None


@pytest.mark.parametrize("name", [name for name in PROFILES if PROFILES[name][1]])
def test_a_profile_that_is_applied_has_no_note(name: str) -> None:
    assert colour.ignored_profile(_declared(*PROFILES[name], deep=False, alpha=True)) is None


def test_a_profile_is_srgb_by_what_it_does_and_not_by_its_name() -> None:
    assert profiles.is_srgb(icc.rgb(icc.SRGB, icc.srgb_curve(), name="camera"))
    assert profiles.is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert profiles.is_srgb(pyvips.Image.profile_load("srgb"))
    assert not profiles.is_srgb(icc.rgb(icc.SRGB, 1.0, name="sRGB"))
    assert not profiles.is_srgb(icc.rgb(icc.SRGB, 2.2, name="sRGB IEC61966-2.1"))
    assert not profiles.is_srgb(icc.rgb(icc.P3, icc.srgb_curve(), name="sRGB"))
    assert not profiles.is_srgb(b"sRGB" * 100)


def test_bands_that_are_not_declared_are_colours_without_alpha() -> None:
    for bands, colours in ((1, 1), (2, 1), (3, 3), (4, 3), (6, 3)):
        image = pyvips.Image.black(8, 8, bands=bands).copy(interpretation="multiband")
        assert colour.to_web(image).bands == colours


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("count", [1, 3], ids=["gray", "RGB"])
async def test_transparency_and_profile_survive_from_file_to_answer(
    pool: ImagingPool, tmp_path: Path, count: int, deep: bool
) -> None:
    profile = icc.gray(1.8) if count == 1 else icc.rgb(icc.ADOBE, 2.2)
    path = tmp_path / "a.png"
    _declared(count, profile, deep=deep, alpha=True).resize(16, kernel="nearest").pngsave(str(path))
    expected = _lcms(count, profile, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    at = (8, slice(8, None, 16))
    probe = await pool.probe(path)
    assert probe.has_alpha
    sources = [
        path,
        await _converted(pool, path, tmp_path / "s.tif", FASTEST),
        await _converted(pool, path, tmp_path / "s.jp2", MAX_QUALITY),
    ]
    for source in sources:
        source_probe = await pool.probe(source)
        body = await pool.render(a_recipe(source, source_probe))
        pixels = pyvips.Image.pngload_buffer(body).numpy()
        actual = pixels[at] / (257 if pixels.dtype == np.uint16 else 1)
        assert np.abs(actual[:, :-1] - expected).max() <= _TOLERANCE
        assert np.abs(actual[:, -1] - _ALPHAS).max() <= 1
        opacity = np.array(_ALPHAS)[:, None] / 255
        jpeg = decode(await pool.render(a_recipe(source, source_probe, format="jpg")))
        on_white = expected * opacity + 255 * (1 - opacity)
        assert np.abs(jpeg[at].reshape(len(_ALPHAS), -1) - on_white).max() <= 6


async def _converted(pool: ImagingPool, path: Path, target: Path, policy: Any) -> Path:
    await pool.convert(path, target, policy)
    return target
