"""/iiif-manifest over HTTP: versions, conditions, rights, caching."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrator.catalog.asset_edits import AssetChange
from tests.integration.manifests.conftest import Library
from tests.support.patience import patience
from tests.support.presentation import check_document

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILES = {
    2: "http://iiif.io/api/presentation/2/context.json",
    3: "http://iiif.io/api/presentation/3/context.json",
}


@pytest.mark.parametrize("version", [2, 3])
async def test_the_version_is_that_of_the_path_or_of_accept(library: Library, version: int) -> None:
    await library.add("one")
    by_path = await library.document(f"/iiif-manifest/v{version}/1/1/one")
    check_document(by_path, version)
    linked = f'application/ld+json;profile="{PROFILES[version]}"'
    reply = await library.get("/iiif-manifest/1/1/one", Accept=linked)
    assert reply.headers["content-type"] == linked
    assert "Accept" in reply.headers["vary"]
    check_document(json.loads(reply.body), version)
    assert json.loads(reply.body).get("id", "").endswith("/iiif-manifest/1/1/one") == (version == 3)
    plain = await library.get(f"/iiif-manifest/v{version}/1/1/one", Accept="application/json")
    assert plain.headers["content-type"] == "application/json"
    assert PROFILES[version] in plain.headers["link"]
    assert json.loads(plain.body) == by_path


async def test_conditions_head_gzip_and_cors(library: Library) -> None:
    await library.add("one")
    path = "/iiif-manifest/1/1/one"
    first = await library.get(path, Accept_Encoding="identity")
    assert first.headers["access-control-allow-origin"] == "*"
    assert first.headers["cache-control"].startswith("public")
    assert first.headers["last-modified"]
    unchanged = await library.get(
        path, If_None_Match=first.headers["etag"], Accept_Encoding="identity"
    )
    assert (unchanged.status, unchanged.body) == (304, b"")
    head = await library.get(path, "HEAD", Accept_Encoding="identity")
    assert head.headers["content-length"] == str(len(first.body))
    assert head.body == b""
    async with library.site.session.get(f"{library.site.base}{path}") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.read() == first.body
    options = await library.get(path, "OPTIONS")
    assert options.status in (200, 204)


async def test_what_is_no_image_is_refused(library: Library) -> None:
    for path, status in {
        "/iiif-manifest/1/1/unknown": 404,
        "/iiif-manifest/unknown/1/one": 404,
        "/iiif-manifest/v4/1/1/one": 400,
        "/iiif-manifest/1/x/one": 400,
        "/iiif-manifest/1/1": 400,
        "/iiif-manifest/1/1/one/info.json": 404,
        "/iiif-manifest/1/1/%zz": 400,
    }.items():
        reply = await library.get(path)
        assert reply.status == status, path
        assert set(json.loads(reply.body)) == {"error", "status", "requestId"}


async def test_the_customer_may_be_a_name_which_the_id_keeps(library: Library) -> None:
    await library.add("one")
    document = await library.document("/iiif-manifest/main/1/one")
    assert document["id"].endswith("/iiif-manifest/main/1/one")
    assert document["items"][0]["id"].endswith("/iiif-manifest/1/1/one/canvas/1")


async def test_a_change_of_the_description_is_in_the_next_answer(library: Library) -> None:
    # A name of its own: the notice of this registration may come after the first request, which
    # would be answered from memory if another test had requested the same document.
    asset = await library.add("described", strings=("before", "", ""))
    path = "/iiif-manifest/v3/1/1/described"
    assert b"before" in (await library.get(path)).body  # and now in memory
    change = AssetChange(strings=("after", "", ""))
    await library.site.services.catalog.edits.change(asset.id, change)
    async with asyncio.timeout(10 * patience()):
        while b"after" not in (await library.get(path)).body:
            await asyncio.sleep(0.02)


async def test_answers_about_restricted_images_depend_on_the_rights(library: Library) -> None:
    await library.add("secret", roles=("staff",), strings=("hidden", "", ""))
    path = "/iiif-manifest/v3/1/1/secret"
    public = await library.get(path)
    full = await library.get(path, **library.token("staff"))
    assert b"hidden" not in public.body
    assert b"hidden" in full.body
    for reply in (public, full):
        assert reply.headers["cache-control"].startswith("private")
        assert {"Authorization", "Cookie"} <= set(reply.headers["vary"].split(", "))
        assert "last-modified" not in reply.headers
    assert public.headers["etag"] != full.headers["etag"]
    for other in (library.token("other"), {"Cookie": "orchestrator-token=x"}):
        assert (await library.get(path, **other)).body == public.body
    as_staff = {**library.token("staff"), "If_None_Match": public.headers["etag"]}
    assert (await library.get(path, **as_staff)).status == 200


async def test_an_image_that_was_never_ingested_has_no_manifest(library: Library) -> None:
    await library.add("declared", source=None, width=0, height=0)
    assert (await library.get("/iiif-manifest/1/1/declared")).status == 404
