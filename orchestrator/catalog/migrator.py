"""Numbered migrations: SQL files applied in order, once, one process at a time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources

import asyncpg

from orchestrator.catalog.connection import connect, translated
from orchestrator.errors import SchemaMismatch
from orchestrator.settings import Database

_LOCK = 0x6F726368  # the key of the advisory lock: any constant
_TIMEOUT_S = 900.0
"""For a migration, and for waiting until another process has finished one. It can be long."""

_TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY,
    digest text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now())"""


def migrations() -> dict[str, str]:
    """The SQL of each migration by its name, in order."""
    folder = resources.files("orchestrator.catalog") / "migrations"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return {
        entry.name.removesuffix(".sql"): entry.read_text("utf-8")
        for entry in sorted(files, key=lambda entry: entry.name)
    }


async def migrate(settings: Database) -> list[str]:
    """Apply the pending migrations, each in a transaction; returns their names.

    Raises CatalogUnavailable, and SchemaMismatch when the text of an applied migration has changed
    or a later release migrated the database: this one would read and write its tables wrongly.
    """
    if not await pending(settings):
        return []
    async with _connected(settings, _TIMEOUT_S) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        applied = await _read_applied(connection)
        _check_release(applied)
        missing = [name for name in migrations() if name not in applied]
        for name in missing:
            await _apply(connection, name)
        return missing


async def pending(settings: Database) -> list[str]:
    """The names of the migrations that are not applied yet. Raises as `migrate`."""
    async with _connected(settings) as connection:
        applied = await _read_applied(connection)
        _check_release(applied)
    return [name for name in migrations() if name not in applied]


@asynccontextmanager
async def _connected(
    settings: Database, query_timeout_s: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(settings, query_timeout_s=query_timeout_s)
    with translated():
        try:
            yield connection
        finally:
            await connection.close(timeout=settings.connect_timeout_s)


async def _read_applied(connection: asyncpg.Connection) -> dict[str, str]:
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return {}
    return {
        row["name"]: row["digest"] for row in await connection.fetch("SELECT * FROM migrations")
    }


def _check_release(applied: Mapping[str, str]) -> None:
    """Raise SchemaMismatch unless this release has each applied migration with the same text."""
    known = {name: _digest(text) for name, text in migrations().items()}
    unknown = sorted(applied.keys() - known.keys())
    if unknown:
        raise SchemaMismatch(
            f"A later release migrated the database ({', '.join(unknown)}). Use that release, or "
            "restore the backup that was made before its first start."
        )
    for name in sorted(applied):
        if applied[name] != known[name]:
            raise SchemaMismatch(
                f"The database was migrated with another text of migration {name}. "
                "Use the release that migrated it."
            )


async def _apply(connection: asyncpg.Connection, name: str) -> None:
    text = migrations()[name]
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute(
            "INSERT INTO migrations (name, digest) VALUES ($1, $2)", name, _digest(text)
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
