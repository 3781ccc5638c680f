"""Conditions and ranges, case by case (RFC 9110, sections 13 and 14)."""

from datetime import UTC, datetime

import pytest

from orchestrator.web.conditional_requests import (
    ByteRange,
    evaluate_conditions,
    parse_http_date,
    select_range,
)

TAG = '"abc"'
THEN = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
SAME = "Sun, 01 Mar 2026 12:00:00 GMT"
BEFORE = "Sun, 01 Mar 2026 11:59:59 GMT"


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        pytest.param({}, "proceed", id="none"),
        pytest.param({"If-None-Match": TAG}, "not-modified", id="same tag"),
        pytest.param({"If-None-Match": f"W/{TAG}"}, "not-modified", id="weak tag compares weakly"),
        pytest.param({"If-None-Match": f'"a,b", {TAG}'}, "not-modified", id="list"),
        pytest.param({"If-None-Match": "*"}, "not-modified", id="star"),
        pytest.param({"If-None-Match": '"zzz"'}, "proceed", id="other tag"),
        pytest.param({"If-None-Match": "abc"}, "proceed", id="tag without quotes is none"),
        pytest.param(
            {"If-None-Match": '"zzz"', "If-Modified-Since": SAME}, "proceed", id="tag wins"
        ),
        pytest.param({"If-Modified-Since": SAME}, "not-modified", id="not modified since"),
        pytest.param({"If-Modified-Since": BEFORE}, "proceed", id="modified since"),
        pytest.param({"If-Modified-Since": "yesterday"}, "proceed", id="nonsense date"),
        pytest.param({"If-Match": TAG}, "proceed", id="match"),
        pytest.param({"If-Match": "*"}, "proceed", id="match star"),
        pytest.param({"If-Match": '"zzz"'}, "failed", id="match fails"),
        pytest.param({"If-Match": f"W/{TAG}"}, "failed", id="If-Match compares strongly"),
        pytest.param({"If-Match": TAG, "If-Unmodified-Since": BEFORE}, "proceed", id="match wins"),
        pytest.param({"If-Unmodified-Since": SAME}, "proceed", id="unmodified since"),
        pytest.param({"If-Unmodified-Since": BEFORE}, "failed", id="unmodified since fails"),
        pytest.param({"If-Match": TAG, "If-None-Match": TAG}, "not-modified", id="both hold"),
    ],
)
def test_conditions_are_evaluated_as_the_rfc_says(headers: dict[str, str], right: str) -> None:
    assert evaluate_conditions(headers, TAG, THEN) == right


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        pytest.param({"Range": "bytes=0-99"}, ByteRange(0, 100), id="first hundred"),
        pytest.param({"Range": "bytes=0-0"}, ByteRange(0, 1), id="one byte"),
        pytest.param({"Range": "bytes=-50"}, ByteRange(950, 1000), id="suffix"),
        pytest.param({"Range": "bytes=-5000"}, ByteRange(0, 1000), id="suffix longer than all"),
        pytest.param({"Range": "bytes=900-"}, ByteRange(900, 1000), id="open end"),
        pytest.param({"Range": "bytes=900-5000"}, ByteRange(900, 1000), id="end beyond"),
        pytest.param({"Range": "BYTES=1-2"}, ByteRange(1, 3), id="unit in capitals"),
        pytest.param({"Range": "bytes=1000-"}, "unsatisfiable", id="begins beyond"),
        pytest.param({"Range": "bytes=-0"}, "unsatisfiable", id="last zero bytes"),
        pytest.param({"Range": "bytes=0-1,5-6"}, None, id="several"),
        pytest.param({"Range": "cows=1-2"}, None, id="unknown unit"),
        pytest.param({"Range": "bytes=5-1"}, None, id="backwards"),
        pytest.param({"Range": "bytes=-"}, None, id="no numbers"),
        pytest.param({"Range": "bytes=" + "9" * 5000 + "-"}, None, id="endless digits"),
        pytest.param({"Range": "bytes=٣-"}, None, id="other digits"),
        pytest.param({"Range": "bytes=0-9", "If-Range": TAG}, ByteRange(0, 10), id="If-Range same"),
        pytest.param({"Range": "bytes=0-9", "If-Range": f"W/{TAG}"}, None, id="If-Range weak"),
        pytest.param({"Range": "bytes=0-9", "If-Range": '"z"'}, None, id="If-Range other"),
        pytest.param(
            {"Range": "bytes=0-9", "If-Range": SAME}, ByteRange(0, 10), id="If-Range date"
        ),
        pytest.param({"Range": "bytes=0-9", "If-Range": BEFORE}, None, id="If-Range other date"),
    ],
)
def test_one_range_is_answered_and_any_other_range_header_gets_the_whole_body(
    headers: dict[str, str], right: object
) -> None:
    assert select_range(headers, TAG, THEN, 1000) == right


@pytest.mark.parametrize(
    "text",
    ["", "x", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "0" * 5000, "Sun, 32 Mar 2026"],
)
def test_a_malformed_date_is_ignored(text: str) -> None:
    assert parse_http_date(text) is None
