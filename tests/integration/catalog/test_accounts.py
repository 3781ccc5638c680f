"""Customers and their API keys."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.settings import Database


async def test_customers_get_the_next_number_unless_one_is_given(catalog: Catalog) -> None:
    first = await catalog.customers.create("Museum")
    numbered = await catalog.customers.create("Archive", 40)
    third = await catalog.customers.create("Biblioth\u00e8que")
    assert [first.id, numbered.id, third.id] == [1, 40, 41]
    assert await catalog.customers.list() == [first, numbered, third]
    assert await catalog.customer_id("Archive") == 40
    assert await catalog.customer_id("archive") is None


async def test_customers_created_at_the_same_time_get_different_numbers(catalog: Catalog) -> None:
    customers = await asyncio.gather(*(catalog.customers.create(f"c{n} x") for n in range(12)))
    assert sorted(customer.id for customer in customers) == list(range(1, 13))


async def test_a_second_customer_with_the_same_name_or_number_is_refused(catalog: Catalog) -> None:
    await catalog.customers.create("Museum", 5)
    with pytest.raises(Conflict):
        await catalog.customers.create("Museum")
    with pytest.raises(Conflict):
        await catalog.customers.create("Other", 5)
    await catalog.customers.ensure(5, "whatever")
    await catalog.customers.ensure(6, "Sixth")
    await catalog.customers.ensure(6, "Sixth")
    assert [customer.name for customer in await catalog.customers.list()] == ["Museum", "Sixth"]


@pytest.mark.parametrize("name", ["", "  ", "12", "a/b", "x" * 101, "nul\0"], ids=ascii)
async def test_a_name_that_reads_as_a_number_or_a_path_is_refused(
    catalog: Catalog, name: str
) -> None:
    with pytest.raises(InvalidInput):
        await catalog.customers.create(name)


async def test_a_key_is_valid_for_its_customer_until_it_is_revoked(catalog: Catalog) -> None:
    customer = await catalog.customers.create("Museum")
    key = await catalog.keys.create(customer.id)
    other = await catalog.keys.create(customer.id)
    found = await catalog.keys.verify(key.id, key.secret)
    assert found is not None
    assert (found.customer, found.admin) == (customer.id, False)
    assert await catalog.keys.verify(key.id, other.secret) is None
    assert await catalog.keys.verify(other.id, key.secret) is None
    assert await catalog.keys.verify("unknown", key.secret) is None
    await catalog.keys.revoke(key.id)
    assert await catalog.keys.verify(key.id, key.secret) is None
    assert await catalog.keys.verify(other.id, other.secret) is not None
    listed = {one.id: one for one in await catalog.keys.list(customer.id)}
    assert listed[key.id].revoked is not None
    assert listed[other.id].revoked is None
    with pytest.raises(NotFound):
        await catalog.keys.revoke("unknown")
    with pytest.raises(NotFound):
        await catalog.keys.create(999)


async def test_an_admin_key_is_marked_as_one(catalog: Catalog) -> None:
    customer = await catalog.customers.create("Museum")
    key = await catalog.keys.create(customer.id, admin=True)
    found = await catalog.keys.verify(key.id, key.secret)
    assert found is not None
    assert found.admin
    assert [one.admin for one in await catalog.keys.list()] == [True]
    assert key.token == f"{key.id}.{key.secret}"


@pytest.mark.parametrize("text", ["", "nul\0", "\udcff", "x" * 100_000], ids=range(4))
async def test_any_text_is_accepted_as_a_wrong_key(catalog: Catalog, text: str) -> None:
    key = await catalog.keys.create((await catalog.customers.create("Museum")).id)
    assert await catalog.keys.verify(text, key.secret) is None
    assert await catalog.keys.verify(key.id, text) is None


async def test_the_database_does_not_contain_the_secret(
    catalog: Catalog, database: Database
) -> None:
    key = await catalog.keys.create((await catalog.customers.create("Museum")).id)
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        rows = await connection.fetch("SELECT api_keys::text AS row FROM api_keys")
    finally:
        await connection.close()
    assert len(rows) == 1
    assert key.secret not in rows[0]["row"]
    assert len(key.secret) >= 43
