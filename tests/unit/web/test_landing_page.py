"""The landing page as a pure function of its listing."""

from __future__ import annotations

import gzip
import json

import pytest

from orchestrator.model import AssetId, AssetState
from orchestrator.web.landing_page import (
    LandingPage,
    ListedAsset,
    Listing,
    content_security_policy,
    encode_listing,
    load_static_files,
)


def a_picture(name: str = "castle", **changes: object) -> ListedAsset:
    values: dict[str, object] = {
        "id": AssetId(1, 1, name),
        "service": "http://pictures.example/iiif/3/1%2F1%2Fcastle",
        "width": 4000,
        "height": 2543,
    }
    return ListedAsset(**{**values, **changes})  # type: ignore[arg-type]


def test_the_listing_names_id_and_info_document_of_each_picture() -> None:
    listing = json.loads(
        encode_listing(Listing((a_picture(),), "http://pictures.example/?after=x"))
    )
    assert listing["next"] == "http://pictures.example/?after=x"
    assert listing["images"][0]["id"] == "1/1/castle"
    assert listing["images"][0]["info"] == a_picture().service + "/info.json"


def test_a_picture_that_is_not_served_is_listed_apart_with_the_reason() -> None:
    broken = a_picture("broken", width=0, height=0, error="It is cut.", code="damaged")
    listing = json.loads(encode_listing(Listing((a_picture(), broken))))
    assert [each["id"] for each in listing["images"]] == ["1/1/castle"]
    [refused] = listing["refused"]
    assert (refused["id"], refused["error"], refused["code"]) == (
        "1/1/broken",
        "It is cut.",
        "damaged",
    )


def test_the_listed_thumbnail_has_exactly_a_size_made_at_ingest() -> None:
    assert a_picture().thumbnail.endswith("/full/400,254/0/default.jpg")


def test_an_image_smaller_than_a_thumbnail_is_listed_at_its_own_size() -> None:
    assert a_picture(width=60, height=40).thumbnail.endswith("/full/60,40/0/default.jpg")


@pytest.mark.parametrize(("edge", "size"), [(None, "400,254"), (1000, "400,254"), (150, "150,95")])
def test_the_thumbnail_is_no_larger_than_anyone_may_see(edge: int | None, size: str) -> None:
    picture = a_picture(public_edge=edge)
    assert picture.thumbnail.endswith(f"/full/{size}/0/default.jpg")
    assert f"/full/{size}/0/" in LandingPage.load("1.0").html(Listing((picture,))).decode()


def test_an_asset_name_cannot_become_markup() -> None:
    page = (
        LandingPage.load("1.0")
        .html(Listing((a_picture('"><script>alert(1)</script>$x'),)))
        .decode()
    )
    assert "<script>alert" not in page
    assert "&quot;&gt;&lt;script&gt;alert(1)" in page
    assert "$x" in page


def test_a_link_fragment_contains_the_percent_encoded_id() -> None:
    page = LandingPage.load("1.0").html(Listing((a_picture("sub/sheet 1"),))).decode()
    assert 'href="#1/1/sub%252Fsheet%201"' in page
    assert '<span class="name">sub/sheet 1</span>' in page


@pytest.mark.parametrize(
    ("state", "word"),
    [(AssetState.REGISTERED, "preparing"), (AssetState.FAILED, "failed")],
    ids=str,
)
def test_a_picture_that_is_not_ready_is_marked(state: AssetState, word: str) -> None:
    assert (
        f">{word}</span>"
        in LandingPage.load("1.0").html(Listing((a_picture(state=state),))).decode()
    )


def test_without_pictures_the_page_says_how_to_add_some() -> None:
    assert b"orchestrator ingest" in LandingPage.load("1.0").html(Listing(()))


def test_a_page_without_pictures_before_one_with_some_does_not_say_that_there_are_none() -> None:
    page = LandingPage.load("1.0").html(Listing((), "http://pictures.example/?after=x")).decode()
    assert "No pictures yet" not in page
    assert 'data-next="http://pictures.example/?after=x" >' in page


def test_a_problem_is_shown_in_place_of_the_advice() -> None:
    page = (
        LandingPage.load("1.0")
        .html(Listing(()), problem="The <catalogue> does not answer.")
        .decode()
    )
    assert "The &lt;catalogue&gt; does not answer." in page
    assert "No pictures yet" not in page


def test_the_policy_lets_pictures_come_from_the_hosts_of_the_listing_only() -> None:
    policy = content_security_policy(Listing((a_picture(),)))
    assert "img-src 'self' http://pictures.example blob: data:;" in policy
    assert "connect-src 'self' http://pictures.example;" in policy


def test_a_host_with_characters_that_end_a_directive_is_not_in_the_policy() -> None:
    hostile = a_picture(service="http://a;script-src *;/iiif/3/x")
    assert "script-src *" not in content_security_policy(Listing((hostile,)))


def test_static_files_have_a_strong_tag_and_a_gzip_form_of_the_same_bytes() -> None:
    files = load_static_files()
    assert {"page.js", "page.css", "icon.svg"} <= set(files)
    for name, file in files.items():
        assert file.etag.startswith('"'), name
        assert not file.gzip or gzip.decompress(file.gzip) == file.body


def test_the_address_of_a_static_file_changes_with_its_bytes() -> None:
    page = LandingPage.load("1.0")
    tag = page.files["page.js"].etag.strip('"')
    assert f"/static/page.js?v={tag}".encode() in page.html(Listing(()))
