"""Local files as origins: copied to scratch, or used in place and known by their fingerprint."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from os import stat_result
from pathlib import Path

import aiofiles

from orchestrator.errors import OriginUnavailable, TooLarge
from orchestrator.ingest.origins import Fetched, local_path
from orchestrator.ingest.receive import CHUNK_BYTES, receive
from orchestrator.model import file_fingerprint


class FileFetcher:
    """Reads origins from the file system. Only ordinary files: a pipe or a device could hang or
    never end.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    async def fetch(self, origin: str, target: Path) -> Fetched:
        """Copy a local file; raises OriginUnavailable when it is missing, unreadable or changes
        meanwhile.
        """
        path = local_path(origin)
        before = await asyncio.to_thread(file_status, path)
        try:
            received = await receive(
                _chunks(path), target, max_bytes=self._max_bytes, expected=before.st_size
            )
        except PermissionError as error:
            raise OriginUnavailable("The file may not be read.", retryable=False) from error
        if file_fingerprint(await asyncio.to_thread(file_status, path)) != file_fingerprint(before):
            raise OriginUnavailable("The file changed while it was read.")
        return Fetched(target, received.bytes, received.sha256, file_fingerprint(before))


def file_status(path: Path, max_bytes: int | None = None) -> stat_result:
    """Return the status of an ordinary file (blocking).

    Raises OriginUnavailable when there is none, TooLarge over `max_bytes`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise OriginUnavailable(
            "There is no such file, or it is out of reach.", retryable=False
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise OriginUnavailable("The origin is not an ordinary file.", retryable=False)
    if max_bytes is not None and status.st_size > max_bytes:
        raise TooLarge(f"The file is larger than the {max_bytes} bytes allowed (ingest.max_bytes).")
    return status


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    async with aiofiles.open(path, "rb") as file:
        while chunk := await file.read(CHUNK_BYTES):
            yield chunk
