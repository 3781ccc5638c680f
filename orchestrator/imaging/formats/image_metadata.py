"""The metadata that an opened image keeps: its ICC profile and its orientation.

libvips frees the metadata of some formats (HEIF, AVIF) together with the loader, although images
that were copied into memory still refer to it. `own` therefore copies it while the loader exists.
"""

from __future__ import annotations

import re
from typing import Any

import pyvips

from orchestrator.imaging.recipes import InputFormat

_PROFILE, _XMP, _ORIENTATION = "icc-profile-data", "xmp-data", "orientation"
_UNUSED = ("exif-data", _XMP, "iptc-data", "photoshop-data")
_WITH_XMP: frozenset[InputFormat] = frozenset(("jpeg", "png", "webp"))
MAX_XMP_BYTES = 4 * 1024**2
_TIFF_PREFIX = re.compile(
    rb"""xmlns:([A-Za-z_][\w.-]{0,40})\s{0,40}=\s{0,40}["']http://ns\.adobe\.com/tiff/1\.0/["']"""
)
_VALUE = rb""":Orientation(?:\s{0,40}=\s{0,40}["']|>)\s{0,40}([1-8])\s{0,40}["'<]"""


def own(image: Any, name: InputFormat) -> Any:
    """`image`, opened by the loader of format `name`, as a copy that owns the bytes of its profile
    and has its orientation (1 to 8) as the field "orientation". Other metadata is removed.
    """
    profile = read_blob(image, _PROFILE)
    orientation = _orientation(image, name)
    image = image.copy()
    for field in _UNUSED:
        if image.get_typeof(field):
            image.remove(field)
    if profile:
        image.set_type(pyvips.GValue.blob_type, _PROFILE, profile)
    elif image.get_typeof(_PROFILE):
        image.remove(_PROFILE)
    image.set_type(pyvips.GValue.gint_type, _ORIENTATION, orientation)
    return image


def read_blob(image: Any, field: str) -> bytes:
    """The bytes of a field of `image`; b"" if it has none."""
    if not image.get_typeof(field):
        return b""
    try:
        return bytes(image.get(field))
    except (RuntimeError, TypeError):  # pyvips cannot read a field of no bytes
        return b""


def _orientation(image: Any, name: InputFormat) -> int:
    """The orientation that EXIF says, else the one that XMP says, else 1. In HEIF and AVIF the
    decoder has turned the picture, and EXIF does not count (ISO/IEC 23008-12, 6.5.10 and 6.5.12).
    """
    if name == "heif":
        return 1
    stated = int(image.get(_ORIENTATION)) if image.get_typeof(_ORIENTATION) else 0
    if not stated and name in _WITH_XMP and not image.get_typeof("exif-ifd0-Orientation"):
        stated = orientation_of_xmp(read_blob(image, _XMP)) or 1
    return stated if 1 <= stated <= 8 else 1


def orientation_of_xmp(packet: bytes) -> int | None:
    """The tiff:Orientation (1 to 8) of an XMP packet; None if it has none. The packet is searched
    as text, so its entities are not expanded.
    """
    text = packet[:MAX_XMP_BYTES]
    if b"\x00" in text[:64]:
        encoding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-be"
        text = text.decode(encoding, "ignore").encode()
    prefix = _TIFF_PREFIX.search(text)
    found = re.search(re.escape(prefix[1] if prefix else b"tiff") + _VALUE, text)
    return int(found[1]) if found else None
