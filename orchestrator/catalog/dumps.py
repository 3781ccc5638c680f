"""Dumps of the database with pg_dump, and their restoration with pg_restore.

The programs of the wheel serve the embedded database; a configured database is served by those of
the PATH, whose version must fit it. A dump is one snapshot: it has every transaction that was
committed when it began, and no part of another.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from orchestrator.catalog.connection import connect, translated
from orchestrator.catalog.embedded.server import binaries
from orchestrator.catalog.migrator import pending
from orchestrator.errors import CatalogUnavailable, StateConflict
from orchestrator.settings import Database, Settings

SKIPPED_NUMBERS = 1_000_000
"""More numbers than any installation gives out between a backup and its restoration."""
_NOT_COUNTERS = ("deleted_customers",)
"""Sequences whose value is a record, not the next number."""


@dataclass(frozen=True, slots=True)
class Programs:
    """pg_dump and pg_restore: their folders as in PATH, and the environment they run in."""

    path: str
    environ: Mapping[str, str]

    def find(self, name: str) -> str:
        """The path of a program. Raises CatalogUnavailable."""
        found = shutil.which(name, path=self.path)
        if found is None:
            raise CatalogUnavailable(
                f"{name} is missing. Install the PostgreSQL client of the version of the database."
            )
        return found


def programs_for(settings: Settings, environ: Mapping[str, str]) -> Programs:
    """Those of the wheel for the embedded database, those of the PATH for a configured one. Raises
    CatalogUnavailable.
    """
    if settings.database.dsn.get_secret_value():
        return Programs(environ.get("PATH", ""), environ)
    return Programs(str(binaries(settings.data_dir / "postgres")), environ)


async def dump(database: Database, target: Path, programs: Programs) -> None:
    """Write a dump to a file that only this user can read. A file of this name is replaced once
    the dump is complete.

    Raises CatalogUnavailable, and OSError if the file cannot be written.
    """
    with _replacement(target) as fresh:
        await _run(database, programs, "pg_dump", "--format=custom", f"--file={fresh}")


async def restore(database: Database, source: Path, programs: Programs) -> list[str]:
    """Restore a dump into an empty database, all of it or nothing, and skip numbers. Returns the
    migrations of this release that the restored database does not have yet.

    Raises StateConflict if the database is not empty, SchemaMismatch if a later release wrote the
    dump, and CatalogUnavailable.
    """
    async with _connected(database) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        if await connection.fetchval(query):
            raise StateConflict(
                "The database is not empty. Restore into a new one: an empty data directory "
                "(--data), or the address of an empty database (database.dsn)."
            )
    options = ("--single-transaction", "--no-owner", "--no-privileges", str(source))
    await _run(database, programs, "pg_restore", *options)
    missing = await pending(database)
    await skip_numbers(database)
    return missing


async def skip_numbers(database: Database) -> None:
    """Continue versions, generations, jobs and batches `SKIPPED_NUMBERS` later.

    Numbers that were given out after the backup are in keys of the object store, in caches and in
    the hands of clients. None of them may get a second meaning. Raises CatalogUnavailable.
    """
    async with _connected(database) as connection:
        await connection.execute(
            """SELECT setval(format('%I.%I', schemaname, sequencename)::regclass,
                             coalesce(last_value, start_value) + $1)
               FROM pg_sequences
               WHERE schemaname = 'public' AND sequencename <> ALL($2::text[])""",
            SKIPPED_NUMBERS,
            list(_NOT_COUNTERS),
        )


@asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database)
    with translated():
        try:
            yield connection
        finally:
            await connection.close(timeout=database.connect_timeout_s)


@contextmanager
def _replacement(target: Path) -> Iterator[Path]:
    """An empty file that takes the place of `target` at the end of the block, unless it fails."""
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield fresh
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


async def _run(database: Database, programs: Programs, name: str, *options: str) -> None:
    address, password = _without_password(database.dsn.get_secret_value())
    process = await asyncio.create_subprocess_exec(
        programs.find(name),
        f"--dbname={address}",
        *options,
        env={**programs.environ, **({"PGPASSWORD": password} if password else {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, message = await process.communicate()
    if process.returncode:
        text = message.decode(errors="replace").strip()
        raise CatalogUnavailable(f"{name} failed: {text[-1000:]}")


def _without_password(dsn: str) -> tuple[str, str]:
    """The address without the password, and the password: every user can read the arguments of a
    process, only its own user the environment.
    """
    parts = urlsplit(dsn)
    login, _, host = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if not colon:
        return dsn, ""
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(password)
