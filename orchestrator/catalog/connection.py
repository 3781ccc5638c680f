"""The pool of connections, and the one place that translates the errors of asyncpg."""

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
"""For other packages, which pass a connection on but run no statements."""

AWAY = "The catalogue does not answer. Try again shortly."
REFUSED = "The database refuses the connection. Check the user, password and name in database.dsn."
BROKEN = "The catalogue answered with an error. See the log."
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
    """Translate the errors of asyncpg, except violated constraints, which the repositories handle.

    Raises CatalogUnavailable, or InvalidInput for a value that no column can hold.
    """
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError:
        raise
    except (asyncpg.DataError, _UnfitArgument) as error:
        raise InvalidInput(
            "The catalogue cannot store a text or number of the request. Change it."
        ) from error
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
    """Open a connection outside the pool. `query_timeout_s` replaces the setting.

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
        """A connection of the pool. Raises CatalogUnavailable when none is free in time or the
        connection is lost.
        """
        with translated():
            async with self._pool.acquire(timeout=self._wait_s) as connection:
                yield connection  # type: ignore[misc]  # the pool's proxy has a connection's methods

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a transaction: committed at the end, rolled back on an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[bool]:
        """Hold a lock that one process of the installation can have at a time. Yields False when
        another process has it.

        The lock belongs to a connection, which it occupies. A process that dies or loses the
        connection loses the lock.
        """
        with translated():
            connection = await self._pool.acquire(timeout=self._wait_s)
        try:
            with translated():
                is_locked = await connection.fetchval(
                    "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name
                )
            yield bool(is_locked)
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
