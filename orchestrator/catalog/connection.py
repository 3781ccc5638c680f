"""The pool of connections, and the one place that translates the errors of asyncpg."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.exceptions._base import DataError as _UnfitArgument  # its only home

from orchestrator.catalog.advisory_locks import AdvisoryLocks
from orchestrator.catalog.breaker import AWAY, CircuitBreaker
from orchestrator.errors import CatalogUnavailable, InvalidInput
from orchestrator.fault_log import FaultLog
from orchestrator.settings import Database

log = logging.getLogger(__name__)
Prepare: TypeAlias = Callable[[], Awaitable[object]]
"""Prepares the database for this release. Raises CatalogUnavailable."""
Connection: TypeAlias = asyncpg.Connection
"""For other packages, which pass a connection on but run no statements."""

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

_NAME = "orchestrator"
_SESSION = {"application_name": _NAME}
_CLOSE_S = 2.0
"""Time in which the connections of a pool are closed properly; then they are ended."""


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
    settings: Database, *, query_timeout_s: float | None = None, name: str = _NAME
) -> asyncpg.Connection:
    """Open a connection outside the pool. `query_timeout_s` replaces the setting; `name` is what
    the database shows of the connection.

    Raises CatalogUnavailable.
    """
    with translated():
        connection: asyncpg.Connection = await asyncpg.connect(
            settings.dsn.get_secret_value(),
            timeout=settings.connect_timeout_s,
            command_timeout=query_timeout_s or settings.query_timeout_s,
            server_settings={"application_name": name},
        )
        return connection


async def is_answering(settings: Database) -> bool:
    """True if the database answers on a new connection, be it with an error such as that it has too
    many connections; False if it cannot be reached, or is starting or stopping. Waits as long as
    the database lets it: the caller bounds the time.
    """
    try:
        connection = await asyncpg.connect(
            settings.dsn.get_secret_value(), server_settings=_SESSION
        )
    except (asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError):
        return False
    except asyncpg.PostgresError:
        return True
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        return False
    connection.terminate()
    return True


class _PooledConnection(asyncpg.Connection):
    """A connection that goes back to the pool without a statement, which would double the round
    trips of a single query. Nothing remains in its session: no repository sets a variable, keeps a
    cursor or listens on it, asyncpg ends a transaction, and `AdvisoryLocks` ends its locks.
    """

    def get_reset_query(self) -> str:
        """No statement."""
        return ""


class Pool:
    """A bounded pool of connections; waiting for one is bounded too. While the database does not
    answer, the breaker refuses every use at once.
    """

    def __init__(
        self, pool: asyncpg.Pool, settings: Database, prepare: Prepare | None = None
    ) -> None:
        self._pool = pool
        self._prepare = prepare
        self._faults = FaultLog(log, "database not prepared", "database prepared")
        self._wait_s = settings.query_timeout_s
        self._breaker = CircuitBreaker(
            lambda: is_answering(settings),
            settings.answer_timeout_s,
            on_closed=self._on_closed,
        )
        self._locks = AdvisoryLocks(pool, self._breaker, self._wait_s, _end)

    @classmethod
    async def open(cls, settings: Database, prepare: Prepare | None = None) -> Pool:
        """Connect. Raises CatalogUnavailable. With `prepare` the database is away: every use is
        refused until it answers and `prepare` has returned.
        """
        with translated():
            pool = await asyncpg.create_pool(
                settings.dsn.get_secret_value(),
                min_size=settings.pool_min if prepare is None else 0,
                max_size=settings.pool_max,
                timeout=settings.connect_timeout_s,
                command_timeout=settings.query_timeout_s,
                server_settings=_SESSION,
                init=_prepare,
                connection_class=_PooledConnection,
            )
        opened = cls(pool, settings, prepare)
        if prepare is not None:
            opened._breaker.open()
        return opened

    def when_away(self, call: Callable[[], None]) -> None:
        """Call this function, and no other, whenever the database is found not to answer."""
        self._breaker.on_opened = call

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool. Raises CatalogUnavailable when none is free in time, the
        connection is lost, or the database does not answer.
        """
        with self._errors_reported():
            async with (
                self._breaker.watch() as use,
                self._pool.acquire(timeout=self._wait_s) as connection,
            ):
                use.terminate = partial(_end, connection)
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

        All locks of a process are on one connection. A process that dies or loses the connection
        loses them.
        """
        held = AsyncExitStack()
        with self._errors_reported():
            is_locked = await held.enter_async_context(self._locks.hold(name))
        try:
            yield is_locked
        finally:
            with translated():
                await held.aclose()

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
        """Close every connection. Connections that do not answer are ended after a moment."""
        await self._breaker.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._breaker.is_open else _CLOSE_S):
                await self._pool.close()

    async def _on_closed(self) -> None:
        if self._prepare is not None:
            try:
                await self._prepare()
            except CatalogUnavailable as error:
                self._faults.report(reason=error.public)
                raise
            self._prepare = None
            self._faults.clear()
        # Connections from before the outage may be lost without a sign.
        await self._pool.expire_connections()

    @contextmanager
    def _errors_reported(self) -> Iterator[None]:
        """Translate errors, and let the breaker ask after a failure whether the database
        answers.
        """
        try:
            with translated():
                yield
        except CatalogUnavailable:
            self._breaker.suspect()
            raise


def _end(connection: Any) -> None:
    """End a connection of the pool without a word to the server."""
    with suppress(asyncpg.InterfaceError):  # it had ended, and the pool has it again
        connection.terminate()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
