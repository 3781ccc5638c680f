"""The landing page as a function of its listing."""

from __future__ import annotations

import json

import pytest

from orchestrator.model import AssetId, AssetState
from orchestrator.web.collection_routes import CollectionRoutes
from orchestrator.web.landing_page import ListedAsset, Listing, encode_listing
from orchestrator.web.page_templates import Pages, page_policy
from orchestrator.web.public_address import PublicAddressResolver
from tests.support.builders import an_asset

BASE = "http://pictures.example"
PAGES = Pages.load("1.0")


def a_picture(name: str = "castle", **changes: object) -> ListedAsset:
    return ListedAsset.of(an_asset(id=AssetId(1, 1, name), **changes), BASE, 3)


def page(listing: Listing, **values: object) -> str:
    nothing: object = None
    addresses = PublicAddressResolver((), {})
    routes = CollectionRoutes(nothing, nothing, PAGES, addresses, default_version=3)  # type: ignore[arg-type]
    return routes.render(listing, BASE, **values).decode()  # type: ignore[arg-type]


async def test_the_listing_names_id_and_info_document_of_each_picture() -> None:
    listing = json.loads(await encode_listing(Listing((a_picture(),), f"{BASE}/?after=x")))
    assert listing["next"] == f"{BASE}/?after=x"
    assert listing["images"][0]["id"] == "1/1/castle"
    assert listing["images"][0]["info"] == a_picture().service + "/info.json"


async def test_a_picture_that_is_not_served_is_listed_apart_with_the_reason() -> None:
    broken = a_picture(
        "broken", state=AssetState.FAILED, thumbnails_version=0, error="It is cut.",
        error_code="damaged",
    )  # fmt: skip
    listing = json.loads(await encode_listing(Listing((a_picture(), broken))))
    assert [each["id"] for each in listing["images"]] == ["1/1/castle"]
    [entry] = listing["refused"]
    assert (entry["id"], entry["error"], entry["code"]) == ("1/1/broken", "It is cut.", "damaged")
    assert "It is cut." in page(Listing((broken,)))


def test_the_listed_thumbnail_has_exactly_a_size_made_at_ingest() -> None:
    assert a_picture().thumbnail.endswith("/full/400,254/0/default.jpg")


def test_an_image_smaller_than_a_thumbnail_is_listed_at_its_own_size() -> None:
    assert a_picture(width=60, height=40).thumbnail.endswith("/full/60,40/0/default.jpg")


@pytest.mark.parametrize(("edge", "size"), [(-1, "400,254"), (1000, "400,254"), (150, "150,95")])
def test_the_thumbnail_is_no_larger_than_anyone_may_see(edge: int, size: str) -> None:
    picture = a_picture(max_unauthorised=edge)
    assert picture.thumbnail.endswith(f"/full/{size}/0/default.jpg")
    assert f"/full/{size}/0/" in page(Listing((picture,)))


def test_an_asset_name_cannot_become_markup() -> None:
    text = page(Listing((a_picture('"><script>alert(1)</script>{{ root }}'),)))
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)" in text
    assert "{{ root }}" in text


def test_each_picture_links_to_its_page() -> None:
    text = page(Listing((a_picture("sub/sheet 1"),)))
    assert f'href="{BASE}/view/1/1/sub%2Fsheet%201"' in text
    assert '<span class="name">sub/sheet 1</span>' in text


@pytest.mark.parametrize(
    ("state", "word"),
    [(AssetState.REGISTERED, "preparing"), (AssetState.FAILED, "failed")],
    ids=str,
)
def test_a_picture_that_is_not_ready_is_marked(state: AssetState, word: str) -> None:
    assert f">{word}</span>" in page(Listing((a_picture(state=state),)))


def test_without_pictures_the_page_says_how_to_add_some() -> None:
    assert "orchestrator ingest" in page(Listing(()))


def test_a_page_without_pictures_before_one_with_some_does_not_say_that_there_are_none() -> None:
    text = page(Listing((), f"{BASE}/?after=x"))
    assert "No pictures yet" not in text
    assert f'rel="next" href="{BASE}/?after=x"' in text


def test_a_problem_is_shown_in_place_of_the_advice() -> None:
    text = page(Listing(()), problem="The <catalogue> does not answer.")
    assert "The &lt;catalogue&gt; does not answer." in text
    assert "No pictures yet" not in text


def test_the_policy_lets_pictures_come_from_the_hosts_of_the_image_services_only() -> None:
    policy = page_policy([a_picture().service])
    assert f"img-src 'self' {BASE} blob: data:;" in policy
    assert f"connect-src 'self' {BASE};" in policy
    assert "unsafe" not in policy


def test_a_host_with_characters_that_end_a_directive_is_not_in_the_policy() -> None:
    assert "script-src *" not in page_policy(["http://a;script-src *;/iiif/3/x"])


def test_behind_a_proxy_with_a_path_every_link_of_the_page_has_it() -> None:
    asset = ListedAsset.of(an_asset(), f"{BASE}/pictures", 3)
    text = PAGES.render(
        "collection.html", f"{BASE}/pictures", assets=[asset], next=None, first="", problem="",
        is_later_page=False, uploads="/uploads", max_search=9, search="",
    ).decode()  # fmt: skip
    assert f'href="{BASE}/pictures/view/1/1/sample"' in text
    assert 'href="/pictures/uploads"' in text
    assert 'action="/pictures/"' in text
    assert 'href="/pictures/static/page.css' in text
