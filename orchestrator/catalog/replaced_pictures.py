"""The list of pictures in the database of the replaced system, which the migration reads: the table
`app_images_archives`, with a row for each version of a document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from orchestrator.catalog.connection import connect, translated
from orchestrator.settings import Database

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ReplacedPicture:
    """A picture of the replaced system. With `has_svg` its original is a drawing whose name ends in
    `.svg`, whatever `filename` ends in.
    """

    filename: str
    has_svg: bool


class ReplacedPictures:
    """Reads the list. Every method raises CatalogUnavailable."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def count(self) -> int:
        """The number of pictures."""
        with translated():
            number: int = await self._connection.fetchval(
                "SELECT count(DISTINCT filename) FROM app_images_archives"
            )
        return number

    async def all(self, *, descending: bool = False) -> AsyncIterator[ReplacedPicture]:
        """Every picture once, in the order of the file names. Read in pages, so that a migration of
        hours needs no transaction.
        """
        order, follows = ("DESC", "<") if descending else ("ASC", ">")
        last: str | None = None
        while True:
            with translated():
                rows = await self._connection.fetch(
                    f"""SELECT filename, bool_or(coalesce(has_svg, false)) AS has_svg
                        FROM app_images_archives
                        WHERE filename IS NOT NULL
                            AND ($1::text IS NULL OR filename {follows} $1)
                        GROUP BY filename ORDER BY filename {order} LIMIT $2""",  # noqa: S608
                    last,
                    _PAGE,
                )
            for row in rows:
                yield ReplacedPicture(row["filename"], row["has_svg"])
            if len(rows) < _PAGE:
                return
            last = rows[-1]["filename"]


@asynccontextmanager
async def open_replaced_pictures(settings: Database) -> AsyncIterator[ReplacedPictures]:
    """Connect to the database of the replaced system; `settings` has its address. Raises
    CatalogUnavailable.
    """
    connection = await connect(settings)
    try:
        yield ReplacedPictures(connection)
    finally:
        await connection.close()
