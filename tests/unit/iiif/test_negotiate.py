"""Accept and Accept-Encoding: weights, profiles and invalid headers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.iiif.negotiation import (
    accepts_gzip,
    preferred_picture_format,
    prefers_html,
    prefers_json,
    prefers_linked,
    version_from_accept,
)
from tests.support.patience import patience

LINKED, PLAIN = "application/ld+json", "application/json"
TWO, THREE = (f"http://iiif.io/api/image/{version}/context.json" for version in (2, 3))


@pytest.mark.parametrize(
    ("accept", "two", "three"),
    [
        ("", False, True),
        ("*/*", False, True),
        ("text/html", False, True),
        (LINKED, True, True),
        (LINKED.upper(), True, True),
        (f'{LINKED};profile="{THREE}"', True, True),
        (f"{PLAIN};q=0.5, {LINKED}", True, True),
        (f"{PLAIN}, {LINKED};q=0.1", False, False),
        (PLAIN, False, False),
        (f"{PLAIN}, {LINKED}", False, True),
        (f"{LINKED}, */*", True, True),
        (f"{PLAIN}, */*", False, False),
        (f"{LINKED};q=0, */*", False, False),
        (f"{PLAIN};q=0, application/*", True, True),
        (f"{LINKED};q=nonsense", False, True),
        (f"{LINKED};q=0", False, True),
        (f"{PLAIN};q=0.001, {LINKED};q=0.002", True, True),
        (f'{LINKED};profile="a,b;c";q=0.2, {PLAIN};q=0.3', False, False),
        (',;=",', False, True),
        ('"unclosed', False, True),
    ],
)
def test_accept_decides_between_ld_json_and_json(accept: str, two: bool, three: bool) -> None:
    assert prefers_linked(accept, 2) is two
    assert prefers_linked(accept, 3) is three


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (f'{LINKED};profile="{TWO}"', 2),
        (f'{LINKED};profile="{THREE}"', 3),
        (f"{LINKED};profile={TWO}", 2),
        (f'{PLAIN}; profile = "{TWO}"', 2),
        (f'{LINKED};profile="http://example.org/x {TWO}"', 2),
        (f'{LINKED};profile="{TWO}", {LINKED};profile="{THREE}"', 3),
        (f'{LINKED};profile="{TWO}", {LINKED};profile="{THREE}";q=0.5', 2),
        (f'{LINKED};profile="{TWO}";q=0', None),
        (LINKED, None),
        ("", None),
        (f'{LINKED};profile="http://iiif.io/api/image/4/context.json"', None),
    ],
)
def test_the_profile_names_the_version(accept: str, version: int | None) -> None:
    for default in (2, 3):
        assert version_from_accept(accept, default) == (version or default)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0.1, identity", False),
        ("gzip;q=2", False),
        ("gzip;q=", False),
        ("br", False),
    ],
)
def test_gzip_is_sent_only_if_the_client_accepts_it_as_much_as_identity(
    header: str, accepted: bool
) -> None:
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", ""),
        ("*/*", ""),
        ("image/*", ""),
        ("image/webp", "webp"),
        ("image/avif,image/webp,image/*;q=0.8", "avif"),
        ("image/avif;q=0.5,image/webp", "webp"),
        ("image/webp;q=0", ""),
        ("image/webp;q=0.5,image/jpeg", ""),
        ("image/webp,image/jpeg;q=0.9", "webp"),
        ("image/webp;q=2", ""),
    ],
)
def test_accept_prefers_a_newer_picture_format_only_by_name(accept: str, preferred: str) -> None:
    assert preferred_picture_format(accept) == preferred


@given(st.text(max_size=200) | st.text(alphabet='application/ld+json;q=0.5,* "\\', max_size=200))
def test_any_header_gives_a_decision(header: str) -> None:
    assert prefers_linked(header, 3) in (True, False)
    assert version_from_accept(header, 3) in (2, 3)
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize(
    "header",
    ["a/b;q=0.1," * 80_000, '"' * 100_000, '"\\' * 100_000, "," * 100_000, ";" * 100_000],
    ids=["entries", "quotes", "escapes", "commas", "semicolons"],
)
def test_a_huge_header_is_not_read_to_its_end(header: str) -> None:
    started = time.perf_counter()
    for default in (2, 3):
        assert version_from_accept(header, default) == default
    assert prefers_linked(header, 3)
    assert not accepts_gzip(header)
    assert time.perf_counter() - started < 0.5 * patience()


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("application/json, text/html", True),
        ("text/html, application/json", False),
        ("text/html;q=0.5, application/json", True),
        ("application/json;q=0.5, text/html", False),
        ("application/json;q=0, */*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
    ],
)
def test_the_landing_page_is_json_only_if_accept_prefers_it(accept: str, json: bool) -> None:
    assert prefers_json(accept) is json


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, text/html", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
    ],
)
def test_errors_and_the_admin_page_are_html_only_if_accept_names_it(
    accept: str, html: bool
) -> None:
    assert prefers_html(accept) is html
