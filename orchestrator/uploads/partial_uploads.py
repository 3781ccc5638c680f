"""Uploads that arrive in parts, as files that survive restarts and are shared by all processes.

The lock of an upload is held while a client sends bytes, and while the picture is accepted.
`partial_files` has the files. What gets no more bytes expires.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cleanup import clean_up
from orchestrator.errors import (
    BodyTooSlow,
    ChecksumMismatch,
    Conflict,
    NotFound,
    OrchestratorError,
    StateConflict,
    TooLarge,
)
from orchestrator.uploads.partial_files import (
    MISSING,
    PartialFiles,
    PartialUpload,
    open_part,
    settle_part,
    try_lock,
    write_part,
)

_BUFFER_BYTES = 1024**2
_ATTENTION_S = 0.5
"""How often a process that waits for bytes looks whether another request wants the upload."""
_LOCK_WAIT_S = 5.0
_LOCK_POLL_S = 0.05
_BUSY = "Another request sends this upload. Try again shortly."

Read = Callable[[], Awaitable[bytes]]
"""Reads the next bytes of a request; b"" at its end. Can be cancelled without loss."""
Accept = Callable[[Path], Awaitable[dict[str, Any]]]
"""Takes a whole file and returns what the client is answered."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The digest that the bytes of one request must have; `algorithm` is that of hashlib."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class PartialLimits:
    """`quota` and `floor` are bytes: of all uploads together, and of the disk that stay free."""

    quota: int
    floor: int
    expire_after_s: float
    pause_timeout_s: float
    receive_timeout_s: float


class PartialUploads:
    """The uploads in a folder."""

    def __init__(self, folder: Path, limits: PartialLimits) -> None:
        self._limits = limits
        self._files = PartialFiles(
            folder, quota=limits.quota, floor=limits.floor, expire_after_s=limits.expire_after_s
        )

    async def create(self, length: int, metadata: str) -> PartialUpload:
        """Begin an upload. Raises NoRoom if the quota or the disk has no room for it."""
        return await asyncio.to_thread(self._files.create, length, metadata)

    async def find(self, upload_id: str) -> PartialUpload:
        """The upload. Its first `offset` bytes survive a loss of power. Raises NotFound."""
        return await asyncio.to_thread(self._files.find, upload_id)

    async def append(
        self, upload_id: str, offset: int, read: Read, checksum: Checksum | None = None
    ) -> PartialUpload:
        """Append what `read` returns. Bytes that arrived are kept when the client disconnects or
        pauses, except if there is a checksum.

        Raises NotFound, Conflict (another request has the upload), StateConflict (`offset` is not
        the number of bytes on disk), TooLarge (more bytes than the length), BodyTooSlow,
        ChecksumMismatch, NoRoom.
        """
        async with self._locked(upload_id) as (part, upload):
            if upload.offset != offset:
                raise StateConflict(f"The upload has {upload.offset} bytes. Continue from there.")
            is_kept = False
            try:
                await self._receive(part, upload, read, checksum)
                is_kept = True
            finally:
                await clean_up(settle_part, part, offset, is_kept=is_kept or checksum is None)
        return await self.find(upload_id)

    async def finish(self, upload_id: str, accept: Accept) -> PartialUpload:
        """Have a whole upload accepted, unless it was before; its bytes are deleted then, and also
        if it is refused. Raises what `accept` raises, NotFound, Conflict.
        """
        with suppress(NotFound):
            upload = await self.find(upload_id)
            if upload.result is not None:
                return upload
        async with self._locked(upload_id) as (_, upload):
            path = self._files.part_path(upload_id, upload.length)
            try:
                result = await accept(path)
            except OrchestratorError as error:
                if not error.passing:
                    await asyncio.to_thread(self._files.remove, upload_id, upload.length)
                raise
            await asyncio.to_thread(
                self._files.record, upload_id, upload.length, upload.metadata, result
            )
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return await self.find(upload_id)

    async def delete(self, upload_id: str) -> None:
        """Cancel an upload. Raises NotFound, Conflict."""
        if (await self.find(upload_id)).result is not None:
            await asyncio.to_thread(self._files.json_path(upload_id).unlink, missing_ok=True)
            return
        async with self._locked(upload_id) as (_, upload):
            await asyncio.to_thread(self._files.remove, upload_id, upload.length)

    async def sweep(self) -> int:
        """Remove what has expired; the number of removed files."""
        return await asyncio.to_thread(self._files.sweep)

    async def _receive(
        self, part: int, upload: PartialUpload, read: Read, checksum: Checksum | None
    ) -> None:
        digest = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        room, buffer = upload.length - upload.offset, bytearray()
        deadline = time.monotonic() + self._limits.receive_timeout_s
        try:
            while chunk := await self._next(upload.id, read, deadline):
                room -= len(chunk)
                if room < 0:
                    raise TooLarge(f"The upload has more than {upload.length} bytes.")
                if digest is not None:
                    digest.update(chunk)
                buffer += chunk
                if len(buffer) >= _BUFFER_BYTES:
                    await asyncio.to_thread(write_part, part, buffer)
        finally:
            await asyncio.to_thread(write_part, part, buffer)
        if checksum is not None and digest is not None and digest.digest() != checksum.digest:
            raise ChecksumMismatch("The bytes do not have the checksum. Send them again.")

    async def _next(self, upload_id: str, read: Read, deadline: float) -> bytes:
        """The next bytes. Ends early if another request wants the upload: after a lost connection
        the client resumes, while this request still waits.
        """
        pause_end = time.monotonic() + self._limits.pause_timeout_s
        while time.monotonic() < min(pause_end, deadline):
            with suppress(TimeoutError):
                async with asyncio.timeout(_ATTENTION_S):
                    return await read()
            if await asyncio.to_thread(self._files.wanted_path(upload_id).exists):
                raise Conflict(_BUSY)
        raise BodyTooSlow("The bytes did not arrive in time. Resume the upload.")

    @asynccontextmanager
    async def _locked(self, upload_id: str) -> AsyncIterator[tuple[int, PartialUpload]]:
        """Hold the lock of an upload; yields its open file. Raises NotFound, Conflict."""
        upload = await self.find(upload_id)
        if upload.result is not None:
            raise StateConflict("The upload is complete.")
        path, wanted = (
            self._files.part_path(upload_id, upload.length),
            self._files.wanted_path(upload_id),
        )
        part = await asyncio.to_thread(open_part, path)
        try:
            end = time.monotonic() + _LOCK_WAIT_S
            while not try_lock(part):
                if time.monotonic() > end:
                    raise Conflict(_BUSY)
                await asyncio.to_thread(wanted.touch)
                await asyncio.sleep(_LOCK_POLL_S)
            await asyncio.to_thread(wanted.unlink, missing_ok=True)
            if not os.fstat(part).st_nlink:
                raise NotFound(MISSING)
            yield part, await self.find(upload_id)
        finally:
            await clean_up(os.close, part)
