"""The pool of connections and the one place where asyncpg's errors become ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.exceptions._base import DataError as _UnfitArgument  # its only home

from orchestrator.errors import CatalogUnavailable, InvalidInput
from orchestrator.settings import Database

Connection: TypeAlias = asyncpg.Connection
"""What other packages pass on when a statement of theirs is to be part of a transaction."""

AWAY = "The catalogue does not answer; try again shortly."
REFUSED = "The database refuses the connection; check the user, password and name in database.dsn."
BROKEN = "The catalogue answered with an error; see the log."
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled
    asyncpg.InsufficientResourcesError,  # too many connections, no memory, no disk
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
    OSError,
)

_SESSION = {"application_name": "orchestrator"}


@contextmanager
def translated() -> Iterator[None]:
    """Nothing of asyncpg comes out but a broken constraint, which the repositories understand.

    Raises CatalogUnavailable, or InvalidInput for a value that no column can hold.
    """
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError:
        raise
    except (asyncpg.DataError, _UnfitArgument) as error:
        raise InvalidInput("A text or number is not one the catalogue can hold.") from error
    except _LOST as error:
        raise CatalogUnavailable(AWAY) from error
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
    ) as error:
        raise CatalogUnavailable(REFUSED) from error
    except asyncpg.PostgresError as error:
        raise CatalogUnavailable(BROKEN) from error


async def connect(
    settings: Database, *, query_timeout_s: float | None = None
) -> asyncpg.Connection:
    """One connection outside the pool; the settings' query time-out unless another is given.

    Raises CatalogUnavailable.
    """
    with translated():
        connection: asyncpg.Connection = await asyncpg.connect(
            settings.dsn.get_secret_value(),
            timeout=settings.connect_timeout_s,
            command_timeout=query_timeout_s or settings.query_timeout_s,
            server_settings=_SESSION,
        )
        return connection


class Pool:
    """A bounded pool of connections; waiting for one is bounded too."""

    def __init__(self, pool: asyncpg.Pool, wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s

    @classmethod
    async def open(cls, settings: Database) -> Pool:
        """Connect. Raises CatalogUnavailable."""
        with translated():
            pool = await asyncpg.create_pool(
                settings.dsn.get_secret_value(),
                min_size=settings.pool_min,
                max_size=settings.pool_max,
                timeout=settings.connect_timeout_s,
                command_timeout=settings.query_timeout_s,
                server_settings=_SESSION,
                init=_prepare,
            )
        return cls(pool, settings.query_timeout_s)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool. Raises CatalogUnavailable when none can be had in time or it
        is lost.
        """
        with translated():
            async with self._pool.acquire(timeout=self._wait_s) as connection:
                yield connection  # type: ignore[misc]  # the pool's proxy has a connection's methods

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection inside a transaction: committed on leaving, rolled back on an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[bool]:
        """Hold a lock that no process of the installation has at the same time; False when one
        has it now.

        A connection is kept meanwhile; who dies, or loses it, loses the lock.
        """
        with translated():
            connection = await self._pool.acquire(timeout=self._wait_s)
        try:
            with translated():
                taken = await connection.fetchval(
                    "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name
                )
            yield bool(taken)
        finally:
            with translated():
                await self._pool.release(connection)  # which ends the lock (pg_advisory_unlock_all)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of a query."""
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return rows

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of a query, or None."""
        async with self.connection() as connection:
            row: asyncpg.Record | None = await connection.fetchrow(query, *arguments)
            return row

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
