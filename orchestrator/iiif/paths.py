"""Parses the raw path of an image request: route, version, identifier and parameters.

The path is split first; then each segment is percent-decoded exactly once. So an encoded slash
never separates segments, and text that is encoded twice is never decoded twice. A path that cannot
name an image is refused here, before any look-up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from orchestrator.errors import InvalidImageRequest, NotFound

MAX_PATH_CHARS = 4096
MAX_IDENTIFIER_CHARS = 220
"""Longest identifier. The text form of an AssetId has the same limit."""
MAX_NUMBER_DIGITS = 9

ASSET_PREFIXES = ("iiif-img", "thumbs")
"""Routes of the form /prefix/[v2/|v3/]customer/space/image/..."""
MANIFEST_PREFIX = "iiif-manifest"
"""The route of the form /prefix/[v2/|v3/]customer/space/image, without more."""
IDENTIFIER_PREFIX = "iiif"
"""The route of the form /iiif/{2,3}/{identifier}/..."""

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

    `prefix` is iiif-img, thumbs or iiif. `version` is 2 or 3, or None if the path has no version.
    `identifier` is `customer/space/name` with the slashes of the name as %2F (the text form of an
    AssetId, with the customer's number or name as in the path). Below /iiif/ it is the decoded
    text.
    """

    prefix: str
    version: int | None
    identifier: str
    rest: tuple[str, ...]

    @property
    def base(self) -> str:
        """The path of the base URI of the image, in the route of this request, canonically encoded,
        without a slash at the end.
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
    """Parse a request target as the client sent it. The query is ignored. The target may be in
    absolute form.

    Raises InvalidImageRequest (path, identifier or version) if the target cannot name an image, and
    NotFound for other routes and for identifiers whose slashes are not encoded (they have too many
    segments).
    """
    prefix, *rest = _split_path(raw_path)
    if prefix == IDENTIFIER_PREFIX:
        return _parse_identifier_path(rest)
    if prefix in ASSET_PREFIXES:
        return _parse_asset_path(prefix, rest)
    if prefix == MANIFEST_PREFIX:
        path = _parse_asset_path(prefix, rest)
        if not path.rest:
            return path
    raise NotFound("No resource has this address. Check the path.")


@dataclass(frozen=True, slots=True)
class DocumentPath:
    """The path of a document about a customer's assets: `/prefix/[v2/|v3/]customer/...`. `rest` are
    the decoded segments after the customer, none of them empty.
    """

    prefix: str
    version: int | None
    customer: str
    rest: tuple[str, ...]

    @property
    def canonical(self) -> str:
        """The path, canonically encoded, without a slash at the end."""
        slug = (f"v{self.version}",) if self.version else ()
        parts = (self.prefix, *slug, self.customer, *self.rest)
        return "".join(f"/{encode_identifier(part)}" for part in parts)


def parse_document_path(raw_path: str) -> DocumentPath:
    """Parse the target of a document about a customer's assets. One slash at the end is ignored.
    Raises InvalidImageRequest (path, identifier or version).
    """
    prefix, *segments = _split_path(raw_path)
    version, segments = _take_version(segments)
    if segments and segments[-1] == "":
        segments.pop()
    if not segments or not _is_customer(segments[0]):
        raise InvalidImageRequest("identifier", "The path must contain a customer after /.")
    if "" in segments:
        raise InvalidImageRequest("path", "A part of the path is empty. Leave out the second /.")
    return DocumentPath(prefix, version, segments[0], tuple(segments[1:]))


@lru_cache(maxsize=256)
def encode_identifier(identifier: str) -> str:
    """`identifier` as one path segment. All but letters, digits and -._~ is percent-encoded.

    A document has several addresses of each asset, so the last ones are remembered.
    """
    return quote(identifier, safe="")


def _split_path(raw_path: str) -> list[str]:
    """The decoded segments after the leading slash."""
    path = raw_path.partition("?")[0]
    if not path.startswith("/"):
        authority = _AUTHORITY.match(path)
        path = path[authority.end() :] if authority else path
    if len(path) > MAX_PATH_CHARS:
        raise InvalidImageRequest(
            "path", f"The path must have at most {MAX_PATH_CHARS} characters."
        )
    if _RAW_FORBIDDEN.search(path):
        raise InvalidImageRequest(
            "path",
            "The path contains a space, a control character or a #. Percent-encode it.",
        )
    if not path.startswith("/"):
        raise NotFound("No resource has this address. Check the path.")
    segments = path[1:].split("/")
    if "%" in path or not path.isascii():
        return [_decode_segment(segment) for segment in segments]
    return segments


def _decode_segment(segment: str) -> str:
    """One segment percent-decoded once as strict UTF-8."""
    if _BAD_ESCAPE.search(segment):
        raise InvalidImageRequest(
            "path", "The path contains a % without two hexadecimal digits after it. Write %25."
        )
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeError:
        raise InvalidImageRequest(
            "path", "The path is not valid UTF-8. Encode it as UTF-8, then percent-encode it."
        ) from None
    if _CONTROLS.search(text):
        raise InvalidImageRequest(
            "path", "The path contains an encoded control character. Remove it."
        )
    return text


def _parse_identifier_path(segments: list[str]) -> ImagePath:
    """/iiif/{2,3}/{identifier}/..."""
    if not segments or segments[0] not in ("2", "3"):
        raise InvalidImageRequest(
            "version",
            "The version in the path must be 2 or 3, as in /iiif/3/{identifier}/info.json.",
        )
    version, *named = segments
    identifier, *rest = named or [""]
    _check_identifier(identifier)
    if len(rest) > 4 or (len(rest) in (2, 3) and rest[-1] == "info.json"):
        raise NotFound("The path has too many parts. Write a slash in the identifier as %2F.")
    return ImagePath(IDENTIFIER_PREFIX, int(version), identifier, _check_rest(rest))


def _parse_asset_path(prefix: str, segments: list[str]) -> ImagePath:
    """/prefix/[v2/|v3/]customer/space/image/..."""
    version, segments = _take_version(segments)
    if len(segments) < 3:
        raise InvalidImageRequest(
            "identifier", "The path must contain an identifier: customer/space/image."
        )
    customer, space, name, *rest = segments
    if not _is_customer(customer):
        raise InvalidImageRequest(
            "identifier", "The customer in the identifier must be a number or a name."
        )
    if not _is_number(space):
        raise InvalidImageRequest("identifier", "The space in the identifier must be a number.")
    _check_identifier(name)
    text = name.replace("%", "%25").replace("/", "%2F") if "%" in name or "/" in name else name
    return ImagePath(
        prefix, version, _check_identifier(f"{customer}/{space}/{text}"), _check_rest(rest)
    )


def _take_version(segments: list[str]) -> tuple[int | None, list[str]]:
    """The version at the beginning, if there is one, and the segments after it."""
    if not segments or not _VERSION_SLUG.fullmatch(segments[0]):
        return None, segments
    if segments[0] not in ("v2", "v3"):
        raise InvalidImageRequest("version", "The version in the path must be v2 or v3.")
    return int(segments[0][1]), segments[1:]


def _check_identifier(text: str) -> str:
    """`text` if an image can have this identifier: no empty part, no dot part, no backslash, not
    too long. Raises InvalidImageRequest.
    """
    if len(text) > MAX_IDENTIFIER_CHARS:
        raise InvalidImageRequest(
            "identifier", f"The identifier must have at most {MAX_IDENTIFIER_CHARS} characters."
        )
    parts = text.split("/")
    if "" in parts or "." in parts or ".." in parts or "\\" in text:
        raise InvalidImageRequest(
            "identifier",
            "The identifier must have no empty part, no part . or .. and no backslash.",
        )
    return text


def _check_rest(rest: list[str]) -> tuple[str, ...]:
    """The segments after the identifier, in one of the three forms. Raises InvalidImageRequest."""
    if not rest or rest == [""]:
        return ()
    if len(rest) == 4 or rest == ["info.json"]:
        return tuple(rest)
    raise InvalidImageRequest(
        "path",
        "After the identifier write info.json or region/size/rotation/quality.format.",
    )


def _is_customer(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) <= MAX_NUMBER_DIGITS
    return text not in ("", ".", "..") and "/" not in text and "\\" not in text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS
