"""Turns a Delivery into an HTTP response: headers, conditions, ranges, HEAD. `hot_entries.py` makes
the ready-made bytes of the hot tier from the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDict

from orchestrator.iiif.negotiation import (
    accepted_picture_formats,
    accepts_gzip,
    prefers_linked,
    version_from_accept,
)
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.access_log import AccessRecord
from orchestrator.web.conditional_requests import ByteRange, evaluate_conditions, select_range

SERVER = "orchestrator"
REQUEST_ID = web.RequestKey("request_id", str)
OUTCOME = web.RequestKey("outcome", Delivery)
"""The delivery that a handler answered with; access log and metrics read it."""
REQUEST_CLASS = web.RequestKey("request_class", str)
"""The request class of responses without a delivery (errors, the private port). A handler sets it
before anything can fail.
"""

ERROR_VARY = web.RequestKey("error_vary", str)
"""The request headers that select among the answers of a route, for the Vary of its errors."""
ERROR_HEADERS = web.RequestKey("error_headers", tuple)
"""Further headers, as (name, value), of the errors of a route."""
ERROR_FIELDS = web.RequestKey("error_fields", dict)
"""Further members of the body of an error: the document that a 401 has, so that a viewer finds the
services that give access.
"""

METHODS = "GET, HEAD, OPTIONS"
COMMON_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "*"),
    ("Server", SERVER),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Timing-Allow-Origin", "*"),
)
"""Headers of every response, also of errors that the application never sees."""
PREFLIGHT = (
    (
        "Access-Control-Allow-Headers",
        "accept, authorization, cache-control, content-type, if-modified-since, if-none-match, "
        "pragma, range, x-request-id, x-requested-with",
    ),
    ("Access-Control-Max-Age", "86400"),
)

Headers = list[tuple[str, str]]


def respond(request: web.Request, delivery: Delivery) -> web.Response:
    """Return the response to this request: the whole body, a range, 304, 412 or 416. Conditions and
    ranges apply only to a delivery with status 200.
    """
    request[OUTCOME] = delivery
    compressed = delivery.gzip is not None and accepts_gzip(header_of(request, "Accept-Encoding"))
    body = delivery.gzip if compressed and delivery.gzip is not None else delivery.body
    headers = delivery_headers(delivery, compressed=compressed)
    if delivery.status != 200:
        return _response(delivery.status, headers, body)
    fields = read_conditions(request)
    etag = delivery.gzip_etag if compressed else delivery.etag
    match evaluate_conditions(fields, etag, delivery.last_modified):
        case "failed":
            return empty_response(412, headers)
        case "not-modified":
            return _response(304, not_modified_headers(headers))
        case "proceed":
            byte_range = (
                select_range(fields, etag, delivery.last_modified, len(body))
                if "Range" in fields
                else None
            )
            return _body_or_range(headers, body, byte_range)


def delivery_headers(delivery: Delivery, *, compressed: bool = False) -> Headers:
    """Return the headers of this delivery in the order in which they are sent, without Date,
    X-Request-Id and Content-Length.
    """
    headers: Headers = [("Content-Type", delivery.media_type)] if delivery.media_type else []
    headers += COMMON_HEADERS
    headers.append(("Cache-Control", delivery.cache_control))
    if delivery.etag:
        headers.append(("ETag", delivery.gzip_etag if compressed else delivery.etag))
    if delivery.last_modified is not None:
        headers.append(("Last-Modified", format_http_date(delivery.last_modified)))
    if vary := vary_of(delivery):
        headers.append(("Vary", vary))
    if compressed:
        headers.append(("Content-Encoding", "gzip"))
    if delivery.status == 200:
        headers.append(("Accept-Ranges", "bytes"))
    return headers + _origin_headers(delivery) + list(delivery.headers)


def not_modified_headers(headers: Headers) -> Headers:
    """Return those headers of a 200 that a 304 has (RFC 9110, section 15.4.5)."""
    omitted = {
        "content-type",
        "content-encoding",
        "content-length",
        "accept-ranges",
        "last-modified",
    }
    return [(name, value) for name, value in headers if name.lower() not in omitted]


def format_http_date(moment: datetime) -> str:
    """Return the time as an HTTP date, never later than now (RFC 9110, section 8.8.2.1)."""
    now = datetime.now(UTC)
    return _format_moment(moment) if moment <= now else _format_moment(now.replace(microsecond=0))


@lru_cache(maxsize=4096)
def _format_moment(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


@lru_cache(maxsize=1024)
def negotiation_variant(accept: str, accept_encoding: str) -> str:
    """Return one text for all values of Accept and Accept-Encoding that select the same response.
    It is a part of the hot key if Vary names these headers.
    """
    linked = f"{prefers_linked(accept, 2):d}{prefers_linked(accept, 3):d}"
    version, pictures = version_from_accept(accept, 0), accepted_picture_formats(accept)
    version = 10 * version + version_from_accept(accept, 0, "presentation")
    return f"{linked}{version}{accepts_gzip(accept_encoding):d}{' '.join(pictures)}"


def request_variant(request: web.Request) -> str:
    """Return the `negotiation_variant` of this request."""
    return negotiation_variant(header_of(request, "Accept"), header_of(request, "Accept-Encoding"))


def make_access_record(
    delivery: Delivery, status: int, body_bytes: int, method: str, target: str, *, ms: float = 0.0
) -> AccessRecord:
    """Return the access log record of this delivery."""
    return AccessRecord(
        asset=str(delivery.asset or ""),
        version=delivery.version,
        request_class=delivery.request_class,
        canonical=delivery.canonical,
        tier=delivery.tier,
        status=status,
        bytes=body_bytes,
        ms=ms,
        method=method,
        target=target,
    )


def encode_head(status: int, reason: str, headers: Headers) -> bytes:
    """Return the head up to the place where Date follows. Raises ValueError for a line break in a
    header.
    """
    if any(c in text for pair in headers for text in pair for c in "\r\n\0"):
        raise ValueError("a header contains a line break")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), ""]
    return "\r\n".join(lines).encode("utf-8")


def _origin_headers(delivery: Delivery) -> Headers:
    """Return the headers that name the tier, the timings, the asset and its surrogate keys."""
    headers: Headers = []
    if delivery.tier:
        headers.append(("X-Served-From", delivery.tier))
        timings = delivery.timings or ((delivery.tier, 0.0),)
        timing = ", ".join(f"{step};dur={milliseconds:.1f}" for step, milliseconds in timings)
        headers.append(("Server-Timing", timing))
    if delivery.asset is not None:
        headers.append(("X-Asset-Id", _encode_ascii(str(delivery.asset))))
    if delivery.surrogate_keys:
        headers.append(("Surrogate-Key", " ".join(map(_encode_ascii, delivery.surrogate_keys))))
        headers.append(("Cache-Tag", ",".join(map(_encode_ascii, delivery.surrogate_keys))))
    return headers


def _encode_ascii(text: str) -> str:
    """Return the text with the characters percent-encoded that a header value must not contain."""
    if text.isascii() and text.isprintable() and " " not in text and "," not in text:
        return text
    return "".join(
        c if "!" <= c <= "~" and c != "," else "".join(f"%{b:02X}" for b in c.encode())
        for c in text
    )


def vary_of(delivery: Delivery) -> str:
    """Return the Vary of this delivery, or ""."""
    names = [name.strip() for name in delivery.vary.split(",") if name.strip()]
    if delivery.gzip is not None and "accept-encoding" not in {name.lower() for name in names}:
        names.append("Accept-Encoding")
    return ", ".join(names)


def _body_or_range(headers: Headers, body: bytes, byte_range: object) -> web.Response:
    if byte_range == "unsatisfiable":
        return empty_response(416, [*headers, ("Content-Range", f"bytes */{len(body)}")])
    if isinstance(byte_range, ByteRange):
        headers.append(
            ("Content-Range", f"bytes {byte_range.start}-{byte_range.stop - 1}/{len(body)}")
        )
        return _response(206, headers, body[byte_range.start : byte_range.stop])
    return _response(200, headers, body)


def empty_response(status: int, headers: Headers) -> web.Response:
    """Return a 412 or 416: without a body and without the headers that describe one."""
    remaining = [
        pair
        for pair in not_modified_headers(headers)
        if pair[0] not in ("ETag", "Cache-Control", "Link")
    ]
    return _response(status, [*remaining, ("Cache-Control", "no-store")])


def _response(status: int, headers: Headers, body: bytes = b"") -> web.Response:
    fields = CIMultiDict(headers)
    if body or "Content-Type" in fields:
        return web.Response(status=status, headers=fields, body=body)
    return web.Response(status=status, headers=fields)


def header_of(request: web.Request, name: str) -> str:
    """Return all values of a request header as one, or ""."""
    return ", ".join(request.headers.getall(name, ()))


def read_conditions(request: web.Request) -> Mapping[str, str]:
    """Return the headers of a request that make it conditional, or name a range."""
    names = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
    fields = {name: header_of(request, name) for name in names if name in request.headers}
    if request.method == "GET" and "Range" in request.headers:
        fields["Range"] = header_of(request, "Range")
    return fields
