"""A Delivery's headers and its ready-made bytes."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from orchestrator.cache.hot.memory_files import MemoryFiles
from orchestrator.model import AssetId
from orchestrator.routing.delivery_types import Delivery, etag_of
from orchestrator.web.hot_entries import make_hot_entry
from orchestrator.web.responses import (
    delivery_headers,
    format_http_date,
    negotiation_variant,
    not_modified_headers,
)


def a_delivery(**changes: object) -> Delivery:
    values: dict[str, object] = {
        "status": 200,
        "body": b"tile",
        "media_type": "image/jpeg",
        "tier": "disk",
        "request_class": "tile",
        "cache_control": "public, max-age=3600",
        "asset": AssetId(1, 1, "p"),
        "version": 2,
        "last_modified": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "public": True,
        "surrogate_keys": ("asset-1", "space-1"),
        "timings": (("disk", 1.25), ("total", 2.0)),
    }
    return Delivery(**{**values, **changes})  # type: ignore[arg-type]


def test_the_etag_is_the_hash_of_the_body_and_the_gzip_form_has_another() -> None:
    delivery = a_delivery(gzip=b"zipped")
    assert delivery.etag == etag_of(b"tile") == a_delivery(version=9).etag
    assert len(delivery.etag) == 26
    assert etag_of(b"{}", "application/json") != etag_of(b"{}", "application/ld+json")
    assert delivery.gzip_etag == delivery.etag[:-1] + '-gz"'
    assert a_delivery(status=303).etag == ""


def test_headers_name_the_tier_the_timings_and_the_asset() -> None:
    headers = dict(delivery_headers(a_delivery()))
    assert headers["X-Served-From"] == "disk"
    assert headers["Server-Timing"] == "disk;dur=1.2, total;dur=2.0"
    assert headers["X-Asset-Id"] == "1/1/p"
    assert headers["Surrogate-Key"] == "asset-1 space-1"
    assert headers["Cache-Tag"] == "asset-1,space-1"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Last-Modified"] == "Sun, 01 Mar 2026 12:00:00 GMT"
    assert headers["Server"] == "orchestrator"
    assert "Vary" not in headers


def test_a_document_with_a_gzip_form_has_vary_in_both_encodings() -> None:
    delivery = a_delivery(gzip=b"zipped", vary="Accept")
    for compressed in (False, True):
        headers = dict(delivery_headers(delivery, compressed=compressed))
        assert headers["Vary"] == "Accept, Accept-Encoding"
        assert ("Content-Encoding" in headers) == compressed
    assert dict(delivery_headers(a_delivery(gzip=b"z", vary="Accept-Encoding")))["Vary"] == (
        "Accept-Encoding"
    )


def test_a_304_has_the_headers_for_caches_and_none_that_describe_a_body() -> None:
    names = {name for name, _ in not_modified_headers(delivery_headers(a_delivery(vary="Accept")))}
    assert {"ETag", "Cache-Control", "Vary", "Access-Control-Allow-Origin"} <= names
    assert not {"Content-Type", "Content-Length", "Last-Modified", "Accept-Ranges"} & names


def test_an_asset_name_is_percent_encoded_if_a_header_cannot_contain_it() -> None:
    headers = dict(delivery_headers(a_delivery(asset=AssetId(1, 1, "é x"))))
    assert headers["X-Asset-Id"] == "1/1/%C3%A9%20x"


def test_last_modified_is_never_later_than_now() -> None:
    written = parsedate_to_datetime(format_http_date(datetime.now(UTC) + timedelta(days=1)))
    assert written <= datetime.now(UTC)


def test_a_hot_entry_is_the_complete_response_without_date_and_request_id() -> None:
    entry = make_hot_entry(a_delivery(), "/t", MemoryFiles(1))
    lines = entry.head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert lines[-1] == ""
    assert "X-Served-From: memory" in lines
    assert "Content-Length: 4" in lines
    assert entry.head_not_modified.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b"\r\nContent-Length:" not in entry.head_not_modified
    assert entry.asset == "1/1/p"
    assert entry.size > len(entry.head) + 4


def test_a_hot_entry_of_no_asset_is_dropped_by_its_group() -> None:
    delivery = a_delivery(asset=None, hot_group="ico:folder/a.jpg")
    assert make_hot_entry(delivery, "/t", MemoryFiles(1)).asset == "ico:folder/a.jpg"


def test_a_compressed_hot_entry_holds_the_compressed_form() -> None:
    entry = make_hot_entry(a_delivery(gzip=b"zipped"), "/t", MemoryFiles(1), compressed=True)
    assert entry.body == b"zipped"
    assert b"Content-Encoding: gzip" in entry.head
    assert entry.etag.endswith('-gz"')


def test_a_header_with_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        make_hot_entry(a_delivery(headers=(("Link", "a\r\nX: y"),)), "/t", MemoryFiles(1))


def test_accept_headers_with_the_same_meaning_give_one_variant() -> None:
    assert negotiation_variant("application/json", "gzip, br") == negotiation_variant(
        "application/json;q=0.9", "gzip"
    )
    assert negotiation_variant("application/ld+json", "") != negotiation_variant(
        "application/json", ""
    )
    assert negotiation_variant("", "gzip") != negotiation_variant("", "identity")
