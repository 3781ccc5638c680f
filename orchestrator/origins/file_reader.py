"""Local files as origins: copied to scratch, or used in place and known by their fingerprint."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from os import stat_result
from pathlib import Path

import aiofiles

from orchestrator.errors import OriginUnavailable, TooLarge
from orchestrator.model import FILE, file_fingerprint
from orchestrator.origins.download import CHUNK_BYTES
from orchestrator.origins.reader_types import Access, Opened, Place, Unchanged, local_path


class FileReader:
    """Reads origins from the file system. Only ordinary files: a pipe or a device could hang or
    never end.
    """

    @asynccontextmanager
    async def open(self, origin: str, access: Access) -> AsyncIterator[Opened | Unchanged]:
        """Read a local file; raises OriginUnavailable when it is missing, unreadable or changes
        meanwhile.
        """
        path = local_path(origin)
        before = await asyncio.to_thread(file_status, path)
        mark = file_fingerprint(before)
        async with aclosing(_chunks(path)) as chunks:
            yield Opened(chunks, before.st_size, fingerprint=mark)
        if file_fingerprint(await asyncio.to_thread(file_status, path)) != mark:
            raise OriginUnavailable("The file changed while it was read.")


def place_of_file(path: Path) -> Place:
    """Where a file is that may be served in place (blocking). Raises OriginUnavailable."""
    status = file_status(path)
    return Place(f"{FILE}{path}", status.st_size, file_fingerprint(status))


def file_status(path: Path, max_bytes: int | None = None) -> stat_result:
    """Return the status of an ordinary file (blocking).

    Raises OriginUnavailable when there is none, TooLarge over `max_bytes`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise OriginUnavailable(
            "There is no such file, or it is out of reach.",
            retryable=False,
            code="origin_not_found",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise OriginUnavailable(
            "The origin is not an ordinary file.", retryable=False, code="origin_refused"
        )
    if max_bytes is not None and status.st_size > max_bytes:
        raise TooLarge(f"The file is larger than the {max_bytes} bytes allowed (ingest.max_bytes).")
    return status


async def _chunks(path: Path) -> AsyncGenerator[bytes, None]:
    try:
        async with aiofiles.open(path, "rb") as file:
            while chunk := await file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise OriginUnavailable(
            "The file may not be read.", retryable=False, code="origin_refused"
        ) from error
