"""Customers and their API keys. A secret is shown once; the database has only its hash.

A customer is deleted only when nothing of value belongs to it, and its number is not used again:
access tokens may name it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.rows import is_storable
from orchestrator.catalog.values import ApiKey, Customer, NewApiKey
from orchestrator.errors import InvalidInput, NotFound, StateConflict

MAX_NAME_CHARS = 100
MAX_NUMBER = 999_999_999
FIRST_CUSTOMER = (1, "main")
"""Created in an empty database: every asset belongs to a customer."""
DELETED_WITH = (
    "activities",
    "activity_counts",
    "policies",
    "named_queries",
    "customer_storage",
    "customer_turns",
    "quota_reservations",
)
"""Tables whose rows of a customer have no meaning without it. The rows of other tables refer to the
customer and are deleted with it.
"""


class Customers:
    """The repository of customers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, name: str, customer: int | None = None) -> Customer:
        """Create a customer, with the next free number unless one is given. Raises Conflict,
        InvalidInput.
        """
        name = _checked(name)
        if customer is not None and not 0 < customer <= MAX_NUMBER:
            raise InvalidInput(f"A customer's number is from 1 to {MAX_NUMBER}.")
        try:
            async with self._pool.transaction() as connection:
                # Two transactions at a time would choose the same next number.
                await connection.execute("LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE")
                row = await connection.fetchrow(
                    """INSERT INTO customers (id, name)
                       VALUES (coalesce($1, (SELECT greatest(max(id), max(last_value)::integer) + 1
                           FROM customers RIGHT JOIN deleted_customers ON true)), $2)
                       RETURNING *""",
                    customer,
                    name,
                )
                if row is None or row["id"] > MAX_NUMBER:
                    raise StateConflict("There is no number after the highest one. Give a number.")
        except asyncpg.UniqueViolationError as error:
            raise StateConflict("A customer with this name or number already exists.") from error
        return _customer(row)

    async def ensure(self, customer: int, name: str) -> None:
        """Create this customer unless another one has the number or the name."""
        await self._pool.fetch(
            "INSERT INTO customers (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            customer,
            name,
        )

    async def by_name(self, name: str) -> Customer | None:
        """The customer with exactly this name, or None."""
        if not is_storable(name):
            return None
        row = await self._pool.fetchrow("SELECT * FROM customers WHERE name = $1", name)
        return None if row is None else _customer(row)

    async def get(self, customer: int) -> Customer:
        """The customer with this number. Raises NotFound."""
        return _customer(
            await self._pool.fetchrow("SELECT * FROM customers WHERE id = $1", customer)
        )

    async def rename(self, customer: int, name: str) -> Customer:
        """Give a customer another name. Raises NotFound, Conflict, InvalidInput."""
        try:
            row = await self._pool.fetchrow(
                "UPDATE customers SET name = $2 WHERE id = $1 RETURNING *", customer, _checked(name)
            )
        except asyncpg.UniqueViolationError as error:
            raise StateConflict("A customer with this name already exists.") from error
        return _customer(row)

    async def delete(self, customer: int) -> None:
        """Delete a customer that has no assets, with its keys, rules and ended jobs. Raises
        NotFound, and Conflict if it has assets, unfinished jobs or an admin key, or is the first
        customer, which every start creates.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(_IN_USE, customer)
            if row is None:
                raise NotFound(f"There is no customer {customer}.")
            if customer == FIRST_CUSTOMER[0]:
                raise StateConflict("The first customer cannot be deleted: every start creates it.")
            for what, advice in _ADVICE.items():
                if row[what]:
                    raise StateConflict(f"Customer {customer} has {advice}")
            await connection.execute("DELETE FROM customers WHERE id = $1", customer)
            for table in DELETED_WITH:
                await connection.execute(
                    f"DELETE FROM {table} WHERE customer = $1",  # noqa: S608  constants
                    customer,
                )
            await connection.execute("DELETE FROM jobs WHERE customer = $1", customer)
            await connection.execute(
                """SELECT setval('deleted_customers', greatest(last_value, $1::bigint))
                   FROM deleted_customers""",
                customer,
            )

    async def exists(self, customer: int) -> bool:
        """True when there is a customer with this number."""
        row = await self._pool.fetchrow("SELECT 1 FROM customers WHERE id = $1", customer)
        return row is not None

    async def list(self) -> list[Customer]:
        """All customers, by number."""
        return [
            _customer(row) for row in await self._pool.fetch("SELECT * FROM customers ORDER BY id")
        ]


class ApiKeys:
    """The repository of API keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, customer: int, *, admin: bool = False, label: str = "", made_by: str = ""
    ) -> NewApiKey:
        """Create a key of this customer; an `admin` key also gives access to all others. `made_by`
        is the id of the key that makes it, "" for a command. Raises NotFound when there is no such
        customer.
        """
        key, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        try:
            await self._pool.fetch(
                """INSERT INTO api_keys (id, customer, secret_hash, admin, label, made_by)
                   VALUES ($1, $2, $3, $4, $5, $6)""",
                key,
                customer,
                _hash(secret),
                admin,
                label,
                made_by,
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound(
                f"There is no customer {customer}. See `orchestrator customers list`."
            ) from error
        return NewApiKey(key, customer, secret, admin, label)

    async def verify(self, key: str, secret: str) -> ApiKey | None:
        """The key with this id and secret, or None. A wrong secret takes as long as a right one."""
        row = await self._pool.fetchrow(
            "SELECT * FROM api_keys WHERE id = $1 AND revoked IS NULL",
            key if is_storable(key) else "",
        )
        expected = bytes(row["secret_hash"]) if row is not None else b"\0" * 32
        is_valid = hmac.compare_digest(_hash(secret), expected)
        return _key(row) if row is not None and is_valid else None

    async def get(self, customer: int, key: str) -> ApiKey:
        """The key of this customer with this id, revoked or not. Raises NotFound."""
        row = await self._pool.fetchrow(
            "SELECT * FROM api_keys WHERE customer = $1 AND id = $2", customer, key
        )
        if row is None:
            raise NotFound(f"Customer {customer} has no key {key}.")
        return _key(row)

    async def revoke(self, key: str) -> None:
        """Revoke a key. Raises NotFound."""
        row = await self._pool.fetchrow(
            "UPDATE api_keys SET revoked = coalesce(revoked, now()) WHERE id = $1 RETURNING id", key
        )
        if row is None:
            raise NotFound(f"There is no key {key}. See `orchestrator keys list`.")

    async def list(self, customer: int | None = None) -> list[ApiKey]:
        """Keys without their secrets, newest last."""
        rows = await self._pool.fetch(
            """SELECT * FROM api_keys
               WHERE $1::int IS NULL OR customer = $1 ORDER BY created, id""",
            customer,
        )
        return [_key(row) for row in rows]


_IN_USE = """SELECT
        EXISTS (SELECT FROM assets WHERE customer = $1) AS assets,
        EXISTS (SELECT FROM jobs
                WHERE customer = $1 AND state IN ('queued', 'running')) AS jobs,
        EXISTS (SELECT FROM api_keys
                WHERE customer = $1 AND admin AND revoked IS NULL) AS admin_keys
    FROM customers WHERE id = $1 FOR UPDATE"""
_ADVICE = {
    "assets": "assets. Delete them first.",
    "jobs": "unfinished jobs. Wait for them or cancel them.",
    "admin_keys": "an admin key. Revoke it first.",
}


def _checked(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME_CHARS or "/" in name or name.isdigit():
        raise InvalidInput(
            "A customer's name is 1 to 100 characters, not a number and without slashes."
        )
    return name


def _hash(secret: str) -> bytes:
    # The secret is 256 random bits and cannot be guessed, so a fast hash is enough.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["customer"],
        row["created"],
        row["revoked"],
        row["admin"],
        row["label"],
        row["made_by"],
    )


def _customer(row: asyncpg.Record | None) -> Customer:
    if row is None:
        raise NotFound("There is no such customer.")
    return Customer(row["id"], row["name"], row["created"])
