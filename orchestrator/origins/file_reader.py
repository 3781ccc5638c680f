"""Local files as origins: copied to scratch, or used in place and identified by a fingerprint."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from os import stat_result
from pathlib import Path

import aiofiles

from orchestrator.errors import OriginUnavailable, SourceChanged
from orchestrator.model import FILE, Source, file_fingerprint
from orchestrator.origins.download import CHUNK_BYTES, too_large
from orchestrator.origins.origin_address import local_path
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import (
    NotModified,
    OriginAccess,
    OriginLocation,
    OriginStream,
)


class FileReader:
    """Reads regular files only: a pipe or a device could block or never end."""

    def __init__(self, own: OwnData | None = None) -> None:
        """`own` files are refused."""
        self._own = own or OwnData()

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """Open a local file. Raises OriginUnavailable when it is missing, cannot be read, or
        changes before the block ends.
        """
        path = local_path(origin)
        await asyncio.to_thread(self._own.check_file, path)
        status = await asyncio.to_thread(file_status, path)
        fingerprint = file_fingerprint(status)
        async with aclosing(_chunks(path)) as chunks:
            yield OriginStream(chunks, status.st_size, fingerprint=fingerprint)
        if file_fingerprint(await asyncio.to_thread(file_status, path)) != fingerprint:
            raise OriginUnavailable("The file changed while it was read. Try again.")


def location_of_file(path: Path, max_bytes: int | None = None) -> OriginLocation:
    """Return the location of a file to serve in place (blocking). Raises OriginUnavailable,
    TooLarge.
    """
    status = file_status(path, max_bytes)
    return OriginLocation(f"{FILE}{path}", status.st_size, file_fingerprint(status))


def verify_file(source: Source) -> Path:
    """Return the path of a source that is served in place (blocking). Raises SourceChanged if the
    file is not the one that the asset was registered with.
    """
    path = Path(source.location.removeprefix(FILE))
    try:
        status = path.stat()
    except OSError as error:
        raise SourceChanged("The original file cannot be read. Check that it exists.") from error
    if file_fingerprint(status) != source.fingerprint:
        raise SourceChanged("The original file is being replaced. Try again.")
    return path


def is_unchanged(source: Source) -> bool:
    """True if a source that is served in place is the file that the asset was registered with. For
    files on a local disk: it does not wait for more than that.
    """
    try:
        status = Path(source.location.removeprefix(FILE)).stat()
    except OSError:
        return False
    return file_fingerprint(status) == source.fingerprint


def file_status(path: Path, max_bytes: int | None = None) -> stat_result:
    """Return the status of a regular file (blocking).

    Raises OriginUnavailable when there is none, TooLarge over `max_bytes`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise OriginUnavailable(
            "There is no such file, or the server may not read its folder. Check the path.",
            retryable=False,
            code="origin_not_found",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise OriginUnavailable(
            "The origin is not a regular file.", retryable=False, code="origin_refused"
        )
    if max_bytes is not None and status.st_size > max_bytes:
        raise too_large(max_bytes)
    return status


async def _chunks(path: Path) -> AsyncGenerator[bytes, None]:
    try:
        async with aiofiles.open(path, "rb") as file:
            while chunk := await file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise OriginUnavailable(
            "The server may not read the file. Check its permissions.",
            retryable=False,
            code="origin_refused",
        ) from error
