"""The dimensions that an encoded JPEG or PNG states in its headers. No pixel is decoded."""

from __future__ import annotations

import io
import struct

from orchestrator.imaging.formats.jpeg_structure import read_frame
from orchestrator.model import Dimensions

_PNG_HEAD = 24
"""Bytes of a PNG up to the height: signature, length and type of the first chunk, two numbers."""


def dimensions_of(body: bytes, image_format: str) -> Dimensions | None:
    """(width, height) in pixels of an image in the format `jpg` or `png`; None if its headers state
    none.
    """
    if image_format == "png":
        if len(body) < _PNG_HEAD or body[12:16] != b"IHDR":
            return None
        width, height = struct.unpack_from(">II", body, 16)
        return width, height
    frame = read_frame(io.BytesIO(body))
    return None if frame is None else frame.dimensions
