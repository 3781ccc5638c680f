"""Resizes a JPEG that we made: shrinks it while it is decoded, then resizes it to exact size."""

from __future__ import annotations

from typing import Any, cast

from orchestrator.imaging import colour, vips
from orchestrator.imaging.encode import encode_in_quality
from orchestrator.imaging.recipes import Encoder, OutputFormat, reduction
from orchestrator.imaging.render import resize
from orchestrator.model import Dimensions

_JPEG_SHRINKS = 3


def resize_thumbnail(
    body: bytes, size: Dimensions, quality: str, output: str, encoder: Encoder
) -> bytes:
    """`body` (JPEG) at exactly `size` in an IIIF quality and format. Raises Unprocessable."""
    try:
        header = vips.load_bytes("jpeg", body)
        shrink = 2 ** reduction((header.width, header.height), size, _max_shrinks(header))
        image = vips.load_bytes("jpeg", body, shrink=shrink, access="sequential")
        image = resize(colour.to_web(image), size)
        return encode_in_quality(image, quality, cast("OutputFormat", output), encoder)
    except vips.VipsError as error:
        raise vips.as_public_error(error) from error


def _max_shrinks(header: Any) -> int:
    """How often the JPEG may be halved while it is decoded. libvips fails if no pixel is left."""
    return max(
        n for n in range(_JPEG_SHRINKS + 1) if n == 0 or min(header.width, header.height) >> n >= 8
    )
