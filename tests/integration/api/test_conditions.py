"""If-Match and If-None-Match hold at the moment when a change is accepted: of changes that arrive
together only one is made.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.api.conftest import House, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT_ONCE = 8


def statuses(replies: list[Reply]) -> list[int]:
    return sorted(reply.status for reply in replies)


@pytest.mark.parametrize("wait", ["", "respond-async"], ids=["waiting", "async"])
async def test_of_clients_that_create_one_image_together_only_one_does(
    house: House, wait: str
) -> None:
    customer = await house.customer()
    at = f"/customers/{customer}/spaces/1/images/new"
    headers = {"If_None_Match": "*"} | ({"Prefer": wait} if wait else {})
    together = 2 if not wait else AT_ONCE  # so many may wait
    replies = await asyncio.gather(
        *(house.ask("PUT", at, {"origin": house.picture()}, **headers) for _ in range(together))
    )
    assert statuses(replies) == [202 if wait else 201] + [412] * (together - 1)


async def test_of_changes_of_one_version_only_one_is_made(house: House) -> None:
    customer = await house.customer()
    at = f"/customers/{customer}/spaces/1/images/one"
    assert (await house.ask("PUT", at, {"origin": house.picture()})).status == 201
    etag = (await house.ask("GET", at)).headers["etag"]
    replies = await asyncio.gather(
        *(house.ask("PATCH", at, {"tags": [f"{n}"]}, If_Match=etag) for n in range(AT_ONCE)),
        house.ask("PUT", at, {"origin": house.picture()}, If_Match=etag, Prefer="respond-async"),
        house.ask("PATCH", at, {"roles": ["staff"]}, If_Match=etag),
        house.ask("DELETE", at, If_Match=etag),
        house.ask("POST", f"{at}/reingest", If_Match=etag, Prefer="respond-async"),
    )
    accepted = [reply.status for reply in replies if reply.status != 412]
    assert len(accepted) == 1
    assert accepted[0] in (200, 202)


async def test_changes_of_different_fields_at_once_are_all_made(house: House) -> None:
    customer = await house.customer()
    at = f"/customers/{customer}/spaces/1/images/one"
    assert (await house.ask("PUT", at, {"origin": house.picture()})).status == 201
    replies = await asyncio.gather(
        *(house.ask("PATCH", at, {f"string{n}": "x", f"number{n}": n}) for n in (1, 2, 3))
    )
    assert statuses(replies) == [200] * 3
    now = (await house.ask("GET", at)).json
    assert [now[f"string{n}"] for n in (1, 2, 3)] == ["x"] * 3
    assert [now[f"number{n}"] for n in (1, 2, 3)] == [1, 2, 3]


async def test_an_ingest_that_was_replaced_by_a_deletion_is_reported_as_superseded(
    house: House,
) -> None:
    customer = await house.customer()
    at = f"/customers/{customer}/spaces/1/images/gone"
    queue = f"/customers/{customer}/queue"
    member = {"id": f"{customer}/1/gone", "origin": house.picture(), "roles": ["staff"]}
    first = await house.ask("POST", queue, [member])
    second = await house.ask("POST", queue, [member | {"origin": house.picture()}])
    batch = (await house.ask("GET", first.headers["location"])).json
    assert (batch["superseded"], batch["remaining"]) == (1, 0)
    assert batch["finished"] is not None
    assert (await house.ask("DELETE", at)).status == 200
    batch = (await house.ask("GET", second.headers["location"])).json
    assert (batch["superseded"], batch["remaining"]) == (1, 0)
    [job] = (await house.ask("GET", f"{second.headers['location']}/images")).json["images"]
    assert (job["state"], job["fault"]["code"]) == ("superseded", "superseded")
    retried = await house.ask("POST", f"/jobs/{job['id']}/retry", key=customer)
    assert retried.status == 409
