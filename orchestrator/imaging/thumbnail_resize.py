"""Resizing a JPEG that we made: shrunk while it is decoded, then exactly to size."""

from __future__ import annotations

from typing import Any, cast

from orchestrator.imaging import colour, vips
from orchestrator.imaging.encode import finish
from orchestrator.imaging.recipes import Encoder, OutputFormat, reduction
from orchestrator.imaging.render import resize
from orchestrator.model import Dimensions

_JPEG_SHRINKS = 3


def resized(body: bytes, size: Dimensions, quality: str, output: str, encoder: Encoder) -> bytes:
    """`body` (JPEG) at exactly `size` in an IIIF quality and format. Raises Unprocessable."""
    try:
        header = vips.load_bytes("jpeg", body)
        shrink = 2 ** reduction((header.width, header.height), size, _shrinks(header))
        image = vips.load_bytes("jpeg", body, shrink=shrink, access="sequential")
        image = resize(colour.to_web(image), size)
        return finish(image, quality, cast("OutputFormat", output), encoder)
    except vips.VipsError as error:
        raise vips.broken(error) from error


def _shrinks(header: Any) -> int:
    """How often the JPEG may be halved while it is decoded: libvips fails when nothing is left."""
    return max(
        n for n in range(_JPEG_SHRINKS + 1) if n == 0 or min(header.width, header.height) >> n >= 8
    )
