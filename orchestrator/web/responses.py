"""Turns a Delivery into an HTTP response: headers, conditions, ranges, HEAD, and the ready-made
bytes of the hot tier.

The one invariant: a response from memory differs from any other only in X-Served-From,
Server-Timing and X-Request-Id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDict

from orchestrator.cache.hot.memory_files import MemoryFile, MemoryFiles
from orchestrator.cache.hot.tier import HotTier
from orchestrator.iiif.negotiation import (
    accepted_picture_formats,
    accepts_gzip,
    prefers_linked,
    version_from_accept,
)
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.access_log import AccessRecord, format_line_end
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


@dataclass(frozen=True, slots=True)
class HotEntry:
    """A complete response except for Date and request id. `delivery` answers requests that are not
    a plain GET or HEAD.
    """

    head: bytes
    """From the status line to the place where `Date:` follows."""
    head_not_modified: bytes
    """The same for status 304."""
    body: bytes
    """Empty if the body is in `file`."""
    file: MemoryFile | None
    length: int
    """Length of the body in bytes."""
    etag: str
    request_class: str
    target: str
    log_rest: bytes
    """The end of an access log line for a plain GET."""
    delivery: Delivery
    """Without its body if that is in `file`."""
    asset: str
    """The id of the asset as text, or another `hot_group`; a change drops its entries."""
    size: int
    """Bytes that this entry takes of the tier's budget."""

    def complete_delivery(self) -> Delivery:
        """Return the delivery with its body."""
        return replace(self.delivery, body=self.file.read()) if self.file else self.delivery


def respond(request: web.Request, delivery: Delivery) -> web.Response:
    """Return the response to this request: the whole body, a range, 304, 412 or 416. Conditions and
    ranges apply only to a delivery with status 200.
    """
    request[OUTCOME] = delivery
    compressed = delivery.gzip is not None and accepts_gzip(_joined(request, "Accept-Encoding"))
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
    if vary := _vary(delivery):
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
    return negotiation_variant(_joined(request, "Accept"), _joined(request, "Accept-Encoding"))


HotKey = tuple[str, str, bytes]
"""(public base URL, negotiation variant or "", request target)."""
MAX_HOT_TARGET = 512


def make_hot_key(request: web.Request, base: str, delivery: Delivery) -> HotKey | None:
    """Return the key of this response in the hot tier; None if the hot tier must not or should not
    keep it.

    `base` is the public base URL in the response. A target with a query is not kept, unless it is a
    valid signature: another query changes nothing, and a client can invent any number of them.
    """
    target = request.raw_path
    if request.method != "GET" or not delivery.public or delivery.status != 200:
        return None
    if (
        not target.startswith("/")
        or ("?" in target and not delivery.is_signed)
        or len(target) > MAX_HOT_TARGET
        or not target.isascii()
    ):
        return None
    return base, request_variant(request) if _vary(delivery) else "", target.encode("ascii")


def store_hot(
    hot: HotTier[HotEntry], request: web.Request, base: str, delivery: Delivery, token: int
) -> None:
    """Store the response to this request in the hot tier if the tier accepts it. `token`: the token
    that the tier gave before the asset was looked up.
    """
    key = make_hot_key(request, base, delivery)
    if key is not None and hot.takes(len(delivery.body)):
        coded = delivery.gzip is not None and accepts_gzip(_joined(request, "Accept-Encoding"))
        hot.put(key, make_hot_entry(delivery, request.raw_path, hot.files, compressed=coded), token)


def make_hot_entry(
    delivery: Delivery, target: str, files: MemoryFiles, *, compressed: bool = False
) -> HotEntry:
    """Return the hot entry that answers a request for `target`; `compressed`: in the gzip form."""
    stored = replace(delivery, tier="memory", timings=())
    body = delivery.gzip if compressed and delivery.gzip is not None else delivery.body
    length = len(body)
    headers = delivery_headers(stored, compressed=compressed)
    head = _encode_head(200, "OK", [*headers, ("Content-Length", str(length))])
    unchanged = _encode_head(304, "Not Modified", not_modified_headers(headers))
    file = files.create(body) if delivery.gzip is None else None
    if file is not None:
        body, stored = b"", replace(stored, body=b"")
    body_size = file.size if file is not None else len(delivery.body) + len(delivery.gzip or b"")
    return HotEntry(
        head=head,
        head_not_modified=unchanged,
        body=body,
        file=file,
        length=length,
        etag=delivery.gzip_etag if compressed else delivery.etag,
        request_class=delivery.request_class,
        target=target,
        log_rest=format_line_end(make_access_record(stored, 200, length, "GET", target)),
        delivery=stored,
        asset=delivery.hot_group or str(delivery.asset or ""),
        size=len(head) + len(unchanged) + body_size + 1500,
    )


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


def _encode_head(status: int, reason: str, headers: Headers) -> bytes:
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


def _vary(delivery: Delivery) -> str:
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


def _joined(request: web.Request, name: str) -> str:
    return ", ".join(request.headers.getall(name, ()))


def read_conditions(request: web.Request) -> Mapping[str, str]:
    """Return the headers of a request that make it conditional, or name a range."""
    names = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
    fields = {name: _joined(request, name) for name in names if name in request.headers}
    if request.method == "GET" and "Range" in request.headers:
        fields["Range"] = _joined(request, "Range")
    return fields
