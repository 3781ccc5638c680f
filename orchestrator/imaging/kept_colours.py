"""What a pyramid keeps of its original where a policy asks for that: colours as they are stored,
the profile, the orientation.
"""

from __future__ import annotations

from typing import Any

from orchestrator.imaging import colour, profiles
from orchestrator.imaging.recipes import ConversionPolicy

_BANDS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "cmyk": 4}
_OF_8_BITS = {"grey16": "b-w", "rgb16": "srgb"}
_ORIENTATION = "orientation"


def keep_colours(image: Any, *, keep_16: bool) -> Any:
    """`image` in its own colours if they are gray, RGB or CMYK of 8 or 16 bits, otherwise as sRGB.
    16 bits become 8 unless `keep_16`.
    """
    name, kind = image.interpretation, image.format
    if kind not in ("uchar", "ushort") or image.bands - _BANDS.get(name, 0) not in (0, 1):
        return colour.to_web(image, keep_16=keep_16)
    if kind == "uchar" or keep_16:
        return image
    return (image >> 8).cast("uchar").copy(interpretation=_OF_8_BITS.get(name, name))


def without_metadata(image: Any, policy: ConversionPolicy) -> Any:
    """`image` without metadata, except for the profile and the orientation where they apply to the
    pixels that `policy` stores.
    """
    kept = {profiles.FIELD} if not policy.srgb else set[str]()
    if not policy.autorotate:
        kept.add(_ORIENTATION)
    image = image.copy()
    for name in image.get_fields():
        if name not in kept:
            image.remove(name)  # the fields of the header stay
    return image
