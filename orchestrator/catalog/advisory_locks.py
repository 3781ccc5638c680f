"""Advisory locks of PostgreSQL, all of one process on one connection.

So work that holds a lock while it waits for a network occupies no connection of its own. The
connection is taken from the pool with the first lock and given back with the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg

from orchestrator.catalog.breaker import CircuitBreaker

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended($1, 0))"
_UNLOCK_ALL = "SELECT pg_advisory_unlock_all()"
_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

End = Callable[[Any], None]
"""Ends a connection without a word to the server, which then ends its locks."""


class AdvisoryLocks:
    """The locks of one process. They are lost when the process dies or its connection is lost."""

    def __init__(
        self, pool: asyncpg.Pool, breaker: CircuitBreaker, wait_s: float, end: End
    ) -> None:
        self._pool = pool
        self._breaker = breaker
        self._wait_s = wait_s
        self._end = end
        self._names: set[str] = set()
        self._users = 0
        self._connection: Any = None  # the pool's proxy of a connection
        self._turn = asyncio.Lock()
        """A connection runs one statement at a time."""

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[bool]:
        """Hold the lock of this name. Yields False when another task or process has it. Raises the
        errors of asyncpg.
        """
        if name in self._names:  # a session gets its own lock again
            yield False
            return
        self._names.add(name)
        try:
            connection = await self._use()
            try:
                yield await self._try_lock(connection, name)
            finally:
                # Also after a cancelled try, whose lock the server may have given. Not cancelled
                # itself, as the lock would stay with the connection.
                await asyncio.shield(self._unlock(connection, name))
        finally:
            self._names.discard(name)

    async def _use(self) -> Any:
        async with self._turn:
            if self._connection is not None and _is_lost(self._connection):
                await self._give_back()
            if self._connection is None:
                async with self._breaker.watch():
                    self._connection = await self._pool.acquire(timeout=self._wait_s)
            self._users += 1
            return self._connection

    async def _try_lock(self, connection: Any, name: str) -> bool:
        async with self._turn, self._breaker.watch() as use:
            use.terminate = partial(self._end, connection)
            return bool(await connection.fetchval(_LOCK, name))

    async def _unlock(self, connection: Any, name: str) -> None:
        async with self._turn:
            self._users -= 1
            if self._breaker.is_open:
                self._end(connection)  # a statement would wait
            elif self._users and not _is_lost(connection):
                with suppress(*_FAILURES):
                    await connection.fetchval(_UNLOCK, name)
                    return
                self._end(connection)  # it keeps no lock that it cannot end
            if connection is self._connection and (not self._users or _is_lost(connection)):
                await self._give_back()

    async def _give_back(self) -> None:
        """Return the connection to the pool, without locks."""
        connection, self._connection = self._connection, None
        if not _is_lost(connection):
            try:
                await connection.execute(_UNLOCK_ALL)
            except _FAILURES:
                self._end(connection)
        await self._pool.release(connection)


def _is_lost(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool has taken it back, because it was lost
        return True
