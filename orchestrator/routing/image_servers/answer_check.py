"""Why the answer of an image server must not be used. Pure."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.iiif.rotation import canvas_size
from orchestrator.iiif.syntax import FORMATS
from orchestrator.imaging.encoded_dimensions import dimensions_of
from orchestrator.model import Dimensions

_FIRST_BYTES = {
    "jpg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF8",
    "webp": b"RIFF",
}
_LAST_BYTES = {"jpg": b"\xff\xd9", "png": b"IEND\xaeB`\x82", "gif": b";"}
_ROUNDING_PX = 1
"""Image servers round the side that they compute, and a rotated canvas, in different ways."""


def problem_of(answer: aiohttp.ClientResponse, body: bytes, image: ResolvedImage) -> str:
    """Why these bytes must not be served, in one or two words; '' if they are complete and in the
    requested format and size.
    """
    image_format = image.format
    if answer.status != 200:
        return f"status {answer.status}"
    if answer.content_type != FORMATS[image_format]:
        return "media type"
    if not body or (answer.content_length is not None and answer.content_length != len(body)):
        return "length"
    if not body.startswith(_FIRST_BYTES[image_format]) or not body.endswith(
        _LAST_BYTES[image_format]
    ):
        return "truncated"
    sent, wanted = dimensions_of(body, image_format), canvas_size(image.size, image.rotation)
    if sent is None or any(abs(a - b) > _ROUNDING_PX for a, b in zip(sent, wanted, strict=True)):
        return "dimensions"
    return ""


def document_problem_of(answer: aiohttp.ClientResponse, body: bytes, dimensions: Dimensions) -> str:
    """Why this info document must not be used, in one or two words; '' if it is one of a picture
    of these dimensions.
    """
    if answer.status != 200:
        return f"status {answer.status}"
    if answer.content_type not in ("application/json", "application/ld+json"):
        return "media type"
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "truncated"
    if not isinstance(document, dict):
        return "truncated"
    # Cantaloupe keeps the dimensions of a file that was replaced.
    if (document.get("width"), document.get("height")) != dimensions:
        return "dimensions"
    return ""


def tile_of_document(document: dict[str, Any]) -> Dimensions | None:
    """The (width, height) of the first tiles in an info document; None if it states none."""
    match document.get("tiles"):
        case [{"width": int(width), "height": int(height)}, *_] if width > 0 and height > 0:
            return width, height
        case [{"width": int(width)}, *_] if width > 0:
            return width, width
    return None
