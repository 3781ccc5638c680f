"""Uploaded pictures: their state, and what the stores have of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.ico_results import ICO_CHANNEL

UploadState = Literal["incoming", "active", "deleted"]
Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the upright original."""
_COLUMNS = """name, key, state, width, height, frames, bytes, sha256, crop, made_with, versions,
    formats, revision, asset, created, published, changed"""


def cache_group(name: str) -> str:
    """The id of an uploaded picture in caches. The ids of assets begin with a digit."""
    return f"upload:{name}"


@dataclass(frozen=True, slots=True)
class UploadDraft:
    """What is recorded of a new picture. Width and height are in pixels, upright; `made_with`
    identifies what its versions were made with.
    """

    name: str
    key: str
    width: int
    height: int
    frames: int
    bytes: int
    sha256: str
    versions: tuple[str, ...]
    made_with: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """A recorded picture. `crop` is the part that the versions show, None for all of it."""

    name: str
    key: str
    state: UploadState
    width: int
    height: int
    frames: int
    bytes: int
    sha256: str
    crop: Region | None
    made_with: str
    """What the versions in the store were made with; "" if they are not complete."""
    versions: tuple[str, ...]
    """The names (suffixes) of all versions that may be in the store."""
    formats: tuple[str, ...]
    """Further formats in which the versions are stored."""
    revision: int
    """Grows with each change of what is published."""
    asset: str
    """The registered asset of a published picture; "" before that."""
    created: datetime
    published: datetime | None
    changed: datetime
    """When what is published changed last."""


class Uploads:
    """The repository of uploads. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, draft: UploadDraft, state: UploadState = "incoming") -> Upload:
        """Record a picture; one that is recorded already stays as it is. Returns the picture."""
        await self._pool.fetch(
            """INSERT INTO uploads (name, key, state, width, height, frames, bytes, sha256,
                   made_with, versions, published)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                   CASE $3 WHEN 'active' THEN now() END)
               ON CONFLICT (name) DO NOTHING""",
            draft.name,
            draft.key,
            state,
            draft.width,
            draft.height,
            draft.frames,
            draft.bytes,
            draft.sha256,
            draft.made_with,
            list(draft.versions),
        )
        added = await self.get(draft.name)
        assert added is not None  # noqa: S101  recorded above, and deleted only under its lock
        return added

    async def get(self, name: str) -> Upload | None:
        """The picture, or None."""
        row = await self._pool.fetchrow(
            f"SELECT {_COLUMNS} FROM uploads WHERE name = $1",  # noqa: S608  constants
            name,
        )
        return None if row is None else _upload_of(row)

    async def publish(
        self, name: str, crop: Region | None, versions: Sequence[str], made_with: str = ""
    ) -> Upload | None:
        """Record that the picture is published, and that its versions show this part of it. Without
        `made_with` they count as incomplete until `complete`. None if there is no such picture.
        """
        return await self._update(
            """state = 'active', crop = $2, made_with = $4, formats = '{}', changed = now(),
               versions = ARRAY(SELECT DISTINCT unnest(versions || $3::text[])),
               revision = revision + 1, published = coalesce(published, now())""",
            name,
            None if crop is None else list(crop),
            list(versions),
            made_with,
        )

    async def complete(self, name: str, revision: int, made_with: str) -> Upload | None:
        """Record that the store has all versions of this revision. None if it is no longer the
        current one.
        """
        return await self._update(
            "made_with = $3", name, revision, made_with, condition="AND revision = $2"
        )

    async def set_asset(self, name: str, asset: str) -> None:
        """Record the registered asset of a published picture."""
        await self._update("asset = $2", name, asset)

    async def add_format(self, name: str, revision: int, extension: str) -> Upload | None:
        """Record that the store has all versions of this revision in a further format. None if it
        is no longer the current one.
        """
        return await self._update(
            "formats = array_append(array_remove(formats, $3), $3)",
            name,
            revision,
            extension,
            condition="AND revision = $2",
        )

    async def set_deleted(self, name: str) -> Upload | None:
        """Record that the picture is being deleted. None if there is no such picture."""
        return await self._update(
            "state = 'deleted', revision = revision + 1, changed = now()", name
        )

    async def announce_change(self, name: str) -> None:
        """Notify every process that what is published of a picture has changed."""
        await self._pool.fetchrow("SELECT pg_notify($1, $2)", ICO_CHANNEL, cache_group(name))

    async def forget(self, name: str) -> None:
        """Delete the row of a picture of which the stores have nothing any more."""
        await self._pool.fetch("DELETE FROM uploads WHERE name = $1", name)

    async def unfinished(self, older_s: float, limit: int) -> list[Upload]:
        """Pictures in incoming that were uploaded longer ago than this many seconds, and those
        whose deletion has not ended; the oldest first.
        """
        rows = await self._pool.fetch(
            f"""SELECT {_COLUMNS} FROM uploads
                WHERE state <> 'active'
                    AND (state = 'deleted' OR created < now() - make_interval(secs => $1))
                ORDER BY created LIMIT $2""",  # noqa: S608  constants
            older_s,
            limit,
        )
        return [_upload_of(row) for row in rows]

    async def page(self, after: str = "", limit: int = 500) -> list[Upload]:
        """At most `limit` published pictures whose names follow `after`."""
        rows = await self._pool.fetch(
            f"""SELECT {_COLUMNS} FROM uploads WHERE state = 'active' AND name > $1
                ORDER BY name LIMIT $2""",  # noqa: S608  constants
            after,
            limit,
        )
        return [_upload_of(row) for row in rows]

    async def known(self, names: Sequence[str]) -> dict[str, Upload]:
        """Those of the pictures that are recorded, by their names."""
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM uploads WHERE name = ANY ($1::text[])",  # noqa: S608
            list(names),
        )
        return {row["name"]: _upload_of(row) for row in rows}

    async def _update(
        self, changes: str, name: str, *values: object, condition: str = ""
    ) -> Upload | None:
        row = await self._pool.fetchrow(
            f"UPDATE uploads SET {changes} WHERE name = $1 {condition} RETURNING {_COLUMNS}",  # noqa: S608
            name,
            *values,
        )
        return None if row is None else _upload_of(row)


def _upload_of(row: Any) -> Upload:
    values = dict(row)
    crop = values.pop("crop")
    values |= {name: tuple(values[name]) for name in ("versions", "formats")}
    return Upload(**values, crop=None if crop is None else tuple(crop))
