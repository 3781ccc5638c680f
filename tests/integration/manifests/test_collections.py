"""Collections of customers and spaces: only what the viewer may see, in pages."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.manifests.conftest import Library
from tests.support.presentation import check_document, members_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def customer(library: Library) -> int:
    """A customer with a space of two images, one of them hidden, one of twelve, a hidden one."""
    catalog = library.site.services.catalog
    customer = (await catalog.customers.create("Museum <b>")).id
    await library.add("seen", customer, 1)
    await library.add("secret", customer, 1, roles=("staff",))
    for n in range(12):
        await library.add(f"n{n:02}", customer, 2)
    await library.add("secret", customer, 9, max_unauthorised=0)
    await library.add("declared", customer, 10, source=None, width=0, height=0)
    await catalog.spaces.rename(customer, 2, "Maps")
    return customer


def names(collection: dict[str, Any]) -> list[str]:
    return [each.rpartition("/")[2] for each in members_of(collection)]


@pytest.mark.parametrize("version", [2, 3])
async def test_a_customer_is_a_collection_of_the_spaces_with_something_to_see(
    library: Library, customer: int, version: int
) -> None:
    path = f"/iiif-collection/v{version}/{customer}"
    collection = await library.document(path)
    check_document(collection, version)
    assert names(collection) == ["1", "2"]
    staff = await library.document(path, **library.token("staff"))
    assert names(staff) == ["1", "2", "9"]
    for member in members_of(collection):
        check_document(await library.document(member.removeprefix(library.site.base)), version)


@pytest.mark.parametrize("version", [2, 3])
async def test_a_space_is_a_collection_of_manifests(
    library: Library, customer: int, version: int
) -> None:
    path = f"/iiif-collection/v{version}/{customer}/1"
    collection = await library.document(path)
    check_document(collection, version)
    assert names(collection) == ["seen"]
    assert "secret" not in json.dumps(collection)
    (manifest,) = members_of(collection)
    check_document(await library.document(manifest.removeprefix(library.site.base)), version)
    staff = await library.document(path, **library.token("staff"))
    assert names(staff) == ["secret", "seen"]


async def test_a_large_space_is_a_collection_of_pages(library: Library, customer: int) -> None:
    path = f"/iiif-collection/{customer}/2"
    collection = await library.document(path)
    check_document(collection, 3)
    assert collection["label"] == {"none": ["Maps"]}
    found: list[str] = []
    for page in members_of(collection):
        part = await library.document(page.removeprefix(library.site.base))
        check_document(part, 3)
        assert part["id"] == page
        assert part["partOf"][0]["id"] == collection["id"]
        found += names(part)
    assert found == [f"n{n:02}" for n in range(12)]
    assert (await library.get(f"{path}?page=9")).status == 404


async def test_many_spaces_are_pages_of_spaces(library: Library) -> None:
    catalog = library.site.services.catalog
    customer = (await catalog.customers.create("Many spaces")).id
    for space in range(1, 8):
        await library.add("a", customer, space)
    collection = await library.document(f"/iiif-collection/v3/{customer}")
    pages = members_of(collection)
    assert len(pages) == 2
    parts = [await library.document(page.removeprefix(library.site.base)) for page in pages]
    assert [space for part in parts for space in names(part)] == [str(n) for n in range(1, 8)]


async def test_what_is_hidden_is_not_told_by_status_etag_or_cache(
    library: Library, customer: int
) -> None:
    for space in (9, 10, 77):  # hidden, without an image, unknown
        reply = await library.get(f"/iiif-collection/{customer}/{space}")
        assert reply.status == 404
        assert json.loads(reply.body)["error"].startswith("The space has no images")
    assert (await library.get(f"/iiif-collection/{customer}/9?page=1")).status == 404
    path = f"/iiif-collection/{customer}/1"
    before = await library.get(path)
    assert before.headers["cache-control"] == "public, max-age=60"
    await library.add("secret2", customer, 1, roles=("staff",))
    after = await library.get(path)
    assert (after.headers["etag"], after.body) == (before.headers["etag"], before.body)
    assert (await library.get(path, If_None_Match=before.headers["etag"])).status == 304


@pytest.mark.parametrize(
    ("path", "status"),
    [("9999", 404), ("unknown", 404), ("1/x", 404), ("1/1/x", 404), ("1/1?page=x", 400), ("", 400)],
)
async def test_other_addresses_are_refused(library: Library, path: str, status: int) -> None:
    assert (await library.get(f"/iiif-collection/{path}")).status == status


async def test_a_customer_without_images_is_an_empty_collection(library: Library) -> None:
    empty = (await library.site.services.catalog.customers.create("Nothing yet")).id
    collection = await library.document(f"/iiif-collection/v3/{empty}")
    assert collection["items"] == []
