"""Opens a file by the loader of its format, as one picture: the first page or frame, with what
libvips itself does not do.

- TIFF: `tiff/` says which image of the file is the picture, and which library reads it.
- JPEG: a file that lacks only its end marker is whole; one that ends earlier is damaged.
- PNG: EXIF and XMP after the pixels count.
- GIF: the part of the canvas that the first frame leaves free is transparent; data without an end
  code.
- HEIF: more than 8 bits in the full range of 16; brands that libheif does not know; properties in
  another order; codings that are not read.
- SVG: UTF-16 and compressed files. PDF: files with a password.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging import vips
from orchestrator.imaging.formats import gif_frame, heif_boxes, jpeg_structure, svg_text
from orchestrator.imaging.formats.bounded_read import read_at_most
from orchestrator.imaging.formats.png_chunks import orientation_of_png
from orchestrator.imaging.recipes import InputFormat
from orchestrator.imaging.tiff import level_reader
from orchestrator.imaging.tiff.pyramid import read_picture

PDF_DPI = 150
"""Resolution at which a page of a PDF is drawn if no other is given: by the probe and by decoders,
so that the dimensions agree.
"""
_FILLING = b"\x55\xb6" * 64
"""Coded data of no meaning."""
_MAX_PDF_BYTES = 256 * 1024**2
_ENCRYPTED = re.compile(rb"/Encrypt\s{0,20}(?:\d{1,10}\s{1,20}\d{1,5}\s{1,20}R|<<)")


def load_picture(name: InputFormat, path: str, **options: Any) -> Any:
    """The first page or frame at full scale. All readers of a file use this function, so that they
    see the same picture. Raises VipsError, Damaged, Unsupported, TooLarge, FileNotFoundError.
    """
    match name:
        case "jpeg":
            return load_jpeg(path, **options)
        case "tiff":
            return level_reader.load_level(path, read_picture(Path(path)), 0, **options)
        case "png":
            return _load_png(path, **options)
        case "gif":
            return _load_gif(path, **options)
        case "heif":
            return _load_heif(path, **options)
        case "svg":
            return vips.load_bytes("svg", svg_text.read_svg(Path(path)), **options)
        case "pdf":
            return _load_pdf(path, **options)
        case _:
            return vips.load(name, path, **options)


def load_jpeg(path: str, **options: Any) -> Any:
    """A JPEG file. Raises as `load_picture`.

    A file without an end marker is decoded when it is opened, to see whether all its pixels are
    there.
    """
    body = jpeg_structure.complete(Path(path))
    if body is None:
        return vips.load("jpeg", path, **options)
    if not _has_all_pixels(body):
        raise Damaged("The image file is incomplete.")
    return vips.load_bytes("jpeg", body, **{**options, "fail_on": "warning"})


def _has_all_pixels(body: bytes) -> bool:
    """True if the coded data of a JPEG reaches to its last pixel. Raises VipsError.

    For libjpeg missing data is only a warning, and libvips does not look at the warnings of the
    last rows. So other data is put at the end: it changes pixels only if some are missing.
    """
    image = vips.load_bytes("jpeg", body, fail_on="warning", access="sequential")
    more = body.removesuffix(jpeg_structure.END) + _FILLING + jpeg_structure.END
    other = vips.load_bytes("jpeg", more, fail_on="none", access="sequential")
    return bool((image - other).abs().max() == 0)


def _load_png(path: str, **options: Any) -> Any:
    with Path(path).open("rb") as file:
        first_chunk = file.read(16)[12:]
    if first_chunk == b"CgBI":
        raise Unsupported(
            "PNG files in Apple's form for iOS (CgBI) are not supported. Use a plain PNG file."
        )
    image = vips.load("png", path, **options)
    stated = orientation_of_png(Path(path))
    return image if stated is None else vips.with_orientation(image, stated)


def _load_gif(path: str, **options: Any) -> Any:
    frame = gif_frame.read_first_frame(Path(path))
    if frame is None:
        return vips.load("gif", path, **options)
    body = gif_frame.with_end_code(Path(path), frame)
    if body is None:
        image = vips.load("gif", path, **options)
    else:
        image = vips.load_bytes("gif", body, **options)
    return image if image.bands in (2, 4) else _with_free_area(image, frame.place)


def _with_free_area(image: Any, place: gif_frame.Rectangle) -> Any:
    """`image` with alpha that is 0 outside `place`; without alpha if `place` is all of it."""
    left, top, width, height = place
    width, height = min(width, image.width - left), min(height, image.height - top)
    if (left, top, width, height) == (0, 0, image.width, image.height):
        return image
    alpha = vips.Image.black(image.width, image.height)
    if width > 0 and height > 0:
        opaque = (vips.Image.black(width, height) + 255).cast("uchar")
        alpha = opaque.embed(left, top, image.width, image.height)
    return image.bandjoin(alpha)


def _load_heif(path: str, **options: Any) -> Any:
    heif_boxes.check_is_readable(Path(path))
    body = heif_boxes.repaired(Path(path))
    if body is None:
        image = vips.load("heif", path, **options)
    else:
        image = vips.load_bytes("heif", body, **options)
    if image.format != "ushort":
        return image
    # libvips moves the bits to the left, so white of 10 bits would be 65472.
    return image | (image >> int(image.get("heif-bitdepth")))


def _load_pdf(path: str, **options: Any) -> Any:
    try:
        return vips.load("pdf", path, **{"dpi": PDF_DPI, **options})
    except vips.VipsError as error:
        with Path(path).open("rb") as file:
            is_encrypted = _ENCRYPTED.search(read_at_most(file, _MAX_PDF_BYTES)) is not None
        if is_encrypted:
            raise Unsupported(
                "PDF files with a password are not supported. Remove the password."
            ) from error
        raise
