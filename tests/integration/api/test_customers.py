"""Customers, spaces and keys by the API: what each kind of key may do, and what is refused while
something of value would be lost.
"""

from __future__ import annotations

import re

import pytest

from orchestrator.catalog.customers import DELETED_WITH
from orchestrator.catalog.jobs import JobDraft
from tests.integration.api.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def create_customer(house: House, name: str) -> int:
    made = await house.ask("POST", "/customers", {"name": name}, key=house.admin)
    assert made.status == 201, made.body
    assert made.headers["location"] == f"/customers/{made.json['id']}"
    return int(made.json["id"])


async def create_key(house: House, customer: int, key: str, **fields: object) -> dict[str, str]:
    made = await house.ask("POST", f"/customers/{customer}/keys", fields, key=key)
    assert made.status == 201, made.body
    return dict(made.json)


async def test_an_admin_creates_renames_and_deletes_customers(house: House):
    number = await create_customer(house, "Library of Ghent")
    again = await house.ask("POST", "/customers", {"name": "Library of Ghent"}, key=house.admin)
    assert (again.status, again.code) == (409, "conflict")
    for name in ("", "12", "a/b"):
        assert (await house.ask("POST", "/customers", {"name": name})).status == 400

    path = f"/customers/{number}"
    renamed = await house.ask("PATCH", path, {"name": "Ghent"}, key=house.admin)
    assert (renamed.status, renamed.json["name"]) == (200, "Ghent")
    shown = await house.ask("GET", path, key=house.admin)
    assert (shown.json["id"], shown.json["name"]) == (number, "Ghent")

    assert (await house.ask("DELETE", path, key=house.admin)).status == 204
    assert (await house.ask("GET", path, key=house.admin)).status == 404
    assert await create_customer(house, "Library of Bruges") > number  # tokens may name the old one
    named = await house.ask("POST", "/customers", {"name": "Own", "id": number}, key=house.admin)
    assert named.json["id"] == number


async def test_a_customers_key_sees_its_own_customer_and_changes_none(house: House):
    mine, other = await house.customer(), await house.customer()
    listed = await house.ask("GET", "/customers", key=mine)
    assert [each["id"] for each in listed.json["customers"]] == [mine]
    everyone = (await house.ask("GET", "/customers", key=house.admin)).json["customers"]
    assert {mine, other} <= {each["id"] for each in everyone}
    assert (await house.ask("GET", f"/customers/{mine}", key=mine)).status == 200
    assert (await house.ask("GET", f"/customers/{other}", key=mine)).status == 403
    for method, path, body in (
        ("POST", "/customers", {"name": "x"}),
        ("PATCH", f"/customers/{mine}", {"name": "x"}),
        ("DELETE", f"/customers/{mine}", None),
    ):
        assert (await house.ask(method, path, body, key=mine)).status == 403


async def test_a_customer_with_assets_jobs_or_an_admin_key_is_not_deleted(house: House):
    customer = await house.customer()
    path = f"/customers/{customer}"
    image = f"{path}/spaces/1/images/kept"
    assert (await house.ask("PUT", image, {"origin": house.picture()})).status == 201
    refused = await house.ask("DELETE", path, key=house.admin)
    assert (refused.status, refused.code) == (409, "conflict")
    assert "assets" in refused.json["error"]
    assert (await house.ask("DELETE", image)).status == 200

    admin = await create_key(house, customer, house.admin, admin=True)
    assert "admin key" in (await house.ask("DELETE", path, key=house.admin)).json["error"]
    revoke = f"{path}/keys/{admin['id']}"
    assert (await house.ask("DELETE", revoke, key=house.admin)).status == 204

    [job] = (await house.services.submitter.submit([JobDraft("test", {}, customer)])).ids
    assert "jobs" in (await house.ask("DELETE", path, key=house.admin)).json["error"]
    await house.services.submitter.cancel(job)
    assert (await house.ask("DELETE", path, key=house.admin)).status == 204
    first = await house.ask("DELETE", "/customers/1", key=house.admin)
    assert first.status == 409


async def test_a_deletion_knows_every_table_with_rows_of_customers(house: House):
    async with house.services.catalog.connection() as connection:
        rows = await connection.fetch(
            """SELECT table_name FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name = 'customer'
               EXCEPT SELECT conrelid::regclass::text FROM pg_constraint
               WHERE confrelid = 'customers'::regclass"""
        )
    without_customer = {"assets", "aliases", "stored_objects", "ingest_attempts"}
    deleted = {*DELETED_WITH, "jobs"}
    assert {row["table_name"] for row in rows} == deleted | without_customer


async def test_a_space_is_listed_if_it_was_created_or_has_assets(house: House):
    customer = await house.customer()
    spaces = f"/customers/{customer}/spaces"
    put = await house.ask("PUT", f"{spaces}/7/images/a", {"origin": house.picture()})
    assert put.status == 201, put.body
    made = await house.ask("POST", spaces, {"name": "maps"})
    assert (made.status, made.json["id"], made.headers["location"]) == (201, 8, f"{spaces}/8")
    assert (await house.ask("POST", spaces, {"id": 2})).status == 201
    assert (await house.ask("POST", spaces, {"id": 2})).status == 409
    assert (await house.ask("POST", spaces, {"name": "maps"})).status == 409

    listed = (await house.ask("GET", spaces)).json["spaces"]
    assert [(each["id"], each["name"]) for each in listed] == [(2, ""), (7, ""), (8, "maps")]
    assert listed[1]["created"] is None
    first = (await house.ask("GET", f"{spaces}?limit=2")).json
    assert [each["id"] for each in first["spaces"]] == [2, 7]
    assert [each["id"] for each in (await house.ask("GET", first["next"])).json["spaces"]] == [8]

    renamed = await house.ask("PATCH", f"{spaces}/7", {"name": "books"})
    assert (renamed.status, renamed.json["name"]) == (200, "books")
    shown = (await house.ask("GET", f"{spaces}/7")).json
    assert (shown["name"], shown["images"]) == ("books", 1)
    assert (await house.ask("DELETE", f"{spaces}/7")).status == 409
    assert (await house.ask("DELETE", f"{spaces}/8")).status == 204
    assert (await house.ask("GET", f"{spaces}/8")).status == 404
    assert (await house.ask("PATCH", f"{spaces}/9", {"name": "x"})).status == 404


async def test_a_number_after_the_highest_one_is_not_given(house: House):
    customer = await house.customer()
    spaces = f"/customers/{customer}/spaces"
    highest = 999_999_999
    assert (await house.ask("POST", spaces, {"id": highest})).status == 201
    assert (await house.ask("POST", spaces, {"name": "next"})).status == 409
    listed = (await house.ask("GET", spaces)).json["spaces"]
    assert [each["id"] for each in listed] == [highest]


async def test_a_key_is_shown_once_stored_as_a_hash_and_revoked(house: House):
    customer = await house.customer()
    keys = f"/customers/{customer}/keys"
    made = await create_key(house, customer, house.keys[customer], label="harvester")
    assert made["token"] == f"{made['id']}.{made['secret']}"
    assert (await house.ask("GET", keys, key=made["token"])).status == 200
    for path in (keys, f"{keys}/{made['id']}"):
        shown = await house.ask("GET", path)
        assert made["secret"] not in shown.body.decode()
    listed = (await house.ask("GET", keys)).json["keys"]
    entry = next(each for each in listed if each["id"] == made["id"])
    assert (entry["label"], entry["admin"], entry["revoked"]) == ("harvester", False, None)
    assert entry["madeBy"] == house.keys[customer][:16]
    async with house.services.catalog.connection() as connection:
        stored = await connection.fetchrow("SELECT * FROM api_keys WHERE id = $1", made["id"])
    assert made["secret"] not in str(dict(stored))

    assert (await house.ask("DELETE", f"{keys}/{made['id']}", key=made["token"])).status == 204
    assert (await house.ask("GET", keys, key=made["token"])).status == 401
    shown = (await house.ask("GET", f"{keys}/{made['id']}")).json
    assert re.match(r"20\d\d-", shown["revoked"])
    assert (await house.ask("DELETE", f"{keys}/{'0' * 16}")).status == 404


async def test_a_customers_key_neither_makes_nor_revokes_an_admin_key(house: House):
    mine, other = await house.customer(), await house.customer()
    keys = f"/customers/{mine}/keys"
    refused = await house.ask("POST", keys, {"admin": True}, key=mine)
    assert (refused.status, refused.code) == (403, "forbidden")
    admin = await create_key(house, mine, house.admin, admin=True)
    assert (await house.ask("DELETE", f"{keys}/{admin['id']}", key=mine)).status == 403
    assert (await house.ask("GET", "/customers", key=admin["token"])).status == 200
    assert (await house.ask("GET", keys, key=other)).status == 403
    others_key = (await create_key(house, other, house.admin))["id"]
    assert (await house.ask("DELETE", f"{keys}/{others_key}", key=mine)).status == 404
