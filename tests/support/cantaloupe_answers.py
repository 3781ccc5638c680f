"""How Cantaloupe 6 reads a request, as far as its recorded answers show: the syntax it accepts, the
status it refuses with, the pixels it decodes, its information documents and canonical links.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

VERSION = "Cantaloupe/6.0-SNAPSHOT"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Vary": "Accept, Accept-Charset, Accept-Encoding, Accept-Language, Origin",
}
CACHED = {"Cache-Control": "max-age=2592000, public, no-transform"}
UNCACHED = {"Cache-Control": "no-cache, must-revalidate"}
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "gif": "image/gif", "tif": "image/tiff"}
UNWRITABLE = {"webp", "pdf", "jp2"}
MAX_REDUCTION = 6
MEGAPIXELS_PER_SECOND = 2.84
"""48 megapixels in 16.9 s."""
_WASTE_PIXELS = 256**2
_QUALITIES = {"default", "color", "gray", "bitonal"}
_SUPPORTS_3 = [
    *("baseUriRedirect", "canonicalLinkHeader", "cors", "jsonldMediaType", "mirroring"),
    *("profileLinkHeader", "regionByPct", "regionByPx", "regionSquare", "rotationArbitrary"),
    *("rotationBy90s", "sizeByConfinedWh", "sizeByH", "sizeByPct", "sizeByW", "sizeByWh"),
]
_SUPPORTS_2 = [*_SUPPORTS_3, "sizeByWhListed", "sizeByDistortedWh", "sizeByForcedWh"]
_MIN_SIZE, _MIN_TILE = 64, 512


class Refused(Exception):
    """Cantaloupe answers with an error status. `opened`: it read the source first."""

    def __init__(self, status: int, message: str, *, opened: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.opened = opened


@dataclass(frozen=True)
class Parameters:
    """The parsed parameters of an image request."""

    version: int
    region: str
    size: str
    rotation: str
    quality: str
    format: str

    @property
    def degrees(self) -> float:
        return float(self.rotation.removeprefix("!"))


@dataclass(frozen=True)
class Decode:
    """What the processor decodes for one answer."""

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    reduction: int
    possible_reduction: int

    @property
    def seconds(self) -> float:
        """Time that the real server takes for it."""
        return self.box[2] * self.box[3] / 4**self.reduction / 1e6 / MEGAPIXELS_PER_SECOND

    @property
    def is_wasteful(self) -> bool:
        """True if a smaller level of the file had the pixels of the answer."""
        is_large = self.box[2] * self.box[3] / 4**self.reduction > _WASTE_PIXELS
        return is_large and self.reduction < self.possible_reduction


def parse(version: int, parts: list[str]) -> Parameters:
    """The parameters of region/size/rotation/quality.format. Raises Refused."""
    region, size, rotation, last = parts
    quality, _, image_format = last.partition(".")
    if not image_format:
        raise Refused(404, "No route matched")
    numbers = r"(\d+(?:\.\d+)?)"
    if not re.fullmatch(rf"full|square|(pct:)?{numbers},{numbers},{numbers},{numbers}", region):
        raise Refused(400, "Invalid region")
    if region not in ("full", "square") and 0 in _numbers(region)[2:]:
        raise Refused(400, "The region is empty")
    up = r"\^?" if version == 3 else ""
    words = "max" if version == 3 else "max|full"
    if not re.fullmatch(
        rf"{up}({words})|{up}(\d+,|,\d+|!?\d+,\d+)|{up}pct:{numbers}", size
    ) or 0 in _numbers(size):
        raise Refused(400, "Invalid size")
    if not re.fullmatch(rf"!?{numbers}", rotation) or float(rotation.lstrip("!")) > 360:
        raise Refused(400, "Invalid rotation")
    if quality not in _QUALITIES:
        raise Refused(400, "Unsupported quality")
    if image_format not in MEDIA_TYPES and image_format not in UNWRITABLE:
        raise Refused(415, "Unknown format")
    return Parameters(version, region, size, rotation, quality, image_format)


def plan(wanted: Parameters, width: int, height: int) -> Decode:
    """What to decode for an image of this size, full-size limits included. Raises Refused."""
    if wanted.format in UNWRITABLE:
        raise Refused(415, "No processor writes it", opened=True)
    x, y, w, h = _box(wanted.region, width, height)
    if x >= width or y >= height:
        raise Refused(400, "The region is outside the image", opened=True)
    box = (x, y, min(w, width - x), min(h, height - y))
    size, scale = _size(wanted.size, box[2], box[3])
    if size[0] > box[2] or size[1] > box[3]:
        raise Refused(403 if wanted.version == 2 else 400, "Above max_scale", opened=True)
    reduction = 0
    while reduction < MAX_REDUCTION and scale <= 0.5 ** (reduction + 1) + 1e-5:
        reduction += 1
    return Decode(box, size, reduction, _possible_reduction(box, size))


def _possible_reduction(box: tuple[int, int, int, int], size: tuple[int, int]) -> int:
    level = 0
    while (
        level < MAX_REDUCTION
        and math.ceil(box[2] / 2 ** (level + 1)) >= size[0]
        and math.ceil(box[3] / 2 ** (level + 1)) >= size[1]
    ):
        level += 1
    return level


def _size(text: str, width: int, height: int) -> tuple[tuple[int, int], float]:
    """The size of the answer, and the scale from which the processor chooses the level: 1, the
    full resolution, for `w,h`.
    """
    text = text.removeprefix("^")
    if text in ("max", "full"):
        return (width, height), 1.0
    values = _numbers(text)
    if text.startswith("pct:"):
        scale = values[0] / 100
    elif text.startswith("!"):
        scale = min(values[0] / width, values[1] / height)
    elif text.startswith(","):
        scale = values[0] / height
    elif text.endswith(","):
        scale = values[0] / width
    else:
        return (int(values[0]), int(values[1])), 1.0
    size = max(1, half_up(width * scale)), max(1, half_up(height * scale))
    return size, scale


def _box(region: str, width: int, height: int) -> tuple[int, int, int, int]:
    if region == "full":
        return 0, 0, width, height
    if region == "square":
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
    x, y, w, h = _numbers(region)
    if region.startswith("pct:"):
        sides = (width, height, width, height)
        x, y, w, h = (half_up(p * side / 100) for p, side in zip((x, y, w, h), sides, strict=True))
    return int(x), int(y), int(w), int(h)


def canonical(wanted: Parameters, width: int, height: int) -> str:
    """The path in the canonical link. It scales by the whole image, which is wrong for regions."""
    region, size = wanted.region, wanted.size
    if region.startswith("pct:"):
        region = ",".join(str(each) for each in _box(region, width, height))
    if size not in ("full", "max", "^max"):
        values = _numbers(size)
        if size.startswith("pct:"):
            w, h = half_up(width * values[0] / 100), half_up(height * values[0] / 100)
        elif size.startswith(","):
            w, h = half_up(values[0] * width / height), int(values[0])
        elif size.endswith(","):
            w, h = int(values[0]), half_up(values[0] * height / width)
        else:
            w, h = int(values[0]), int(values[1])
        is_exact = re.fullmatch(r"\d+,\d+", size)
        size = f"{w},{h}" if wanted.version == 3 or is_exact else f"{w},"
    return f"{region}/{size}/{wanted.rotation}/{wanted.quality}.{wanted.format}"


def info(version: int, address: str, width: int, height: int) -> dict[str, Any]:
    """The information document; `address` is its id."""
    smaller, levels = min(width, height), 0
    while smaller / 2 ** (levels + 1) >= _MIN_SIZE:
        levels += 1
    sizes = [
        {"width": half_up(width / 2**level), "height": half_up(height / 2**level)}
        for level in range(levels, -1, -1)
    ]
    factors = [2**level for level in range(levels + 1)]
    tile = {"width": min(_MIN_TILE, width), "height": min(_MIN_TILE, height)}
    tiles = [{**tile, "scaleFactors": factors}]
    protocol = "http://iiif.io/api/image"
    if version == 2:
        facts = {"formats": ["tif", "jpg", "gif", "png"], "qualities": sorted(_QUALITIES)}
        return {
            "@context": f"{protocol}/2/context.json",
            "@id": address,
            "protocol": protocol,
            "width": width,
            "height": height,
            "sizes": sizes,
            "tiles": tiles,
            "profile": [f"{protocol}/2/level2.json", {**facts, "supports": _SUPPORTS_2}],
        }
    return {
        "@context": f"{protocol}/3/context.json",
        "id": address,
        "type": "ImageService3",
        "protocol": protocol,
        "profile": "level2",
        "width": width,
        "height": height,
        "maxArea": width * height,
        "sizes": sizes,
        "tiles": tiles,
        "extraQualities": ["bitonal", "color", "gray"],
        "extraFormats": ["tif", "gif"],
        "extraFeatures": _SUPPORTS_3,
    }


def info_media_type(version: int, accept: str) -> str:
    """The media type of an information document for an Accept header."""
    first = accept.split(",")[0].split(";")[0].strip()
    if version == 2:
        if first == "application/ld+json":
            return "application/ld+json;charset=UTF-8"
        return "application/json;charset=utf-8"
    kind = "application/json" if first == "application/json" else "application/ld+json"
    return f'{kind};charset=UTF-8;profile="http://iiif.io/api/image/3/context.json"'


def half_up(value: float) -> int:
    """The nearest whole number; halves are rounded up."""
    return math.floor(value + 0.5)


def _numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"\d+(?:\.\d+)?", text)]
