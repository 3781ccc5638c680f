"""The raw path of an image request, taken apart: which route, which version, which image, which
parameters.

Every segment is percent-decoded exactly once, after splitting, so an encoded slash never makes a
segment and nothing encoded twice is ever decoded twice. What is not an image path is an error here,
before any look-up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from orchestrator.errors import InvalidImageRequest, NotFound

MAX_PATH_CHARS = 4096
MAX_IDENTIFIER_CHARS = 220
"""Longest identifier text; the same bound as an AssetId's text form."""
MAX_NUMBER_DIGITS = 9

ASSET_PREFIXES = ("iiif-img", "thumbs")
"""Routes of the shape /prefix/[v2/|v3/]customer/space/image/..."""
IDENTIFIER_PREFIX = "iiif"
"""The route of the shape /iiif/{2,3}/{identifier}/..."""

_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_RAW_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VERSION_SLUG = re.compile(r"v[0-9]")
_TEXT_ESCAPE = re.compile(r"%(2F|25)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImagePath:
    """One request path. `rest` is () for the base URI, ("info.json",) or the four image parameters,
    all decoded.

    `prefix` is iiif-img, thumbs or iiif. `version` is 2, 3 or None where the path does not say.
    `identifier` is `customer/space/name` with the name's own slashes as %2F (the AssetId text form,
    the customer as typed: a number or a name), or, below /iiif/, the decoded text.
    """

    prefix: str
    version: int | None
    identifier: str
    rest: tuple[str, ...]

    @property
    def base(self) -> str:
        """The path of the image's base URI in the shape of this request, canonically encoded,
        without a closing slash.
        """
        if self.prefix == IDENTIFIER_PREFIX:
            return f"/{self.prefix}/{self.version}/{encode_identifier(self.identifier)}"
        customer, space, text = self.identifier.split("/", 2)
        name = _TEXT_ESCAPE.sub(lambda m: "%" if m[1] == "25" else "/", text)
        slug = f"/v{self.version}" if self.version else ""
        return (
            f"/{self.prefix}{slug}/{encode_identifier(customer)}/{space}/{encode_identifier(name)}"
        )


def parse_path(raw_path: str) -> ImagePath:
    """Read a request target as it came over the wire; a query is ignored, an absolute-form target
    is understood.

    Raises InvalidImageRequest (path, identifier or version) for what no image can be asked for by,
    and NotFound for other routes and for identifiers whose slashes are not encoded (they have too
    many segments).
    """
    prefix, *rest = _segments(raw_path)
    if prefix == IDENTIFIER_PREFIX:
        return _identifier_path(rest)
    if prefix in ASSET_PREFIXES:
        return _asset_path(prefix, rest)
    raise NotFound("There is nothing at this address.")


def encode_identifier(identifier: str) -> str:
    """`identifier` as one path segment: everything but letters, digits and -._~ percent-encoded."""
    return quote(identifier, safe="")


def _segments(raw_path: str) -> list[str]:
    """The decoded segments after the leading slash."""
    path = raw_path.partition("?")[0]
    if not path.startswith("/"):
        authority = _AUTHORITY.match(path)
        path = path[authority.end() :] if authority else path
    if len(path) > MAX_PATH_CHARS:
        raise InvalidImageRequest("path", f"The path is longer than {MAX_PATH_CHARS} characters.")
    if _RAW_FORBIDDEN.search(path):
        raise InvalidImageRequest(
            "path",
            "The path holds a space, a control character or a #; write them percent-encoded.",
        )
    if not path.startswith("/"):
        raise NotFound("There is nothing at this address.")
    segments = path[1:].split("/")
    if "%" in path or not path.isascii():
        return [_decoded(segment) for segment in segments]
    return segments


def _decoded(segment: str) -> str:
    """One segment percent-decoded once as strict UTF-8."""
    if _BAD_ESCAPE.search(segment):
        raise InvalidImageRequest(
            "path", "The path holds a % that two hexadecimal digits do not follow; write %25."
        )
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeError:
        raise InvalidImageRequest("path", "The path is not percent-encoded UTF-8.") from None
    if _CONTROLS.search(text):
        raise InvalidImageRequest("path", "The path holds an encoded control character.")
    return text


def _identifier_path(segments: list[str]) -> ImagePath:
    """/iiif/{2,3}/{identifier}/..."""
    if not segments or segments[0] not in ("2", "3"):
        raise InvalidImageRequest(
            "version",
            "The version in the path is not 2 or 3, as in /iiif/3/{identifier}/info.json.",
        )
    version, *named = segments
    identifier, *rest = named or [""]
    _checked_identifier(identifier)
    if len(rest) > 4 or (len(rest) in (2, 3) and rest[-1] == "info.json"):
        raise NotFound("No identifier has so many parts. A slash inside one is written %2F.")
    return ImagePath(IDENTIFIER_PREFIX, int(version), identifier, _checked_rest(rest))


def _asset_path(prefix: str, segments: list[str]) -> ImagePath:
    """/prefix/[v2/|v3/]customer/space/image/..."""
    version = None
    if segments and _VERSION_SLUG.fullmatch(segments[0]):
        if segments[0] not in ("v2", "v3"):
            raise InvalidImageRequest("version", "The version in the path is not v2 or v3.")
        version = int(segments[0][1])
        segments = segments[1:]
    if len(segments) < 3:
        raise InvalidImageRequest("identifier", "The path does not name customer/space/image.")
    customer, space, name, *rest = segments
    if not _is_customer(customer):
        raise InvalidImageRequest(
            "identifier", "The identifier's customer is neither a number nor a name."
        )
    if not _is_number(space):
        raise InvalidImageRequest("identifier", "The identifier's space is not a number.")
    _checked_identifier(name)
    text = name.replace("%", "%25").replace("/", "%2F") if "%" in name or "/" in name else name
    return ImagePath(
        prefix, version, _checked_identifier(f"{customer}/{space}/{text}"), _checked_rest(rest)
    )


def _checked_identifier(text: str) -> str:
    """`text` if an image could have this identifier: no empty or dot part, no backslash, not too
    long.
    """
    if len(text) > MAX_IDENTIFIER_CHARS:
        raise InvalidImageRequest(
            "identifier", f"The identifier is longer than {MAX_IDENTIFIER_CHARS} characters."
        )
    parts = text.split("/")
    if "" in parts or "." in parts or ".." in parts or "\\" in text:
        raise InvalidImageRequest(
            "identifier",
            "The identifier is empty or holds an empty part, a dot part or a backslash.",
        )
    return text


def _checked_rest(rest: list[str]) -> tuple[str, ...]:
    """What follows the identifier, if it has one of the three forms."""
    if not rest or rest == [""]:
        return ()
    if len(rest) == 4 or rest == ["info.json"]:
        return tuple(rest)
    raise InvalidImageRequest(
        "path", "After the identifier comes info.json or region/size/rotation/quality.format."
    )


def _is_customer(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) <= MAX_NUMBER_DIGITS
    return text not in ("", ".", "..") and "/" not in text and "\\" not in text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS
