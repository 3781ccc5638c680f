"""Builds info documents of the Image API 2.1 (section 5) and 3.0 (section 5), and of the level 0
thumbnail service.

A document advertises only sizes, tiles, formats and features that a request gets within the limits
in the document. Its input does not change when an image is converted, so neither does the document.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.scale import Dimensions, fit_within_area
from orchestrator.iiif.syntax import FORMATS

PROTOCOL = "http://iiif.io/api/image"
CONTEXTS = {
    2: "http://iiif.io/api/image/2/context.json",
    3: "http://iiif.io/api/image/3/context.json",
}
FALLBACK_EDGE = 1000
"""Longest edge in pixels of the one size that is advertised if no thumbnail can be."""

_LEVEL2_FORMATS = ("jpg", "png")
_QUALITIES = ("color", "gray", "bitonal")
# Features beyond level 2, by their names in the specification.
_SERVICE_FEATURES = (
    "baseUriRedirect",
    "canonicalLinkHeader",
    "cors",
    "jsonldMediaType",
    "profileLinkHeader",
)
_FEATURES = {
    2: (
        "canonicalLinkHeader",
        "mirroring",
        "profileLinkHeader",
        "regionSquare",
        "rotationArbitrary",
    ),
    3: ("canonicalLinkHeader", "mirroring", "profileLinkHeader", "rotationArbitrary"),
}
_ENLARGING = {2: "sizeAboveFull", 3: "sizeUpscaling"}


@dataclass(frozen=True, slots=True)
class InfoInput:
    """The values of the info document of one image; sides in pixels.

    `id_url` is the base URI of the image without a slash at the end. `sizes` and `scale_factors`
    ascend (see the functions `advertised_sizes` and `scale_factors`). `limits` apply to every
    client: for a restricted image they are those of the public. `formats` are those that this
    installation encodes. `services` are written without change.
    """

    id_url: str
    width: int
    height: int
    sizes: Sequence[Dimensions]
    limits: Limits
    tile_width: int = 256
    tile_height: int = 256
    scale_factors: Sequence[int] = (1,)
    formats: Sequence[str] = tuple(FORMATS)
    preferred_formats: Sequence[str] = ()
    rights: str = ""
    services: Sequence[Mapping[str, Any]] = ()
    contexts: Sequence[str] = ()
    """Contexts of `services` that have none of their own, in version 3."""


def info_document(version: int, facts: InfoInput) -> dict[str, Any]:
    """The level 2 document of version 2 or 3, with its keys in the order of the output."""
    tile = tile_shape((facts.tile_width, facts.tile_height), facts.limits)
    tiles = [{"width": tile[0], "height": tile[1], "scaleFactors": list(facts.scale_factors)}]
    return _document_2(facts, tiles) if version == 2 else _document_3(facts, tiles)


def level0_document(version: int, facts: InfoInput) -> dict[str, Any]:
    """The document of /thumbs: no tiles, and only the listed sizes. `max` is the largest of them.

    `facts.sizes` must not be empty. Limits, tiles, formats and services of `facts` are not used.
    """
    largest = {"maxWidth": facts.sizes[-1][0], "maxHeight": facts.sizes[-1][1]}
    sizes = _size_list(facts.sizes)
    if version == 2:
        supports = [*_SERVICE_FEATURES, "sizeByWhListed"]
        extras = {"formats": ["jpg"], "qualities": ["default"], "supports": supports, **largest}
        return {
            **_head_2(facts),
            "sizes": sizes,
            "profile": [profile_uri(2, level=0), extras],
            **({"license": facts.rights} if facts.rights else {}),
        }
    return {
        **_head_3(facts, level=0),
        **largest,
        "sizes": sizes,
        "preferredFormats": ["jpg"],
        **({"rights": facts.rights} if facts.rights else {}),
        "extraFeatures": list(_SERVICE_FEATURES),
    }


def restricted_document(
    version: int, id_url: str, services: Sequence[Mapping[str, Any]], contexts: Sequence[str] = ()
) -> dict[str, Any]:
    """The document of an image that the client may not see: `services` that give access, and
    nothing about the image. It has no width and height, so it is no complete info document.
    """
    described = [dict(service) for service in services]
    if version == 2:
        return {
            "@context": CONTEXTS[2],
            "@id": id_url,
            "protocol": PROTOCOL,
            "profile": [profile_uri(2)],
            "service": described[0] if len(described) == 1 else described,
        }
    return {**_identity_3(id_url, contexts, level=2), "service": described}


def profile_uri(version: int, *, level: int = 2) -> str:
    """The URI of a compliance level, for `Link` with rel="profile" and version 2's `profile`."""
    return f"{PROTOCOL}/{version}/level{level}.json"


def advertised_sizes(
    dimensions: Dimensions, thumbnails: Iterable[Dimensions], limits: Limits
) -> list[Dimensions]:
    """The thumbnails that a client may request, ascending by width. If there are none, one size."""
    width, height = dimensions
    allowed = Limits(min(width, limits.max_width), min(height, limits.max_height), limits.max_area)
    sizes = {size for size in thumbnails if _fits(size, allowed)}
    if not sizes:
        box = (min(allowed.max_width, FALLBACK_EDGE), min(allowed.max_height, FALLBACK_EDGE))
        sizes.add(fit_within_area(dimensions, box, limits.max_area))
    return sorted(sizes)


def scale_factors(dimensions: Dimensions, tile: Dimensions) -> list[int]:
    """Powers of two from 1 to the first at which one tile contains the whole image."""
    factors = [1]
    while tile[0] * factors[-1] < dimensions[0] or tile[1] * factors[-1] < dimensions[1]:
        factors.append(2 * factors[-1])
    return factors


def sizes_beside_tiles(facts: InfoInput) -> Sequence[Dimensions]:
    """The sizes to list in a document with tiles.

    OpenSeadragon before release 6, which is in Mirador 4, Clover and Tify, takes `sizes` for those
    of the levels of the tiles if there are as many of them, or one less, and then shows wrong
    regions. So there are fewer, without the smallest, or they are those of the levels.
    """
    count, sizes = len(facts.scale_factors), facts.sizes
    levels = [
        (math.ceil(facts.width / factor), math.ceil(facts.height / factor))
        for factor in reversed(facts.scale_factors)
    ]
    if len(sizes) not in (count - 1, count) or list(sizes) == levels:
        return sizes
    if count > 2:
        return sizes[len(sizes) - (count - 2) :]
    return levels if all(_fits(each, facts.limits) for each in levels) else sizes


def tile_shape(tile: Dimensions, limits: Limits) -> Dimensions:
    """`tile`, with its sides halved until a whole tile is within the limits."""
    width, height = tile
    while not _fits((width, height), limits) and (width > 1 or height > 1):
        width, height = max(1, width // 2), max(1, height // 2)
    return width, height


def _fits(size: Dimensions, limits: Limits) -> bool:
    width, height = size
    return (
        width <= limits.max_width
        and height <= limits.max_height
        and width * height <= limits.max_area
    )


def _document_2(facts: InfoInput, tiles: list[dict[str, Any]]) -> dict[str, Any]:
    extras = {
        "formats": [*_LEVEL2_FORMATS, *_extra_formats(facts)],
        "qualities": list(_QUALITIES),
        "supports": _features(2, facts.limits),
        **_limits(facts.limits),
    }
    document = {
        **_head_2(facts),
        "sizes": _size_list(sizes_beside_tiles(facts)),
        "tiles": tiles,
        "profile": [profile_uri(2), extras],
    }
    if facts.rights:
        document["license"] = facts.rights
    if facts.services:
        services = [dict(service) for service in facts.services]
        document["service"] = services[0] if len(services) == 1 else services
    return document


def _document_3(facts: InfoInput, tiles: list[dict[str, Any]]) -> dict[str, Any]:
    document = {
        **_head_3(facts, level=2),
        **_limits(facts.limits),
        "sizes": _size_list(sizes_beside_tiles(facts)),
        "tiles": tiles,
        "preferredFormats": list(facts.preferred_formats),
        "rights": facts.rights,
        "extraQualities": list(_QUALITIES),
        "extraFormats": _extra_formats(facts),
        "extraFeatures": _features(3, facts.limits),
        "service": [dict(service) for service in facts.services],
    }
    return {key: value for key, value in document.items() if value not in ("", [])}


def _head_2(facts: InfoInput) -> dict[str, Any]:
    return {
        "@context": CONTEXTS[2],
        "@id": facts.id_url,
        "protocol": PROTOCOL,
        "width": facts.width,
        "height": facts.height,
    }


def _head_3(facts: InfoInput, *, level: int) -> dict[str, Any]:
    return {
        **_identity_3(facts.id_url, facts.contexts, level=level),
        "width": facts.width,
        "height": facts.height,
    }


def _identity_3(id_url: str, contexts: Sequence[str], *, level: int) -> dict[str, Any]:
    return {
        # The context of the Image API is the last one (Image API 3.0, section 5.10).
        "@context": [*contexts, CONTEXTS[3]] if contexts else CONTEXTS[3],
        "id": id_url,
        "type": "ImageService3",
        "protocol": PROTOCOL,
        "profile": f"level{level}",
    }


def _limits(limits: Limits) -> dict[str, int]:
    return {
        "maxWidth": limits.max_width,
        "maxHeight": limits.max_height,
        "maxArea": limits.max_area,
    }


def _size_list(sizes: Iterable[Dimensions]) -> list[dict[str, int]]:
    return [{"width": width, "height": height} for width, height in sizes]


def _extra_formats(facts: InfoInput) -> list[str]:
    return [name for name in facts.formats if name not in _LEVEL2_FORMATS]


def _features(version: int, limits: Limits) -> list[str]:
    """The features beyond level 2. Enlarging is included only if the limits allow it."""
    enlarging = [_ENLARGING[version]] if limits.max_enlargement > 1 else []
    return sorted([*_FEATURES[version], *enlarging])
