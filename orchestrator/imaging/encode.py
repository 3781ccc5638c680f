"""From pixels to bytes: one function by output format, no metadata kept, transparency on white
where the format has none.
"""

from __future__ import annotations

from typing import Any, assert_never, cast

from orchestrator.imaging.recipes import Encoder, OutputFormat

WHITE, MIDDLE = 255, 128
DEEP_FORMATS = frozenset(("png", "tif"))
"""Formats that keep 16 bits a band."""


def flatten(image: Any) -> Any:
    """`image` on white, without alpha."""
    if not image.hasalpha():
        return image
    top = 65535 if image.format == "ushort" else WHITE
    return image.flatten(background=[top] * (image.bands - 1), max_alpha=top)


def finish(image: Any, quality: str, output: OutputFormat, encoder: Encoder) -> bytes:
    """`image` in an IIIF quality (default and color change nothing), encoded. Raises VipsError."""
    bitonal = quality == "bitonal"
    if quality == "gray":
        image = image.colourspace("grey16" if image.format == "ushort" else "b-w")
    elif bitonal:
        image = (flatten(image).colourspace("b-w") >= MIDDLE).copy(interpretation="b-w")
    return encode(image, output, encoder, bitonal=bitonal)


def encode(image: Any, output: OutputFormat, encoder: Encoder, *, bitonal: bool = False) -> bytes:
    """The bytes of `image` in `output`; a bitonal one is stored with one bit a pixel where the
    format can. Raises VipsError.
    """
    depth: dict[str, int] = {"bitdepth": 1} if bitonal and image.bands == 1 else {}
    match output:
        case "jpg":
            body = flatten(image).jpegsave_buffer(Q=encoder.jpeg_quality, strip=True)
        case "png":
            body = image.pngsave_buffer(compression=4, strip=True, **depth)
        case "webp":
            body = _bare(image).webpsave_buffer(
                Q=encoder.webp_quality, reduction_effort=2, strip=True
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


def _bare(image: Any) -> Any:
    """`image` without what describes it: libvips 8.14 writes EXIF into WebP despite `strip`."""
    image = image.copy()
    for name in image.get_fields():
        if name.startswith(("exif-", "iptc-", "xmp-", "icc-")):
            image.remove(name)
    return image
