"""The values that documents of both versions of the Presentation API are made from, and what both
say in the same way.

Texts are plain. A reader takes a text that begins with < and ends with > for HTML (3.0, section
4.4; 2.1, section 4.3), so such a text gets a space at its end, as 3.0 recommends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.iiif.scale import Dimensions

CONTEXTS = {
    2: "http://iiif.io/api/presentation/2/context.json",
    3: "http://iiif.io/api/presentation/3/context.json",
}
HIDDEN_DIMENSIONS: Dimensions = (1000, 1000)
"""(width, height) of the canvas of an image of which a viewer may know nothing."""

_RIGHTS_URI = re.compile(r"https?://[^\s<>\"{}|\\^`\x00-\x20]+", re.IGNORECASE)
_REGISTERED = re.compile(r"https?://(www\.)?(creativecommons\.org|rightsstatements\.org)(/.*)")

Document = dict[str, Any]
Services = Mapping[int, str]
"""The base URI of an image service for each version of the Image API."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of `size`. With `sizes` the services have these sizes alone (level 0)."""

    size: Dimensions
    services: Services
    sizes: Sequence[Dimensions] = ()


@dataclass(frozen=True, slots=True)
class CanvasInput:
    """One image as a viewer may know it. `access_2` and `access_1` are the services of the IIIF
    Authorization Flow API 2.0 and of the Authentication API 1.0, for a restricted image.
    """

    id: str
    label: str
    services: Services
    dimensions: Dimensions = HIDDEN_DIMENSIONS
    image: Dimensions | None = None
    """(width, height) of the picture that stands for the canvas; None: not known to the viewer."""
    thumbnail: Thumbnail | None = None
    metadata: Sequence[tuple[str, str]] = ()
    rights: str = ""
    access_2: Sequence[Mapping[str, Any]] = ()
    access_1: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """Another document, as a member of a collection or as what this one is a part of."""

    id: str
    label: str
    type: Literal["Manifest", "Collection"] = "Manifest"
    thumbnail: Thumbnail | None = None


@dataclass(frozen=True, slots=True)
class ManifestInput:
    """A manifest without its canvases. `services` are the access services that its canvases refer
    to; `is_restricted` is True if one of them has any.
    """

    id: str
    label: str
    metadata: Sequence[tuple[str, str]] = ()
    rights: str = ""
    thumbnail: Thumbnail | None = None
    services: Sequence[Mapping[str, Any]] = ()
    is_restricted: bool = False
    part_of: Reference | None = None


@dataclass(frozen=True, slots=True)
class CollectionInput:
    """A collection without its members."""

    id: str
    label: str
    holds: Literal["Manifest", "Collection"]
    """The type of all its members."""
    part_of: Reference | None = None


def plain(text: str) -> str:
    """The text, with a space at its end if a reader would take it for HTML."""
    return f"{text} " if text.startswith("<") and text.endswith(">") else text


def picture_uri(services: Services, version: int, size: Dimensions) -> str:
    """The URI of the whole image at this size from the service of this version, or the other."""
    base = services.get(version) or next(iter(services.values()))
    return f"{base}/full/{size[0]},{size[1]}/0/default.jpg"


def rights_uri(rights: str) -> str:
    """The rights statement if it is a URI, else "". Those of Creative Commons and
    RightsStatements.org have the form that 3.0 demands (section 3.3).
    """
    if not _RIGHTS_URI.fullmatch(rights):
        return ""
    known = _REGISTERED.fullmatch(rights)
    return f"http://{known[2]}{known[3]}" if known else rights


def size_list(sizes: Sequence[Dimensions]) -> list[dict[str, int]]:
    """Sizes as an image service lists them, ascending."""
    return [{"width": width, "height": height} for width, height in sorted(sizes)]


def sides(size: Dimensions | None) -> Document:
    """The properties of a picture of this size; none if the size is not known."""
    return {} if size is None else {"width": size[0], "height": size[1]}


def without_empty(document: Document) -> Document:
    """The document without empty texts and lists."""
    return {key: value for key, value in document.items() if value not in ("", [])}
