"""From a Delivery to HTTP: the headers of every answer, conditions, ranges, HEAD, and the hot
tier's ready-made bytes.

The one invariant: an answer from memory differs from any other only in X-Served-From, Server-Timing
and X-Request-Id.
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
from orchestrator.iiif.negotiation import accepts_gzip, prefers_linked, version_from_accept
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.access_log import AccessRecord, format_line_end
from orchestrator.web.conditional_requests import ByteRange, evaluate_conditions, select_range

SERVER = "orchestrator"
REQUEST_ID = web.RequestKey("request_id", str)
OUTCOME = web.RequestKey("outcome", Delivery)
"""The delivery a handler answered with: what access log and metrics read."""
REQUEST_CLASS = web.RequestKey("request_class", str)
"""For answers without a delivery (errors, the private port): a handler may set it first thing."""

METHODS = "GET, HEAD, OPTIONS"
CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "*"),
)
QUIET = (
    ("Server", SERVER),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Timing-Allow-Origin", "*"),
)
COMMON_HEADERS = CORS + QUIET
"""On every answer, errors below the application too."""
PREFLIGHT = (
    (
        "Access-Control-Allow-Headers",
        "authorization, content-type, if-none-match, range, x-request-id",
    ),
    ("Access-Control-Max-Age", "86400"),
)

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HotEntry:
    """A complete answer but for Date and request id; `delivery` answers what is not a plain GET or
    HEAD.
    """

    head: bytes
    """From the status line up to where `Date:` follows."""
    head_not_modified: bytes
    """The same of the 304."""
    body: bytes
    """Empty where it is in `file`."""
    file: MemoryFile | None
    length: int
    """Bytes of the body, wherever it is."""
    etag: str
    request_class: str
    target: str
    log_rest: bytes
    """The end of an access log line for a plain GET."""
    delivery: Delivery
    """Without its body where that is in `file`."""
    asset: str
    """The asset's text id, by which a change drops the entry."""
    size: int
    """Bytes this entry occupies, for the tier's budget."""

    def whole(self) -> Delivery:
        """The delivery with its body."""
        return replace(self.delivery, body=self.file.read()) if self.file else self.delivery


def respond(request: web.Request, delivery: Delivery) -> web.Response:
    """The answer to this request: the whole, a part, 304, 412 or 416. Only a 200 knows conditions
    and ranges.
    """
    request[OUTCOME] = delivery
    compressed = delivery.gzip is not None and accepts_gzip(_joined(request, "Accept-Encoding"))
    body = delivery.gzip if compressed and delivery.gzip is not None else delivery.body
    headers = delivery_headers(delivery, compressed=compressed)
    if delivery.status != 200:
        return _response(delivery.status, headers, body)
    fields = _condition_fields(request)
    etag = delivery.gzip_etag if compressed else delivery.etag
    match evaluate_conditions(fields, etag, delivery.last_modified):
        case "failed":
            return _bare(412, headers)
        case "not-modified":
            return _response(304, not_modified_headers(headers))
        case "proceed":
            part = (
                select_range(fields, etag, delivery.last_modified, len(body))
                if "Range" in fields
                else None
            )
            return _whole_or_part(headers, body, part)


def delivery_headers(delivery: Delivery, *, compressed: bool = False) -> Headers:
    """The headers of this delivery in the order they are sent, but Date, X-Request-Id and Content-
    Length.
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
    return headers + _about(delivery) + list(delivery.headers)


def not_modified_headers(headers: Headers) -> Headers:
    """What of a 200's headers a 304 carries (RFC 9110, section 15.4.5)."""
    left_out = {
        "content-type",
        "content-encoding",
        "content-length",
        "accept-ranges",
        "last-modified",
    }
    return [(name, value) for name, value in headers if name.lower() not in left_out]


def format_http_date(moment: datetime) -> str:
    """As HTTP writes it; never later than now (RFC 9110, section 8.8.2.1)."""
    now = datetime.now(UTC)
    return _written(moment) if moment <= now else _written(now.replace(microsecond=0))


@lru_cache(maxsize=4096)
def _written(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


@lru_cache(maxsize=1024)
def variant(accept: str, accept_encoding: str) -> str:
    """All that Accept and Accept-Encoding can change in an answer of ours: part of a hot key where
    Vary names them.
    """
    linked = f"{prefers_linked(accept, 2):d}{prefers_linked(accept, 3):d}"
    return f"{linked}{version_from_accept(accept, 0)}{accepts_gzip(accept_encoding):d}"


def request_variant(request: web.Request) -> str:
    """The `variant` of this request."""
    return variant(_joined(request, "Accept"), _joined(request, "Accept-Encoding"))


HotKey = tuple[str, str, bytes]
"""(site, variant or "", target)."""
MAX_HOT_TARGET = 512


def make_hot_key(request: web.Request, base: str, delivery: Delivery) -> HotKey | None:
    """Where the hot tier keeps this answer to this request; None for what it must not or should not
    keep.

    `base` is the site the answer's own URLs name. Queries are left out: they change nothing and
    could be told apart without end.
    """
    target = request.raw_path
    if request.method != "GET" or not delivery.public or delivery.status != 200:
        return None
    if (
        not target.startswith("/")
        or "?" in target
        or len(target) > MAX_HOT_TARGET
        or not target.isascii()
    ):
        return None
    return base, request_variant(request) if _vary(delivery) else "", target.encode("ascii")


def keep_hot(
    hot: HotTier[HotEntry], request: web.Request, base: str, delivery: Delivery, token: int
) -> None:
    """Have the hot tier keep what this very request is answered with, if it may and can. `token`:
    the tier's, from before the asset was looked up.
    """
    key = make_hot_key(request, base, delivery)
    if key is not None and hot.takes(len(delivery.body)):
        coded = delivery.gzip is not None and accepts_gzip(_joined(request, "Accept-Encoding"))
        hot.put(key, make_hot_entry(delivery, request.raw_path, hot.files, compressed=coded), token)


def make_hot_entry(
    delivery: Delivery, target: str, files: MemoryFiles, *, compressed: bool = False
) -> HotEntry:
    """The bytes that answer a request for `target` with this; `compressed`: the gzip form."""
    kept = replace(delivery, tier="memory", timings=())
    body = delivery.gzip if compressed and delivery.gzip is not None else delivery.body
    length = len(body)
    headers = delivery_headers(kept, compressed=compressed)
    head = _head(200, "OK", [*headers, ("Content-Length", str(length))])
    unchanged = _head(304, "Not Modified", not_modified_headers(headers))
    file = files.create(body) if delivery.gzip is None else None
    if file is not None:
        body, kept = b"", replace(kept, body=b"")
    bulk = file.size if file is not None else len(delivery.body) + len(delivery.gzip or b"")
    return HotEntry(
        head=head,
        head_not_modified=unchanged,
        body=body,
        file=file,
        length=length,
        etag=delivery.gzip_etag if compressed else delivery.etag,
        request_class=delivery.request_class,
        target=target,
        log_rest=format_line_end(make_access_record(kept, 200, length, "GET", target)),
        delivery=kept,
        asset=str(delivery.asset or ""),
        size=len(head) + len(unchanged) + bulk + 1500,
    )


def make_access_record(
    delivery: Delivery, status: int, body_bytes: int, method: str, target: str, *, ms: float = 0.0
) -> AccessRecord:
    """What the access log says of this delivery, answered with this status."""
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


def _head(status: int, reason: str, headers: Headers) -> bytes:
    if any(c in text for pair in headers for text in pair for c in "\r\n\0"):
        raise ValueError("a header holds a line break")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), ""]
    return "\r\n".join(lines).encode("utf-8")


def _about(delivery: Delivery) -> Headers:
    """Who answered, why it took so long, and whose the answer is."""
    headers: Headers = []
    if delivery.tier:
        headers.append(("X-Served-From", delivery.tier))
        timings = delivery.timings or ((delivery.tier, 0.0),)
        timing = ", ".join(f"{step};dur={milliseconds:.1f}" for step, milliseconds in timings)
        headers.append(("Server-Timing", timing))
    if delivery.asset is not None:
        headers.append(("X-Asset-Id", _ascii(str(delivery.asset))))
    if delivery.surrogate_keys:
        headers.append(("Surrogate-Key", " ".join(map(_ascii, delivery.surrogate_keys))))
        headers.append(("Cache-Tag", ",".join(map(_ascii, delivery.surrogate_keys))))
    return headers


def _ascii(text: str) -> str:
    """Percent-encoded where a header's value could not hold it."""
    if text.isascii() and text.isprintable() and " " not in text and "," not in text:
        return text
    return "".join(
        c if "!" <= c <= "~" and c != "," else "".join(f"%{b:02X}" for b in c.encode())
        for c in text
    )


def _vary(delivery: Delivery) -> str:
    named = [name.strip() for name in delivery.vary.split(",") if name.strip()]
    if delivery.gzip is not None and "accept-encoding" not in {name.lower() for name in named}:
        named.append("Accept-Encoding")
    return ", ".join(named)


def _whole_or_part(headers: Headers, body: bytes, part: object) -> web.Response:
    if part == "unsatisfiable":
        return _bare(416, [*headers, ("Content-Range", f"bytes */{len(body)}")])
    if isinstance(part, ByteRange):
        headers.append(("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(body)}"))
        return _response(206, headers, body[part.start : part.stop])
    return _response(200, headers, body)


def _bare(status: int, headers: Headers) -> web.Response:
    """412 and 416: what is said of the document, without the document."""
    kept = [
        pair
        for pair in not_modified_headers(headers)
        if pair[0] not in ("ETag", "Cache-Control", "Link")
    ]
    return _response(status, [*kept, ("Cache-Control", "no-store")])


def _response(status: int, headers: Headers, body: bytes = b"") -> web.Response:
    fields = CIMultiDict(headers)
    if body or "Content-Type" in fields:
        return web.Response(status=status, headers=fields, body=body)
    return web.Response(status=status, headers=fields)


def _joined(request: web.Request, name: str) -> str:
    return ", ".join(request.headers.getall(name, ()))


def _condition_fields(request: web.Request) -> Mapping[str, str]:
    names = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
    fields = {name: _joined(request, name) for name in names if name in request.headers}
    if request.method == "GET" and "Range" in request.headers:
        fields["Range"] = _joined(request, "Range")
    return fields
