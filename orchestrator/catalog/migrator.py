"""Numbered migrations: SQL files applied in order, once, one process at a time."""

from __future__ import annotations

import hashlib
from importlib import resources

import asyncpg

from orchestrator.catalog.connection import connect, translated
from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Database

_LOCK = 0x6F726368  # any constant of ours: the key of the advisory lock
_PATIENCE_S = 900.0
"""For a migration, and for another process to be done with one; a big table takes its time."""

_TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY,
    digest text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now())"""


def migrations() -> dict[str, str]:
    """The SQL of every migration by its name, in order."""
    folder = resources.files("orchestrator.catalog") / "migrations"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return {
        entry.name.removesuffix(".sql"): entry.read_text("utf-8")
        for entry in sorted(files, key=lambda entry: entry.name)
    }


async def migrate(settings: Database) -> list[str]:
    """Apply what has not been applied; the names applied now. Each migration is one transaction.

    Raises CatalogUnavailable, also when a migration that was applied has been altered since.
    """
    connection = await connect(settings, query_timeout_s=_PATIENCE_S)
    try:
        with translated():
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute(_TABLE)
            done = await _applied(connection)
            return [
                name
                for name, text in migrations().items()
                if await _apply(connection, name, text, done)
            ]
    finally:
        await connection.close(timeout=settings.connect_timeout_s)


async def pending(settings: Database) -> list[str]:
    """The names of the migrations that are still to be applied. Raises CatalogUnavailable."""
    connection = await connect(settings)
    try:
        with translated():
            done = await _applied(connection)
    finally:
        await connection.close(timeout=settings.connect_timeout_s)
    return [name for name in migrations() if name not in done]


async def _applied(connection: asyncpg.Connection) -> dict[str, str]:
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return {}
    return {
        row["name"]: row["digest"] for row in await connection.fetch("SELECT * FROM migrations")
    }


async def _apply(
    connection: asyncpg.Connection, name: str, text: str, done: dict[str, str]
) -> bool:
    digest = hashlib.sha256(text.encode()).hexdigest()
    if name in done:
        if done[name] != digest:
            raise CatalogUnavailable(
                f"The database was made by another text of migration {name}; "
                "use the release that made it."
            )
        return False
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute(
            "INSERT INTO migrations (name, digest) VALUES ($1, $2)", name, digest
        )
    return True
