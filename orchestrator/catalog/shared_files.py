"""What lies in folders shared by several hosts: files, claims to write them, who lives.

Everything that changes what is used happens under the lock of the folder's row, files on disk
included (`locked`), so that what is counted is never less than what is there. Ages and expiries are
of the database's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.owners import NoLongerOwner, Ownership
from orchestrator.errors import CatalogUnavailable

Key = tuple[str, str]
"""(hash of the asset, file name), as in the layout of a disk cache."""
_COLUMNS = """f.asset, f.name, f.text, f.bytes, f.writer, f.temp, f.pinned,
    extract(epoch FROM now() - f.last_used)::float8 AS age_s,
    (f.writer = '' OR EXISTS (SELECT 1 FROM shared_holders h
        WHERE h.folder = f.folder AND h.holder = f.writer AND h.expires > now())) AS alive"""
_HELD_S = 15


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A row: a file that is there, or being written by `writer`."""

    asset: str
    name: str
    text: str
    bytes: int
    writer: str
    temp: str
    pinned: bool
    age_s: float
    """Seconds since it was last used."""
    alive: bool
    """False where the process that was writing it is dead."""

    @property
    def key(self) -> Key:
        """What identifies it in its folder."""
        return self.asset, self.name


@dataclass(frozen=True, slots=True)
class SharedTotals:
    """What a folder holds: bytes of files, and set apart for those being written."""

    files: int
    bytes: int
    reserved: int
    pinned: int
    quota: int
    """The least of those that living processes were told; 0 for none."""
    known: bool
    """False until all files that were found there have been entered."""


class FolderUnknown(Exception):
    """The database knows nothing of the folder (any more): it is to be registered."""


class SharedFiles:
    """The repository. Raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, folder: UUID, *, empty: bool) -> None:
        """Know of the folder; one that is new and not `empty` has to be walked first."""
        await self._pool.fetch(
            "INSERT INTO shared_folders (id, known) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            folder,
            empty,
        )

    async def beat(self, folder: UUID, holder: str, host: str, quota: int, alive_s: float) -> bool:
        """Say that this process lives for so long; False if it had been taken for dead.

        Raises FolderUnknown.
        """
        try:
            row = await self._pool.fetchrow(
                """WITH before AS
                       (SELECT expires FROM shared_holders WHERE folder = $1 AND holder = $2)
                   INSERT INTO shared_holders AS h VALUES ($1, $2, $3, $4,
                       now() + make_interval(secs => $5))
                   ON CONFLICT (folder, holder) DO UPDATE SET quota = $4, expires = excluded.expires
                   RETURNING coalesce((SELECT expires > now() FROM before), false) AS lived""",
                *(folder, holder, host, quota, alive_s),
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise FolderUnknown from error
        return bool(row and row["lived"])

    async def leave(self, folder: UUID, holder: str) -> None:
        """Be gone; what it was writing is anybody's to clear away."""
        await self._pool.fetch(
            "DELETE FROM shared_holders WHERE folder = $1 AND holder = $2", folder, holder
        )

    async def record(self, folder: UUID, ages: Mapping[Key, float]) -> None:
        """Take down uses: how many seconds ago each file was last used."""
        await self._pool.fetch(
            """UPDATE shared_files f
               SET last_used = greatest(last_used, now() - make_interval(secs => u.age))
               FROM unnest($2::text[], $3::text[], $4::float8[]) AS u (asset, name, age)
               WHERE f.folder = $1 AND f.asset = u.asset AND f.name = u.name""",
            folder,
            [asset for asset, _ in ages],
            [name for _, name in ages],
            list(ages.values()),
        )

    async def lease(self, folder: UUID, keys: Iterable[Key], lease_s: float) -> set[Key]:
        """Protect files from eviction for so long; returns those that are known."""
        wanted = list(keys)
        rows = await self._pool.fetch(
            """UPDATE shared_files f SET last_used = now(),
                   lease_until = greatest(lease_until, now() + make_interval(secs => $4))
               FROM unnest($2::text[], $3::text[]) AS u (asset, name)
               WHERE f.folder = $1 AND f.asset = u.asset AND f.name = u.name
               RETURNING f.asset, f.name""",
            folder,
            [asset for asset, _ in wanted],
            [name for _, name in wanted],
            lease_s,
        )
        return {(row["asset"], row["name"]) for row in rows}

    async def totals(self, folder: UUID) -> SharedTotals:
        """What is used now."""
        async with self._pool.connection() as connection:
            return await _totals(connection, folder)

    async def of_asset(self, folder: UUID, asset: str) -> list[SharedFile]:
        """The rows of one asset (its hash)."""
        return await self._rows(folder, "f.asset = $2", asset)

    async def with_prefix(self, folder: UUID, prefix: str) -> list[str]:
        """The hashes of the assets whose known id begins so."""
        rows = await self._pool.fetch(
            """SELECT DISTINCT asset FROM shared_files
               WHERE folder = $1 AND text <> '' AND starts_with(text, $2)""",
            *(folder, prefix),
        )
        return [row["asset"] for row in rows]

    async def assets(self, folder: UUID) -> dict[str, tuple[str, bool]]:
        """Every asset with a row: its hash, its id ("" where unknown), whether it is pinned."""
        rows = await self._pool.fetch(
            """SELECT asset, max(text) AS text, bool_or(pinned) AS pinned
               FROM shared_files WHERE folder = $1 GROUP BY asset""",
            folder,
        )
        return {row["asset"]: (row["text"], row["pinned"]) for row in rows}

    async def set_pinned(self, folder: UUID, assets: Sequence[str], *, pinned: bool) -> None:
        """Pin all files of these assets (hashes), or let them go."""
        await self._pool.fetch(
            "UPDATE shared_files SET pinned = $3 WHERE folder = $1 AND asset = ANY($2::text[])",
            *(folder, list(assets), pinned),
        )

    @asynccontextmanager
    async def locked(
        self, folder: UUID, owner: Ownership | None = None
    ) -> AsyncIterator[LockedFolder]:
        """The folder to oneself, for as long as the block lasts: seconds at the most.

        A host that goes down meanwhile loses the lock after 15 s. Raises NoLongerOwner where it is
        to be done as `owner` of the folder and another is by now.
        """
        async with self._pool.transaction() as connection:
            await connection.execute(
                f"SET LOCAL idle_in_transaction_session_timeout = '{_HELD_S}s'"
            )
            row = await connection.fetchrow(
                "SELECT owner, term FROM shared_folders WHERE id = $1 FOR UPDATE", folder
            )
            if owner and (row is None or (row["owner"], row["term"]) != (owner.owner, owner.term)):
                raise NoLongerOwner
            if row is None:  # until somebody registers it again, which takes a second
                raise CatalogUnavailable("The shared folder is not known to the database.")
            yield LockedFolder(connection, folder)

    async def _rows(self, folder: UUID, where: str, *values: object) -> list[SharedFile]:
        async with self._pool.connection() as connection:
            return await _rows(connection, folder, where, *values)


class LockedFolder:
    """What may be done while a folder's row is locked."""

    def __init__(self, connection: asyncpg.Connection, folder: UUID) -> None:
        self._connection = connection
        self._folder = folder

    async def totals(self) -> SharedTotals:
        """What is used, and will not change meanwhile."""
        return await _totals(self._connection, self._folder)

    async def find(self, key: Key) -> SharedFile | None:
        """The row of this key."""
        rows = await self._where("f.asset = $2 AND f.name = $3", *key)
        return rows[0] if rows else None

    async def evictable(self, limit: int) -> list[SharedFile]:
        """Neither pinned nor leased nor being written; least recently used first."""
        return await self._where(
            "f.writer = '' AND NOT f.pinned AND f.lease_until <= now() "
            "ORDER BY f.last_used LIMIT $2",
            limit,
        )

    async def of_asset(self, asset: str) -> list[SharedFile]:
        """The rows of one asset (its hash)."""
        return await self._where("f.asset = $2", asset)

    async def unleased(self, asset: str) -> list[SharedFile]:
        """The files of one asset that nobody reads."""
        return await self._where("f.asset = $2 AND f.writer = '' AND f.lease_until <= now()", asset)

    async def leftovers(self) -> list[SharedFile]:
        """What dead processes were writing."""
        rows = await self._where("f.writer <> ''")
        return [row for row in rows if not row.alive]

    async def temporaries(self) -> set[str]:
        """The temporary names that are claimed."""
        return {row.temp for row in await self._where("f.writer <> ''")}

    async def doomed(self, limit: int) -> list[SharedFile]:
        """What was to be dropped when somebody was reading it, and nobody is any more."""
        return await self._where(
            "f.doomed AND f.writer = '' AND f.lease_until <= now() LIMIT $2", limit
        )

    async def doom(self, keys: Sequence[Key]) -> None:
        """To be dropped as soon as nobody reads them, before any other.

        Not '-infinity': that has no age, and PostgreSQL before 17 would not read the row again.
        """
        await self._connection.executemany(
            """UPDATE shared_files SET doomed = true, pinned = false, last_used = 'epoch'
               WHERE folder = $1 AND asset = $2 AND name = $3""",
            [(self._folder, *key) for key in keys],
        )

    async def enter(
        self,
        key: Key,
        size: int,
        *,
        text: str = "",
        writer: str = "",
        temp: str = "",
        pinned: bool = False,
        age_s: float = 0.0,
    ) -> None:
        """Count a file, or one to be written, in place of what was known of it."""
        await self._connection.execute(
            """INSERT INTO shared_files AS f
                   (folder, asset, name, text, bytes, writer, temp, pinned, last_used)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() - make_interval(secs => $9))
               ON CONFLICT (folder, asset, name) DO UPDATE SET
                   bytes = $5, writer = $6, temp = $7, doomed = false,
                   text = CASE WHEN $4 = '' THEN f.text ELSE $4 END, pinned = f.pinned OR $8,
                   last_used = greatest(f.last_used, excluded.last_used)""",
            *(self._folder, *key, text, size, writer, temp, pinned, age_s),
        )

    async def forget(self, keys: Iterable[Key]) -> None:
        """Count these no more: the files are gone."""
        await self._connection.executemany(
            "DELETE FROM shared_files WHERE folder = $1 AND asset = $2 AND name = $3",
            [(self._folder, *key) for key in keys],
        )

    async def bury(self) -> tuple[int, set[str]]:
        """Forget processes that are dead; how many, and the names of the living."""
        await self._connection.execute(
            """DELETE FROM shared_holders h WHERE folder = $1 AND expires < now()
               AND NOT EXISTS (SELECT 1 FROM shared_files f
                   WHERE f.folder = h.folder AND f.writer = h.holder)""",
            self._folder,
        )
        rows = await self._connection.fetch(
            "SELECT holder, expires > now() AS alive FROM shared_holders WHERE folder = $1",
            self._folder,
        )
        living = {row["holder"] for row in rows if row["alive"]}
        return len(rows) - len(living), living

    async def set_known(self) -> None:
        """All files that were there have been entered."""
        await self._connection.execute(
            "UPDATE shared_folders SET known = true WHERE id = $1", self._folder
        )

    async def _where(self, where: str, *values: object) -> list[SharedFile]:
        """The rows that meet a condition of this module's own."""
        return await _rows(self._connection, self._folder, where, *values)


async def _rows(
    connection: asyncpg.Connection, folder: UUID, where: str, *values: object
) -> list[SharedFile]:
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM shared_files f WHERE f.folder = $1 AND {where}",  # noqa: S608
        folder,
        *values,
    )
    return [SharedFile(**row) for row in rows]


async def _totals(connection: asyncpg.Connection, folder: UUID) -> SharedTotals:
    row = await connection.fetchrow(
        """SELECT count(*) FILTER (WHERE writer = '') AS files,
               coalesce(sum(bytes) FILTER (WHERE writer = ''), 0)::bigint AS bytes,
               coalesce(sum(bytes) FILTER (WHERE writer <> ''), 0)::bigint AS reserved,
               coalesce(sum(bytes) FILTER (WHERE pinned AND writer = ''), 0)::bigint AS pinned,
               (SELECT coalesce(min(quota), 0) FROM shared_holders
                   WHERE folder = $1 AND quota > 0 AND expires > now()) AS quota,
               coalesce((SELECT known FROM shared_folders WHERE id = $1), false) AS known
           FROM shared_files WHERE folder = $1""",
        folder,
    )
    return SharedTotals(**dict(row or {}))
