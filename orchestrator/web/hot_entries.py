"""Entries of the hot tier: responses that are complete except for Date and request id, and the
heads that stay of them.

The one invariant: a response from memory differs from any other only in X-Served-From,
Server-Timing and X-Request-Id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from orchestrator.cache.disk.body_files import CachedBody
from orchestrator.cache.hot.memory_files import MemoryFile, MemoryFiles
from orchestrator.cache.hot.tier import HotTier
from orchestrator.iiif.negotiation import accepts_gzip
from orchestrator.routing.delivery_types import Delivery, etag_of
from orchestrator.web.access_log import format_line_end
from orchestrator.web.responses import (
    delivery_headers,
    encode_head,
    header_of,
    make_access_record,
    not_modified_headers,
    request_variant,
    vary_of,
)

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
    if not _may_be_hot(target) or ("?" in target and not delivery.is_signed):
        return None
    return base, request_variant(request) if vary_of(delivery) else "", target.encode("ascii")


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
    tally: str
    """Tier and request class, under which answers are counted."""
    target: str
    log_rest: bytes
    """The end of an access log line for a plain GET."""
    delivery: Delivery
    """Without its body if that is in `file`."""
    asset: str
    """The id of the asset as text, or another `hot_group`; a change drops its entries."""
    size: int
    """Bytes that this entry takes of the tier's budget."""
    cached: CachedBody | None = None
    """The body as a file of the disk cache, if it may be one."""

    def complete_delivery(self) -> Delivery:
        """Return the delivery with its body."""
        return replace(self.delivery, body=self.file.read()) if self.file else self.delivery


def _may_be_hot(target: str) -> bool:
    return target.startswith("/") and len(target) <= MAX_HOT_TARGET and target.isascii()


def store_hot(
    hot: HotTier[HotEntry], request: web.Request, base: str, delivery: Delivery, token: int
) -> None:
    """Store the response to this request in the hot tier if the tier accepts it. `token`: the token
    that the tier gave before the asset was looked up.
    """
    key = make_hot_key(request, base, delivery)
    if key is None:
        return
    if hot.takes(len(delivery.body)):
        coded = delivery.gzip is not None and accepts_gzip(header_of(request, "Accept-Encoding"))
        hot.put(key, make_hot_entry(delivery, request.raw_path, hot.files, compressed=coded), token)
    elif hot.heads is not None and delivery.product is not None:
        hot.put_head(key, make_hot_entry(delivery, request.raw_path, None), token)


def make_hot_entry(
    delivery: Delivery, target: str, files: MemoryFiles | None, *, compressed: bool = False
) -> HotEntry:
    """Return the hot entry that answers a request for `target`; `compressed`: in the gzip form.
    Without `files`, the body stays bytes.
    """
    return _make_entry(
        replace(delivery, tier="memory", timings=()), target, files, compressed=compressed
    )


def make_first_entry(delivery: Delivery, target: str) -> HotEntry:
    """Return the entry that answers one request for `target` now, from the tier of `delivery`."""
    return _make_entry(delivery, target, None)


def shorten_to_head(max_bytes: int) -> Callable[[HotEntry], HotEntry | None]:
    """Return the function that makes the head of an entry: the same response from the disk cache,
    without its body. None if the body cannot be a file there of at most `max_bytes`.
    """

    def shorten(entry: HotEntry) -> HotEntry | None:
        if entry.cached is None or entry.length > max_bytes:
            return None
        stored = replace(entry.delivery, tier="disk", timings=(), body=b"")
        head = _make_entry(stored, entry.target, None, length=entry.length)
        entry.cached.uses = 0
        return replace(head, cached=entry.cached)

    return shorten


def restore_body(head: HotEntry, body: bytes, files: MemoryFiles) -> HotEntry:
    """Return the entry with its body in memory again."""
    entry = make_hot_entry(replace(head.delivery, body=body), head.target, files)
    return replace(entry, cached=head.cached)


def _make_entry(
    stored: Delivery,
    target: str,
    files: MemoryFiles | None,
    *,
    compressed: bool = False,
    length: int | None = None,
) -> HotEntry:
    """The entry for `stored`; `length` is that of the body, if `stored` has none."""
    delivery = stored
    body = delivery.gzip if compressed and delivery.gzip is not None else delivery.body
    length = len(body) if length is None else length
    headers = delivery_headers(stored, compressed=compressed)
    head = encode_head(200, "OK", [*headers, ("Content-Length", str(length))])
    unchanged = encode_head(304, "Not Modified", not_modified_headers(headers))
    file = files.create(body) if files is not None and delivery.gzip is None else None
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
        tally=f"{stored.tier} {stored.request_class}",
        target=target,
        log_rest=format_line_end(make_access_record(stored, 200, length, "GET", target)),
        delivery=stored,
        asset=delivery.hot_group or str(delivery.asset or ""),
        size=len(head) + len(unchanged) + body_size + 1500,
        cached=_cached_body(delivery, length),
    )


def _cached_body(delivery: Delivery, length: int) -> CachedBody | None:
    if delivery.product is None or delivery.gzip is not None or not length:
        return None
    etag = delivery.etag
    return CachedBody.of(delivery.product, length, lambda body: etag_of(body) == etag)
