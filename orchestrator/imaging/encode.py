"""Encodes pixels: one case for each output format. Metadata is dropped; transparent pixels become
white where the format has no transparency.
"""

from __future__ import annotations

from typing import Any, assert_never, cast

import pyvips

from orchestrator.imaging.recipes import Encoder, OutputFormat
from orchestrator.imaging.vips import PALETTE_FIELD

WHITE, MIDDLE_GRAY = 255, 128
_WEBP_EFFORT = 1
"""Efforts 2 and 3 take a third and three times longer for no smaller files (ADR 31)."""
_CHROMA_BLOCK = 16
"""Width and height of a block of subsampled colour in a JPEG. In a picture that is narrower, the
colours of one edge would spread over most of its pixels.
"""
_PALETTE_FIELDS = frozenset((PALETTE_FIELD, "palette-bit-depth"))
"""Metadata of an image that was stored with a palette: its colours change from pixel to pixel,
which subsampled colour would blur. The second name is that of libvips before 8.15.
"""
_PAGE_HEIGHT, _TIMING_FIELDS = "page-height", ("delay", "loop")
_ANIMATION_EFFORT = 2
"""Twice as fast as 4, for files that are a tenth larger."""
_KEEP_EQUAL_FRAMES: dict[str, bool] = (
    {"keep_duplicate_frames": True} if pyvips.at_least_libvips(8, 17) else {}
)
"""libvips 8.15 and later write equal frames as one that is shown longer; 8.17 can keep them."""
DEEP_FORMATS = frozenset(("png", "tif"))
"""Formats that keep 16 bits for each band."""


def flatten(image: Any) -> Any:
    """`image` on white, without alpha."""
    if not image.hasalpha():
        return image
    top = 65535 if image.format == "ushort" else WHITE
    return image.flatten(background=[top] * (image.bands - 1), max_alpha=top)


def encode_in_quality(image: Any, quality: str, output: OutputFormat, encoder: Encoder) -> bytes:
    """`image` in an IIIF quality (default and color change nothing), encoded. Raises VipsError."""
    is_bitonal = quality == "bitonal"
    if quality == "gray":
        image = image.colourspace("grey16" if image.format == "ushort" else "b-w")
    elif is_bitonal:
        image = (flatten(image).colourspace("b-w") >= MIDDLE_GRAY).copy(interpretation="b-w")
    return encode(image, output, encoder, bitonal=is_bitonal)


def encode(image: Any, output: OutputFormat, encoder: Encoder, *, bitonal: bool = False) -> bytes:
    """The bytes of `image` in `output`. A bitonal image is stored with one bit for each pixel where
    the format allows it. Raises VipsError.
    """
    depth: dict[str, int] = {"bitdepth": 1} if bitonal and image.bands == 1 else {}
    match output:
        case "jpg":
            is_narrow = min(image.width, image.height) < _CHROMA_BLOCK
            is_sharp = is_narrow or any(image.get_typeof(field) for field in _PALETTE_FIELDS)
            body = flatten(image).jpegsave_buffer(
                Q=encoder.jpeg_quality,
                subsample_mode="off" if is_sharp else "auto",
                strip=True,
            )
        case "png":
            body = image.pngsave_buffer(compression=encoder.png_compression, strip=True, **depth)
        case "webp":
            body = _without_metadata(image).webpsave_buffer(
                Q=encoder.webp_quality, reduction_effort=_WEBP_EFFORT, strip=True
            )
        case "tif":
            body = image.tiffsave_buffer(
                compression="lzw",
                predictor="horizontal" if not depth else "none",
                strip=True,
                **depth,
            )
        case "gif":
            body = image.gifsave_buffer(effort=4, strip=True)
        case "avif":
            body = image.heifsave_buffer(
                Q=encoder.avif_quality, compression="av1", effort=1, strip=True
            )
        case _:
            assert_never(output)
    return cast("bytes", body)


def encode_animation(
    frames: Any, height: int, timing: Any, output: OutputFormat, encoder: Encoder
) -> bytes:
    """The bytes of an animation in `output`, gif or webp. `frames` are below each other, each
    `height` pixels high; their delays and loop are those of the image `timing`. Raises VipsError.
    """
    frames = frames.copy()
    for field in (_PAGE_HEIGHT, *_TIMING_FIELDS):
        if timing.get_typeof(field):
            frames.set_type(timing.get_typeof(field), field, timing.get(field))
    frames.set(_PAGE_HEIGHT, height)
    if output == "gif":
        body = frames.gifsave_buffer(effort=_ANIMATION_EFFORT, **_KEEP_EQUAL_FRAMES)
    else:
        body = frames.webpsave_buffer(Q=encoder.webp_quality, reduction_effort=2)
    return cast("bytes", body)


def _without_metadata(image: Any) -> Any:
    """A copy of `image` without metadata: libvips 8.14 writes EXIF into WebP despite `strip`."""
    image = image.copy()
    for name in image.get_fields():
        if name.startswith(("exif-", "iptc-", "xmp-", "icc-")):
            image.remove(name)
    return image
