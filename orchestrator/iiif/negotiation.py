"""Content negotiation by Accept and Accept-Encoding (RFC 9110, section 12), with bounded work.

No function raises: an invalid header gives the default. Entries with an invalid weight are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

MAX_HEADER_CHARS = 4096
MAX_ENTRIES = 64

_LINKED = "application/ld+json"
_PLAIN = "application/json"
_HTML = "text/html"
_SPECIFICITY = {"*/*": 0, "application/*": 1}
_PART = re.compile(r'"(?:[^"\\]|\\.)*"?|[^",;]+|[,;]')
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_CONTEXT = re.compile(r"http://iiif\.io/api/(image|presentation)/([23])/context\.json")

_Entry = tuple[str, dict[str, str], float]
"""(value in lower case, parameters, weight)."""


def prefers_linked(accept: str, version: int) -> bool:
    """True if an info document of `version` is sent as application/ld+json, False for
    application/json.

    The higher weight decides, then the more specific media range, then the default of the version:
    application/ld+json for 3, application/json for 2.
    """
    linked = plain = (0.0, -1)
    for value, _, weight in _parse_entries(accept):
        rank = _SPECIFICITY.get(value, 2)
        if value in (_LINKED, *_SPECIFICITY) and rank > linked[1]:
            linked = (weight, rank)
        if value in (_PLAIN, *_SPECIFICITY) and rank > plain[1]:
            plain = (weight, rank)
    if linked == plain or linked[0] == plain[0] == 0:
        return version == 3
    return linked > plain


def prefers_json(accept: str) -> bool:
    """True if Accept asks for JSON rather than for HTML. The higher weight decides, then the first
    of the two. Media ranges (*/*, as curl sends) mean HTML.
    """
    return _comes_before(accept, _PLAIN, _HTML)


def prefers_html(accept: str) -> bool:
    """True if Accept names HTML, as browsers do, and not JSON before it. Media ranges (*/*, as curl
    sends) mean JSON.
    """
    return _comes_before(accept, _HTML, _PLAIN)


def _comes_before(accept: str, first: str, second: str) -> bool:
    """True if the first media type has the higher weight, or the same one and is named first."""
    weights: dict[str, float] = {}
    for value, _, weight in _parse_entries(accept):
        weights.setdefault(value, weight)
    one, other = weights.get(first, 0.0), weights.get(second, 0.0)
    return one > other or (
        one == other > 0 and list(weights).index(first) < list(weights).index(second)
    )


def version_from_accept(
    accept: str, default: int, api: Literal["image", "presentation"] = "image"
) -> int:
    """The version of the API (2 or 3) whose context the Accept header has as the profile of a media
    type; otherwise `default`.

    The highest weight decides, then the newer version.
    """
    best = (0.0, default)
    for _, parameters, weight in _parse_entries(accept):
        for uri in parameters.get("profile", "").split():
            match = _CONTEXT.fullmatch(uri)
            if match and match[1] == api and weight:
                candidate = (weight, int(match[2]))
                best = candidate if not best[0] else max(best, candidate)
    return best[1]


def accepted_picture_formats(accept: str) -> tuple[Literal["avif", "webp"], ...]:
    """The newer picture formats that Accept names, the preferred one first; none that it prefers
    JPEG or PNG to.

    Media ranges (image/*) do not count: clients send them without reading every format. Of equal
    weights AVIF is preferred, which is smaller.
    """
    weights = {value: weight for value, _, weight in reversed(list(_parse_entries(accept)))}
    older = max(weights.get("image/jpeg", 0.0), weights.get("image/png", 0.0))
    formats: tuple[Literal["avif", "webp"], ...] = ("avif", "webp")
    found = [(weights.get(f"image/{name}", 0.0), name) for name in formats]
    found.sort(key=lambda each: -each[0])
    return tuple(name for weight, name in found if weight > 0 and weight >= older)


def preferred_picture_format(accept: str) -> Literal["", "avif", "webp"]:
    """The newer picture format that Accept prefers; "" if it names neither, or prefers JPEG or
    PNG.
    """
    accepted = accepted_picture_formats(accept)
    return accepted[0] if accepted else ""


def accepts_gzip(accept_encoding: str) -> bool:
    """True if the client accepts gzip (by name or *) with at least the weight of identity. False
    without a header.
    """
    weights = {
        value: weight for value, _, weight in reversed(list(_parse_entries(accept_encoding)))
    }
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _parse_entries(header: str) -> Iterator[_Entry]:
    """The entries of a comma-separated header. Quoted strings may contain commas and semicolons."""
    entry: list[str] = [""]
    count = 0
    for part in _PART.findall(header[:MAX_HEADER_CHARS] + ","):
        if part == ";":
            entry.append("")
        elif part != ",":
            entry[-1] += part
        else:
            count += 1
            if count > MAX_ENTRIES:
                return
            if parsed := _parse_entry(entry):
                yield parsed
            entry = [""]


def _parse_entry(parts: list[str]) -> _Entry | None:
    value = parts[0].strip().lower()
    parameters: dict[str, str] = {}
    for part in parts[1:]:
        name, _, text = part.partition("=")
        parameters.setdefault(name.strip().lower(), text.strip().strip('"'))
    weight = parameters.get("q", "1")
    if not value or not _WEIGHT.fullmatch(weight):
        return None
    return value, parameters, float(weight)
