"""Named queries from the management API to the public documents: storing, the dry run, one manifest
or a collection of pages, order, rights, conditions.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.ico.conftest import Reply
from tests.integration.manifests.conftest import Library
from tests.support.presentation import canvases_of, check_document, members_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
QUERIES = "/customers/1/namedQueries"
PAGE = 5  # of the installation


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def books(library: Library) -> None:
    """Book A has three pages, one of them restricted; book B has twelve."""
    pages: list[tuple[str, dict[str, Any]]] = [
        ("a1", {"strings": ("A/1", "x", ""), "numbers": (2, 1, 0)}),
        ("a2", {"strings": ("A/1", "y", ""), "numbers": (1, 1, 0), "tags": ("map",)}),
        ("a3", {"strings": ("A/1", "x", ""), "numbers": (3, 2, 0), "roles": ("staff",)}),
        *(
            (f"b{n:02}", {"strings": ("B", "", ""), "numbers": (100 - n, n % 3, 0)})
            for n in range(12)
        ),
    ]
    for name, changes in pages:
        await library.add(name, space=3, **changes)
    await library.add("lost", space=3, strings=("A/1", "x", ""), source=None, width=0, height=0)
    await library.add("a1", space=4, strings=("A/1", "", ""), manifests=("m1",))
    for name, template in {
        "book": "s1=p1&s2=p2&space=3&assetOrder=n1",
        "everywhere": "s1=p1",
        "down": "s1=p1&space=p2&assetOrder=n2 desc;n1",
        "kept": "s1=p1&space=p2&#=3",
        "in_manifest": "manifest=p1",
        "named": "spacename=p1",
    }.items():
        body = {"name": name, "template": template}
        reply = await library.call("POST", QUERIES, body)
        assert reply.status == 201, reply.body


def labels(manifest: dict[str, Any]) -> list[str]:
    canvases = canvases_of(manifest)
    if "sequences" in manifest:
        return [each["label"] for each in canvases]
    return [each["label"]["none"][0] for each in canvases]


@pytest.mark.parametrize("version", [2, 3])
async def test_a_small_result_is_one_manifest_in_the_order_of_the_query(
    library: Library, version: int
) -> None:
    path = f"/iiif-resource/v{version}/1/book/A%2F1"
    manifest = await library.document(path)
    check_document(manifest, version)
    assert (manifest.get("id") or manifest["@id"]).endswith(path)
    # The restricted one is only a position, and what was never ingested is left out.
    assert labels(manifest) == ["a2", "a1", "3"]
    hidden = canvases_of(manifest)[2]
    assert (hidden["width"], hidden["height"]) == (1000, 1000)
    full = await library.document(path, **library.token("staff"))
    assert labels(full) == ["a2", "a1", "a3"]
    assert json.dumps(full).count("3000") == 3


QUERIED = {
    "a second argument": ("book/A%2F1/x", ["a1", "2"]),
    "a slash at the end": ("book/A%2F1/x/", ["a1", "2"]),
    "arguments that are not used": ("book/A%2F1/x/y/z", ["a1", "2"]),
    "a slash in lower case": ("book/A%2f1/y", ["a2"]),
    "every space": ("everywhere/A%2F1", ["a1", "a2", "3", "a1"]),
    "two fields, one descending": ("down/A%2F1/3", ["1", "a2", "a1"]),
    "a fixed argument": ("kept/A%2F1", ["a1", "a2", "3"]),
    "a manifest": ("in_manifest/m1", ["a1"]),
}


@pytest.mark.parametrize(("rest", "expected"), QUERIED.values(), ids=QUERIED)
async def test_arguments_select(library: Library, rest: str, expected: list[str]) -> None:
    assert labels(await library.document(f"/iiif-resource/1/{rest}")) == expected


async def test_the_id_keeps_the_customers_name_and_no_query(library: Library) -> None:
    manifest = await library.document("/iiif-resource/main/book/A%2F1?x=1")
    assert manifest["id"].endswith("/iiif-resource/main/book/A%2F1")
    assert manifest["label"] == {"none": ["book / A/1"]}


async def test_a_space_may_be_named(library: Library) -> None:
    assert (await library.get("/iiif-resource/1/named/Maps")).status == 404
    await library.site.services.catalog.spaces.rename(1, 4, "Maps")
    assert labels(await library.document("/iiif-resource/1/named/Maps")) == ["a1"]


@pytest.mark.parametrize("version", [2, 3])
async def test_a_large_result_is_a_collection_of_manifests(library: Library, version: int) -> None:
    path = f"/iiif-resource/v{version}/1/book/B"
    collection = await library.document(path)
    check_document(collection, version)
    pages = members_of(collection)
    assert [page.rpartition("?")[2] for page in pages] == ["page=1", "page=2", "page=3"]
    found: list[str] = []
    for page in pages:
        manifest = await library.document(page.removeprefix(library.site.base))
        check_document(manifest, version)
        assert (manifest.get("id") or manifest["@id"]) == page
        assert len(canvases_of(manifest)) <= PAGE
        found += labels(manifest)
    assert found == [f"b{n:02}" for n in reversed(range(12))]
    assert (await library.get(f"{path}?page=4")).status == 404
    assert (await library.get(f"{path}?page=0")).status == 400


async def test_a_manifest_is_streamed_with_an_etag_of_what_is_visible(library: Library) -> None:
    path = "/iiif-resource/v3/1/book/A%2F1"
    public = await library.get(path)
    assert "content-length" not in public.headers
    assert public.headers["cache-control"] == "public, max-age=60"
    assert {"Accept", "Authorization", "Cookie"} <= set(public.headers["vary"].split(", "))
    etag = public.headers["etag"]
    assert (await library.get(path, If_None_Match=etag)).status == 304
    head = await library.get(path, "HEAD")
    assert (head.status, head.headers["etag"], head.body) == (200, etag, b"")
    staff = await library.get(path, **library.token("staff"))
    assert staff.headers["cache-control"].startswith("private")
    assert staff.headers["etag"] != etag
    identity = await library.get(path, Accept_Encoding="identity")
    assert json.loads(identity.body) == json.loads(public.body)
    assert identity.headers["etag"] != etag
    # A change of what is hidden is not told; a change of what is visible is.
    await library.add("a3", space=3, strings=("A/1", "z", ""), numbers=(3, 2, 0), width=77)
    assert (await library.get(path)).headers["etag"] == etag
    assert (await library.get(path, **library.token("staff"))).headers["etag"] != staff.headers[
        "etag"
    ]
    await library.add("a3", space=3, strings=("A/1", "x", ""), numbers=(3, 2, 0))
    await library.add("a1", space=3, strings=("A/1", "x", ""), numbers=(2, 1, 0), tags=("new",))
    assert (await library.get(path)).headers["etag"] != etag


REFUSED = {
    "an unknown query": ("/iiif-resource/1/unknown/x", 404),
    "an unknown customer": ("/iiif-resource/unknown/book/x", 404),
    "another customer's query": ("/iiif-resource/2/book/x", 404),
    "nothing that matches": ("/iiif-resource/1/book/zzz", 404),
    "no argument": ("/iiif-resource/1/book", 400),
    "an empty argument": ("/iiif-resource/1/book/A//x", 400),
    "text for a number": ("/iiif-resource/1/down/A%2F1/x", 400),
    "no query": ("/iiif-resource/1", 400),
    "no customer": ("/iiif-resource/", 400),
    "another version": ("/iiif-resource/v4/1/book/A", 400),
    "a value that looks like SQL": ("/iiif-resource/1/book/'%20OR%20'1'='1", 404),
    "a NUL": ("/iiif-resource/1/book/%00", 400),
}


@pytest.mark.parametrize(("path", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_answered_is_refused(library: Library, path: str, status: int) -> None:
    reply = await library.get(path)
    assert reply.status == status, reply.body
    assert set(json.loads(reply.body)) == {"error", "status", "requestId"}


async def test_queries_are_managed(library: Library) -> None:
    at = f"{QUERIES}/mine"
    created = await library.call("POST", QUERIES, {"name": "mine", "template": "s1=p1"})
    assert (created.status, created.headers["location"]) == (201, at)
    assert (
        await library.call("POST", QUERIES, {"name": "mine", "template": "s1=p1"})
    ).status == 409
    assert (await library.call("PUT", at, {"template": "s2=p1"})).status == 200
    assert _json(await library.call("PATCH", at, {"template": "n1=p1"}))["template"] == "n1=p1"
    assert _json(await library.call("GET", at))["template"] == "n1=p1"
    names = [each["name"] for each in _json(await library.call("GET", QUERIES))["namedQueries"]]
    assert "mine" in names
    assert names == sorted(names)
    assert (await library.call("DELETE", at)).status == 204
    for method in ("GET", "DELETE"):
        assert (await library.call(method, at)).status == 404
    assert (await library.call("PATCH", at, {"template": "n1=p1"})).status == 404
    assert (await library.call("PUT", at, {"template": "n1=p1"})).status == 201


@pytest.mark.parametrize("template", ["", "s4=p1", "s1=p1&x", "s1=page", "assetOrdering=n1"])
async def test_a_fault_of_a_template_is_answered_400(library: Library, template: str) -> None:
    for method, path, body in (
        ("POST", QUERIES, {"name": "bad", "template": template}),
        ("PUT", f"{QUERIES}/bad", {"template": template}),
        ("PATCH", f"{QUERIES}/book", {"template": template}),
    ):
        reply = await library.call(method, path, body)
        assert reply.status == 400, reply.body
        assert "template" in json.loads(reply.body)["error"]


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "."])
async def test_a_name_that_no_path_can_have_is_refused(library: Library, name: str) -> None:
    reply = await library.call("POST", QUERIES, {"name": name, "template": "s1=p1"})
    assert reply.status == 400


async def test_a_global_query_is_every_customers_until_it_has_its_own(library: Library) -> None:
    catalog = library.site.services.catalog
    other = (await catalog.customers.create("other")).id
    assert (await library.call("PUT", "/namedQueries/shared", {"template": "s1=p1"})).status == 201
    await library.add("z", customer=other, strings=("A/1", "", ""))
    assert labels(await library.document(f"/iiif-resource/{other}/shared/A%2F1")) == ["z"]
    assert (await library.get("/iiif-resource/1/shared/none")).status == 404
    own = await library.call("PATCH", f"{QUERIES}/shared", {"template": "s2=p1"})
    assert own.status == 404  # it is not this customer's
    assert (await library.call("PUT", f"{QUERIES}/shared", {"template": "s2=p1"})).status == 201
    assert labels(await library.document("/iiif-resource/1/shared/y")) == ["a2"]


async def test_a_dry_run_shows_what_matches_regardless_of_rights(library: Library) -> None:
    at = f"{QUERIES}/book/matches"
    found = _json(await library.call("GET", f"{at}?args=A%252F1&limit=2"))
    assert found["arguments"] == ["A/1"]
    assert found["count"] == 3
    assert [each["name"] for each in found["images"]] == ["a2", "a1"]
    rest = _json(await library.call("GET", f"{at}?args=A%252F1&limit=2&after={found['next']}"))
    assert [each["name"] for each in rest["images"]] == ["a3"]
    assert rest["next"] is None
    assert (await library.call("GET", at)).status == 400
    assert (await library.call("GET", f"{at}?args=a//b")).status == 400
    assert (await library.call("GET", f"{at}?args=a&after=zzz")).status == 400
    assert (await library.call("GET", f"{QUERIES}/unknown/matches?args=a")).status == 404


async def test_many_requests_at_once_are_answered_alike(library: Library) -> None:
    paths = [f"/iiif-resource/v3/1/book/B?page={page}" for page in (1, 2, 3)] * 8
    replies = await asyncio.gather(*(library.get(path) for path in paths))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 3


def _json(reply: Reply) -> Any:
    assert reply.status < 300, reply.body
    return json.loads(reply.body)
