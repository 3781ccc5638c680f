"""Why the answer of an image server must not be used. Pure."""

from __future__ import annotations

import aiohttp

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.iiif.rotation import canvas_size
from orchestrator.iiif.syntax import FORMATS
from orchestrator.imaging.encoded_dimensions import dimensions_of

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
