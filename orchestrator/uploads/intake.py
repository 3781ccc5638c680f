"""Receives pictures: to a private work folder, checked, with their versions to `incoming`.

The row is recorded before the objects, so that whatever a killed process leaves expires.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator import metrics
from orchestrator.catalog.uploads import Upload, Uploads
from orchestrator.errors import BodyTooSlow, NotAnImage, Overloaded, TooLarge
from orchestrator.imaging.formats.metadata_removal import without_metadata
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Probe
from orchestrator.settings import Uploads as UploadSettings
from orchestrator.uploads.measured_file import MeasuredFile
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey, new_name
from orchestrator.uploads.polyglots import check_single
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker, check_accepted

log = logging.getLogger(__name__)
OpenFolder = Callable[[int], AbstractAsyncContextManager[Path]]
"""Opens an empty work folder with room for that many bytes; it is removed at the end."""
_BUFFER_BYTES = 1024**2


class Intake:
    """Receives the uploads of one process."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        pool: ImagingPool,
        settings: UploadSettings,
        open_folder: OpenFolder,
    ) -> None:
        self._stores = stores
        self._files = files
        self._maker = maker
        self._rows = rows
        self._pool = pool
        self._settings = settings
        self._open_folder = open_folder
        self._in_progress = 0

    @asynccontextmanager
    async def work_folder(self, expected_bytes: int = 0) -> AsyncIterator[Path]:
        """A work folder for one upload. Raises Overloaded if `uploads.max_uploads` are in
        progress, TooLarge for more than `uploads.max_bytes`, NoRoom.
        """
        self.check_size(expected_bytes)
        if self._in_progress >= self._settings.max_uploads:
            raise Overloaded("Too many uploads are in progress. Try again shortly.")
        self._in_progress += 1
        try:
            async with self._open_folder(expected_bytes) as folder:
                yield folder
        finally:
            self._in_progress -= 1

    def check_size(self, size: int) -> None:
        """Raises TooLarge for a file of more than `uploads.max_bytes` bytes."""
        if size > self._settings.max_bytes:
            raise TooLarge(
                f"The file has more than {self._settings.max_bytes} bytes. Send a smaller one."
            )

    async def receive(self, folder: Path, chunks: AsyncIterator[bytes]) -> MeasuredFile:
        """Write the chunks to a file in `folder`. Raises TooLarge, BodyTooSlow."""
        path = folder / "received"
        file = await asyncio.to_thread(path.open, "xb")
        try:
            async with asyncio.timeout(self._settings.receive_timeout_s):
                return await self._write(file, path, chunks)
        except TimeoutError as error:
            raise BodyTooSlow("The file did not arrive in time. Send it again.") from error
        finally:
            await asyncio.to_thread(file.close)

    async def receive_file(self, path: Path) -> Upload:
        """Receive a file that arrived in another way; it is not changed. Raises as `work_folder`
        and `accept`.
        """
        async with self.work_folder() as folder:
            own = folder / "received"
            received = await asyncio.to_thread(_link, path, own)
            self.check_size(received.bytes)
            return await self.accept(received)

    async def accept(self, received: MeasuredFile) -> Upload:
        """Check a file, make its versions, and store everything in `incoming`.

        Raises NotAnImage, Unsupported and other Unprocessable for a file that is not accepted,
        TooLarge, Overloaded, Unavailable.
        """
        received, extension, probe = await self.check(received)
        key = PictureKey(new_name(time.time()), "", extension)
        versions = await self._maker.make(key, received.path, probe, None)
        draft = self._maker.draft(key, probe, received, made_with=self._maker.made_with(None))
        upload = await self._rows.add(draft)
        await self._files.store(
            self._stores.incoming, upload, received.path, versions, cache_control=""
        )
        metrics.UPLOADS.labels("received").inc()
        log.info("picture received", extra={"key": str(key), "bytes": received.bytes})
        return upload

    async def check(self, received: MeasuredFile) -> tuple[MeasuredFile, str, Probe]:
        """The file without what must not be stored, the extension of its format, and what the
        picture is. Raises NotAnImage, Unsupported and other Unprocessable, TooLarge, Overloaded.
        """
        if not received.bytes:
            raise NotAnImage("The file is empty.")
        extension = await asyncio.to_thread(check_accepted, received.path, self._settings.formats)
        received = await self._cleaned(received, extension)
        probe = await self._maker.probe(received.path)
        if self._settings.strip_originals and extension != "svg":
            received = await asyncio.to_thread(_strip, received, probe)
        return received, extension, probe

    async def _write(
        self, file: BinaryIO, path: Path, chunks: AsyncIterator[bytes]
    ) -> MeasuredFile:
        digest, size = hashlib.sha256(), 0
        buffer = bytearray()

        def flush() -> None:
            file.write(buffer)
            digest.update(buffer)
            buffer.clear()

        while True:
            async with asyncio.timeout(self._settings.pause_timeout_s):
                chunk = await anext(chunks, b"")
            if not chunk:
                break
            size += len(chunk)
            self.check_size(size)
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await asyncio.to_thread(flush)
        await asyncio.to_thread(flush)
        await asyncio.to_thread(file.flush)
        return MeasuredFile(path, size, digest.hexdigest())

    async def _cleaned(self, received: MeasuredFile, extension: str) -> MeasuredFile:
        """The file without what must not be stored. Raises Unprocessable, TooLarge, Overloaded."""
        if extension != "svg":
            await asyncio.to_thread(check_single, received.path)
            return received
        if self._settings.svg == "inert":
            return received
        body = await self._pool.sanitise_svg(received.path)
        return await asyncio.to_thread(_replace, received, body)


def _strip(received: MeasuredFile, probe: Probe) -> MeasuredFile:
    """The file without metadata. Blocking. Raises Unprocessable."""
    body = received.path.read_bytes()
    return _replace(received, without_metadata(body, probe.format, probe.orientation))


def _replace(received: MeasuredFile, body: bytes) -> MeasuredFile:
    """A file with these bytes, in place of the received one. Blocking."""
    path = received.path.with_name("cleaned")
    path.write_bytes(body)
    return MeasuredFile(path, len(body), hashlib.sha256(body).hexdigest())


def _link(path: Path, target: Path) -> MeasuredFile:
    """Give a file a second name, on another disk a copy. Blocking."""
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, target)
    return MeasuredFile.of(target)
