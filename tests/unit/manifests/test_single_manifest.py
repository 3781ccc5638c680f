"""Manifests of one image: valid in both versions with any label, thumbnails that exist, and nothing
of a restricted image that the viewer may not know.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.iiif.access_services import AccessService, AccessTexts
from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.paths import parse_path
from orchestrator.manifests.canvases import CanvasBuilder, Viewing
from orchestrator.manifests.single_manifest import single_manifest
from orchestrator.model import Asset, AssetId, ThumbnailSizes
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights
from orchestrator.settings import Manifests
from orchestrator.web.document_urls import DocumentUrls
from orchestrator.web.public_address import PublicAddress
from tests.support.builders import LANDSCAPE, an_asset
from tests.support.presentation import canvases_of, check_document

BASE = "https://images.example.org"
STAFF = Rights(frozenset({"staff"}))
ACCESS = (
    AccessService("login", "login", frozenset({"staff"}), AccessTexts("Sign in")),
    AccessService("hall", "external", frozenset({"*"}), AccessTexts("Reading room")),
    AccessService("other", "login", frozenset({"other"}), AccessTexts("Other")),
)
HOSTILE = {
    "HTML": "<script>alert('1')</script>",
    "HTML in text": 'a <b>bold</b> "label" & more',
    "right to left": "\u0645\u062e\u0637\u0648\u0637\u0629 \u202ereversed\u202c",
    "emoji": "\U0001f469\u200d\U0001f680 \U0001f5bc\ufe0f",
    "only markup": "<>",
    "a list in JSON": '[], "items": []',
    "line separators": "a\u2028b\u2029c\u00a0",
    "a lone accent": "\u0301",
}


def manifest(
    asset: Asset,
    version: int = 3,
    rights: Rights = NO_RIGHTS,
    *,
    template: str = "",
    **settings: Any,
) -> dict[str, Any]:
    builder = CanvasBuilder(Manifests(**settings), Limits(), access=ACCESS)
    urls = DocumentUrls(PublicAddress(BASE, template), 3)
    path = parse_path(f"/iiif-manifest/v{version}/1/1/{asset.id.name}")
    body = single_manifest(
        builder,
        asset,
        Viewing(urls, rights.cover),
        manifest_id=urls.requested(path),
        version=version,
    )
    document: dict[str, Any] = json.loads(body)
    return document


def the_canvas(*arguments: Any, **more: Any) -> dict[str, Any]:
    (canvas,) = canvases_of(manifest(*arguments, **more))
    return canvas


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_manifest_is_valid_with_any_text_and_keeps_it(version: int, text: str) -> None:
    asset = an_asset(strings=(text, "", ""), tags=(text, "b"), rights=text, numbers=(0, 7, 0))
    document = manifest(asset, version, label="{string1}")
    check_document(document, version)
    (canvas,) = canvases_of(document)
    shown = canvas["label"] if version == 2 else canvas["label"]["none"][0]
    assert shown in (text.strip(), f"{text.strip()} ")
    assert text in json.dumps(canvas["metadata"], ensure_ascii=False).replace('\\"', '"')


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["a b", "a/b", "100%", "\u65e5\u672c", "<i>", "a?b#c", "..a"])
def test_ids_are_addresses_with_any_name(version: int, name: str) -> None:
    asset = an_asset(id=AssetId(1, 1, name))
    builder = CanvasBuilder(Manifests(), Limits())
    urls = DocumentUrls(PublicAddress(BASE), 3)
    viewing = Viewing(urls, NO_RIGHTS.cover)
    where = urls.asset("iiif-manifest", version, asset.id)
    body = single_manifest(builder, asset, viewing, manifest_id=where, version=version)
    check_document(json.loads(body), version)
    assert parse_path(where.removeprefix(BASE)).identifier == str(asset.id)


def test_version_three_has_the_image_service_of_version_three_first() -> None:
    body = the_canvas(an_asset())["items"][0]["items"][0]["body"]
    assert body["id"] == f"{BASE}/iiif-img/v3/1/1/sample/full/1024,651/0/default.jpg"
    assert (body["width"], body["height"]) == (1024, 651)
    assert [(s.get("type"), s.get("@type")) for s in body["service"]] == [
        ("ImageService3", None),
        (None, "ImageService2"),
    ]
    assert body["service"][1]["@id"] == f"{BASE}/iiif-img/v2/1/1/sample"


def test_version_two_has_the_image_service_of_version_two_alone() -> None:
    resource = the_canvas(an_asset(), 2)["images"][0]["resource"]
    assert resource["@id"] == f"{BASE}/iiif-img/v2/1/1/sample/full/1024,651/0/default.jpg"
    assert resource["service"] == {
        "@context": "http://iiif.io/api/image/2/context.json",
        "@id": f"{BASE}/iiif-img/v2/1/1/sample",
        "profile": "http://iiif.io/api/image/2/level2.json",
    }


def test_the_thumbnail_is_the_stored_one_that_is_closest_to_200() -> None:
    (thumbnail,) = the_canvas(an_asset())["thumbnail"]
    assert thumbnail["id"] == f"{BASE}/thumbs/v3/1/1/sample/full/200,127/0/default.jpg"
    assert (thumbnail["width"], thumbnail["height"]) == (200, 127)
    service = thumbnail["service"][0]
    assert service["profile"] == "level0"
    assert [(size["width"], size["height"]) for size in service["sizes"]] == sorted(LANDSCAPE)
    tied = an_asset(thumbnails=ThumbnailSizes(open=((300, 190), (100, 63))))
    assert the_canvas(tied)["thumbnail"][0]["width"] == 300


def test_an_image_without_thumbnails_has_a_reduced_picture_of_the_image_service() -> None:
    canvas = the_canvas(an_asset(thumbnails=ThumbnailSizes()))
    (thumbnail,) = canvas["thumbnail"]
    assert thumbnail["id"] == f"{BASE}/iiif-img/v3/1/1/sample/full/200,127/0/default.jpg"
    assert thumbnail["service"][0]["profile"] == "level2"
    assert canvas["items"][0]["items"][0]["body"]["width"] == 1000


def test_labels_metadata_and_rights_are_those_of_the_settings_and_the_asset() -> None:
    asset = an_asset(
        strings=("B1", "", "x"),
        numbers=(7, 0, 0),
        tags=("map", "old"),
        rights="https://creativecommons.org/licenses/by/4.0/",
    )
    document = manifest(
        asset,
        label="{string1} / {number1} ({position})",
        metadata={"string1": "Book", "number1": "Page", "number2": "No", "tags": "Kinds"},
    )
    (canvas,) = canvases_of(document)
    assert canvas["label"] == document["label"] == {"none": ["B1 / 7 (1)"]}
    pairs = [(m["label"]["none"][0], m["value"]["none"][0]) for m in canvas["metadata"]]
    assert pairs == [("Book", "B1"), ("Page", "7"), ("Kinds", "map, old")]
    assert document["rights"] == canvas["rights"] == "http://creativecommons.org/licenses/by/4.0/"
    assert the_canvas(an_asset(), label="{string1}")["label"] == {"none": ["sample"]}


TEMPLATES = {
    "no version": ("/images/{customer}/{space}/{assetPath}", "/images/1/1/sample", "/iiif-img/v2/"),
    "prefix and version": ("/x/{prefix}/{version}/{assetPath}", "/x/iiif-img/v3/sample", "/x/"),
}


@pytest.mark.parametrize(("template", "third", "second"), TEMPLATES.values(), ids=TEMPLATES)
def test_addresses_follow_the_path_template_where_they_stay_different(
    template: str, third: str, second: str
) -> None:
    document = manifest(an_asset(), template=template)
    services = canvases_of(document)[0]["items"][0]["items"][0]["body"]["service"]
    assert services[0]["id"] == BASE + third
    assert services[1]["@id"].startswith(BASE + second)
    native = f"{BASE}/iiif-manifest/v3/1/1/sample"
    templated = f"{BASE}/x/iiif-manifest/v3/sample"
    assert document["id"] == (templated if "{prefix}" in template else native)
    assert len({document["id"], services[0]["id"], services[1]["@id"]}) == 3


HIDDEN = an_asset(
    roles=("staff",),
    strings=("secret", "", ""),
    tags=("secret",),
    rights="http://example.org/secret",
    thumbnails=ThumbnailSizes(auth=LANDSCAPE),
)


@pytest.mark.parametrize("version", [2, 3])
def test_of_an_image_that_the_public_may_not_see_only_its_existence_is_told(version: int) -> None:
    document = manifest(HIDDEN, version)
    check_document(document, version)
    (canvas,) = canvases_of(document)
    assert (canvas["width"], canvas["height"]) == (1000, 1000)
    text = json.dumps(document)
    for told in ("secret", "2543", "4000", "1024", "200,", "thumbs", "metadata", "2026"):
        assert told not in text, told
    other = replace(HIDDEN, width=9, height=9, version=5, strings=("x", "y", "z"), tags=())
    assert manifest(other, version) == document  # no change of it is told either
    for version_of_access in ({"3": "AuthProbeService2", "2": "AuthCookieService1"}[str(version)],):
        assert version_of_access in text


def test_access_services_are_described_once_and_referred_to() -> None:
    document = manifest(HIDDEN)
    assert document["@context"] == [
        "http://iiif.io/api/auth/2/context.json",
        "http://iiif.io/api/presentation/3/context.json",
    ]
    labels = [each["label"]["en"][0] for each in document["services"]]
    assert labels == ["Sign in", "Reading room"]
    body = canvases_of(document)[0]["items"][0]["items"][0]["body"]
    probes = [each for each in body["service"] if each.get("type") == "AuthProbeService2"]
    assert [each["id"] for each in probes] == [f"{BASE}/auth/v2/probe/1/1/sample"]
    assert probes[0]["service"][0] == {
        "id": f"{BASE}/auth/v2/access/1/login",
        "type": "AuthAccessService2",
    }
    assert body["service"][0]["service"] == probes
    assert "services" not in manifest(an_asset())


def test_a_viewer_with_a_role_gets_the_full_entry() -> None:
    canvas = the_canvas(HIDDEN, rights=STAFF)
    assert (canvas["width"], canvas["height"]) == (4000, 2543)
    assert canvas["label"] == {"none": ["sample"]}
    assert canvas["thumbnail"][0]["id"].endswith(
        "/iiif-img/v3/1/1/sample/full/200,127/0/default.jpg"
    )
    assert "AuthProbeService2" in json.dumps(canvas)
    other = Rights(frozenset({"other"}))
    assert the_canvas(HIDDEN, rights=other) == the_canvas(HIDDEN)


def test_what_a_limit_of_size_allows_is_told() -> None:
    asset = replace(
        HIDDEN,
        max_unauthorised=250,
        thumbnails=ThumbnailSizes(open=LANDSCAPE[2:], auth=LANDSCAPE[:2]),
    )
    canvas = the_canvas(asset)
    assert (canvas["width"], canvas["height"]) == (4000, 2543)
    assert "secret" in json.dumps(canvas["metadata"])
    body = canvas["items"][0]["items"][0]["body"]
    assert (body["width"], body["height"]) == (200, 127)
    sizes = canvas["thumbnail"][0]["service"][0]["sizes"]
    assert max(size["width"] for size in sizes) == 200
    # Thumbnails that are still filed as public after the limit became lower are not told.
    lower = replace(asset, max_unauthorised=150)
    assert the_canvas(lower)["items"][0]["items"][0]["body"]["width"] == 100
    assert the_canvas(replace(asset, max_unauthorised=50))["thumbnail"][0]["width"] == 50


@pytest.mark.parametrize("label", ["{nmae}", "{}", "{name} {string4}"])
def test_a_label_with_an_unknown_token_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="unknown token"):
        Manifests(label=label)
