"""What another program than libvips makes of a file: upright, profile applied, 8 bits, RGBA.

Pillow reads most formats, tifffile what Pillow cannot read of TIFF, opj_decompress JPEG2000, pdfium
PDF, pillow-heif HEIC. tifffile, pypdfium2 and pillow-heif are used if they are installed. Where the
decoder has a rule of its own (CMYK without a profile, floats), or none reads the file, there is no
reference.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

MAX_PIXELS = 60_000_000
"""Larger pictures are requested but not compared: the comparison would need gigabytes."""
_RELATIVE, _BLACK_POINT = ImageCms.Intent.RELATIVE_COLORIMETRIC, 0x2000
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_PDF_DPI = 150
_OPJ_TIMEOUT_S = 60
_CHANNEL_DEFINITIONS, _HEADER_BYTES = b"cdef", 1024**2
_COLOURS, _MAX_PROFILE_BYTES = b"colr", 1024**2
_SAMPLE_FORMAT, _PLANAR, _UNSIGNED = 339, 284, 1
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Reference:
    """The expected picture (height, width, 4), or None and the reason."""

    pixels: Pixels | None
    decoder: str


class NoReferenceError(Exception):
    """No decoder has a defined result for this file."""


def decode(path: Path, kind: str) -> Reference:
    """The reference for the file at `path` of format `kind` (a name of `InputFormat`)."""
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")
    reasons = []
    for name, decoder in _decoders(kind):
        try:
            return Reference(decoder(path), name)
        except Exception as error:  # a decoder may raise anything for a damaged file
            reasons.append(f"{name}: {type(error).__name__} {str(error)[:80]}")
    return Reference(None, "; ".join(reasons) or "no decoder")


def _decoders(kind: str) -> list[tuple[str, Any]]:
    if kind == "jpeg2000":
        return [("opj_decompress", _by_openjpeg)]
    if kind == "pdf":
        return [("pdfium", _by_pdfium)]
    if kind == "tiff":
        return [("Pillow", _by_pillow), ("tifffile", _by_tifffile)]
    if kind == "heif":
        return [("pillow-heif", _by_pillow_heif), ("Pillow", _by_pillow)]  # Pillow reads AVIF
    return [] if kind == "svg" else [("Pillow", _by_pillow)]


def _by_pillow(path: Path) -> Pixels:
    with Image.open(path) as picture:
        _check_size(picture.size)
        bits = picture.tag_v2.get(258, (8,)) if picture.format == "TIFF" else (8,)  # type: ignore[attr-defined]
        place = picture.tile[0].extents if picture.format == "GIF" and picture.tile else None
        _check_is_right_in_pillow(picture)
        picture.load()
        if picture.format == "AVIF":
            picture.info.pop("xmp", None)  # only irot and imir turn it, which Pillow puts into EXIF
        upright = ImageOps.exif_transpose(picture)
        profile = picture.info.get("icc_profile")
        pixels = to_srgb(upright, profile, bits=bits[0] if isinstance(bits, tuple) else bits)
        return pixels if place is None else _only_inside(pixels, place)


def _check_is_right_in_pillow(picture: Image.Image) -> None:
    """Raises NoReferenceError for what Pillow shows wrong: it compares the tRNS value of gray PNGs
    of 1 to 4 and of 16 bits with scaled samples, takes signed samples of a TIFF for unsigned ones,
    and separate planes for premultiplied or opaque ones.
    """
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        is_signed = _UNSIGNED not in tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
        if is_signed or tags.get(_PLANAR) == 2:
            raise NoReferenceError("signed samples or separate planes")
    is_gray = picture.mode in ("1", "L", "I", "I;16")
    if picture.format == "PNG" and is_gray and "transparency" in picture.info:
        raise NoReferenceError("gray with a transparent value")


def _only_inside(pixels: Pixels, place: tuple[int, int, int, int]) -> Pixels:
    """The canvas of a GIF, transparent where the first frame leaves it free."""
    result = pixels.copy()
    result[..., 3] = 0
    left, top, right, bottom = place
    result[top:bottom, left:right, 3] = pixels[top:bottom, left:right, 3]
    return result


def _by_pillow_heif(path: Path) -> Pixels:
    import pillow_heif

    picture = pillow_heif.open_heif(path).to_pillow()
    _check_size(picture.size)
    return to_srgb(picture, picture.info.get("icc_profile"))


def _by_openjpeg(path: Path) -> Pixels:
    program = shutil.which("opj_decompress")
    if program is None:
        raise NoReferenceError("libopenjp2-tools is not installed")
    with tempfile.TemporaryDirectory() as folder:
        is_boxed = path.open("rb").read(4) != b"\xff\x4f\xff\x51"
        link = Path(folder, "in.jp2" if is_boxed else "in.j2k")
        link.symlink_to(path.resolve())
        result = Path(folder, "out.png")
        subprocess.run(
            [program, "-i", str(link), "-o", str(result), "-upsample", "-quiet"],
            check=True, capture_output=True, timeout=_OPJ_TIMEOUT_S,
        )  # fmt: skip
        with Image.open(result) as picture:
            _check_size(picture.size)
            picture.load()
            pixels = to_srgb(picture, None)
    header = path.read_bytes()[:_HEADER_BYTES]
    _check_is_applied(header)
    if _CHANNEL_DEFINITIONS not in header:
        pixels[..., 3] = 255  # the program takes any last channel for opacity
    return pixels


def _check_is_applied(header: bytes) -> None:
    """Raises NoReferenceError if opj_decompress ignores the colours that the file declares: it does
    not apply a profile of method 3 ("any ICC"), nor one whose primaries are invalid.
    """
    at = header.find(_COLOURS)
    method, profile = header[at + 4 : at + 5], header[at + 7 : at + 7 + _MAX_PROFILE_BYTES]
    if at < 0 or method not in (b"\x02", b"\x03"):
        return
    if method == b"\x03":
        raise NoReferenceError("a profile of any kind")
    if profile[16:20] == b"RGB " and not _has_valid_primaries(profile):
        raise NoReferenceError("invalid primaries")


def _has_valid_primaries(profile: bytes) -> bool:
    """True if the primaries of a profile are positive, or if it has tables instead."""
    count = int.from_bytes(profile[128:132], "big")
    tags = {profile[132 + 12 * n : 136 + 12 * n]: n for n in range(min(count, 100))}
    for name in (b"rXYZ", b"gXYZ", b"bXYZ"):
        if name in tags:
            start = int.from_bytes(profile[136 + 12 * tags[name] : 140 + 12 * tags[name]], "big")
            luminance = int.from_bytes(profile[start + 12 : start + 16], "big", signed=True)
            if luminance <= 0:
                return False
    return True


def _by_pdfium(path: Path) -> Pixels:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    try:
        picture = document[0].render(scale=_PDF_DPI / 72).to_pil()
    finally:
        document.close()
    return to_srgb(picture.convert("RGB"), None)


def _by_tifffile(path: Path) -> Pixels:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = next(each for each in file.pages if not each.is_reduced)  # type: ignore[union-attr]
        _check_size((page.imagewidth, page.imagelength))
        array = page.asarray()
        bits, photometric = page.bitspersample, int(page.photometric)
        if (
            array.dtype not in (np.uint8, np.uint16)
            or photometric not in (0, 1, 2)
            or array.ndim > 3
        ):
            raise NoReferenceError(f"{array.dtype} of photometric interpretation {photometric}")
        if page.planarconfig == 2 and array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
        if any(int(each) in (1, 2) for each in page.extrasamples):
            raise NoReferenceError("separate planes with opacity")
        colours = 3 if photometric == 2 else 1
        array = array.reshape(*array.shape[:2], -1)[..., :colours]
        scaled = np.rint(array.astype(np.float64) * 255 / (2**bits - 1))
        scaled = 255 - scaled if photometric == 0 else scaled
        picture = Image.fromarray(
            np.broadcast_to(scaled.astype(np.uint8), (*array.shape[:2], 3)).copy()
        )
        orientation = page.tags.get(274)
        exif = picture.getexif()
        exif[274] = int(orientation.value) if orientation else 1
        return to_srgb(ImageOps.exif_transpose(picture), None)


def to_srgb(picture: Image.Image, profile: bytes | None, *, bits: int = 16) -> Pixels:
    """`picture` as (height, width, 4): its profile applied if it fits the channels, alpha kept."""
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _from_deep_gray(picture, bits)
    if picture.mode in ("P", "PA", "1", "LA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("L" if picture.mode == "1" else "RGBA")
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = (
        picture.convert("RGB") if alpha or picture.mode in ("RGBX", "YCbCr", "HSV") else picture
    )
    if colours.mode == "LAB":
        return _opaque(_transform(colours, ImageCms.createProfile("LAB")))
    changed = _with_profile(colours, profile)
    if changed is None:
        if colours.mode == "CMYK":
            raise NoReferenceError("CMYK without a profile")
        changed = colours.convert("RGB")
    return np.dstack([np.asarray(changed), np.asarray(alpha)]) if alpha else _opaque(changed)


def _from_deep_gray(picture: Image.Image, bits: int) -> Image.Image:
    array = np.asarray(picture)
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PNG"):
        raise NoReferenceError(f"Pillow's mode {picture.mode}")
    scaled = np.rint(array.astype(np.float64) * 255 / (2 ** min(bits if bits > 8 else 16, 16) - 1))
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _with_profile(picture: Image.Image, profile: bytes | None) -> Image.Image | None:
    if not profile:
        return None
    with suppress(ImageCms.PyCMSError, OSError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() == _SPACES.get(picture.mode):
            return _transform(picture, source)
    return None


def _transform(picture: Image.Image, source: Any) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    result = ImageCms.profileToProfile(
        picture, source, target, _RELATIVE, outputMode="RGB", flags=ImageCms.Flags(_BLACK_POINT)
    )
    assert result is not None  # it is None only for work in place
    return result


def _opaque(picture: Image.Image) -> Pixels:
    colours = np.asarray(picture.convert("RGB"))
    return np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise NoReferenceError(f"more than {MAX_PIXELS} pixels")
