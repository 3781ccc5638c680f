"""The requests that change pictures: publish, crop, turn and delete. Each holds the lock of its
picture, so concurrent requests for one picture are carried out one after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from orchestrator.catalog.lock_waiting import Lock, wait_for_lock
from orchestrator.catalog.uploads import Region, Upload, Uploads, UploadState
from orchestrator.errors import NotFound, ObjectNotFound
from orchestrator.imaging.pool import ImagingPool
from orchestrator.uploads.intake import OpenFolder
from orchestrator.uploads.measured_file import MeasuredFile
from orchestrator.uploads.originals_at_work import WorkingOriginal
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey, new_name
from orchestrator.uploads.publication import Publication
from orchestrator.uploads.turning import check_turnable, turn_file, turned_region
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker
from orchestrator.uploads.version_plan import parse_crop

ADOPTED = "adopted"
"""Recorded as what the versions of a picture were made with that another program published."""
_LOCK_WAIT_S = 120.0
_BUSY = "The picture is being changed by other requests. Try again shortly."
_MISSING = "There is no such picture. It was never uploaded, has expired or was deleted."
_NOT_PUBLISHED = "There is no such published picture."


class Publisher:
    """Changes the pictures of an installation."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        publication: Publication,
        pool: ImagingPool,
        lock: Lock,
        open_folder: OpenFolder,
    ) -> None:
        self._stores = stores
        self._files = files
        self._maker = maker
        self._rows = rows
        self._publication = publication
        self._pool = pool
        self._lock = lock
        self._open_folder = open_folder

    async def publish(self, filename: str, crop: str = "") -> Upload:
        """Publish a picture, or change the part that its versions show. Without `crop`, one that is
        published stays as it is.

        Raises InvalidInput, NotFound, Unprocessable, TooLarge, OverQuota, Overloaded, Conflict,
        Unavailable. Repeat the request then: it goes on where it ended.
        """
        key = PictureKey.parse_original(filename)
        async with self.alone(key.name), self._open_folder(0) as folder:
            upload = await self._find(key, folder)
            region = parse_crop(crop, (upload.width, upload.height)) if crop else None
            original = self._original(upload, folder)
            try:
                if upload.state == "incoming":
                    upload = await self._publication.publish(upload, region, original)
                elif region is not None and region != upload.crop:
                    upload = await self._publication.recut(upload, region, original)
                await self._publication.finish(upload, original)
            except ObjectNotFound as error:
                raise NotFound(_MISSING) from error
            return upload

    async def recrop(self, filename: str, crop: str = "") -> Upload:
        """Publish a copy of a published picture under a new name; its versions show the part
        `crop`. Raises as `publish`.
        """
        key = PictureKey.parse_original(filename)
        async with self._published(key) as (upload, original):
            region = parse_crop(crop, (upload.width, upload.height)) if crop else None
            path = await original.path(upload)
            return await self._publish_new(key, path, region, original)

    async def remake(self, filename: str) -> Upload:
        """Make the versions of a published picture again, by the present rules. Raises as
        `publish`.
        """
        key = PictureKey.parse_original(filename)
        async with self._published(key) as (upload, original):
            remade = await self._publication.recut(upload, upload.crop, original)
            await self._publication.finish(remade, original)
            return remade

    async def rotate(self, filename: str, quarters: int) -> Upload:
        """Publish a picture turned by so many quarter turns clockwise under a new name, and delete
        the one before. Raises as `publish`.
        """
        key = PictureKey.parse_original(filename)
        check_turnable(key.extension)
        async with self._published(key) as (upload, original):
            path, probe = await original.path(upload), await original.probe(upload)
            target = path.with_name("turned")
            await turn_file(self._pool, path, target, probe=probe, quarters=quarters)
            crop = upload.crop
            if crop is not None:
                crop = turned_region(crop, (upload.width, upload.height), quarters)
            rotated = await self._publish_new(key, target, crop, original)
            await self._publication.delete(upload)
            return rotated

    async def delete(self, filenames: Sequence[str]) -> None:
        """Delete pictures with their versions and assets; a missing one is no error. Raises
        InvalidInput before anything is deleted, Conflict, Unavailable.
        """
        for key in [PictureKey.parse_original(filename) for filename in filenames]:
            async with self.alone(key.name):
                known = await self._rows.get(key.name)
                if known is None:
                    await self._publication.delete_unrecorded(key)
                else:
                    await self._publication.delete(known)

    def alone(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a picture. Raises Conflict if others have it for too long."""
        return wait_for_lock(self._lock, f"upload {name}", wait_s=_LOCK_WAIT_S, busy=_BUSY)

    @asynccontextmanager
    async def _published(self, key: PictureKey) -> AsyncIterator[tuple[Upload, WorkingOriginal]]:
        """A published picture with its lock. Raises NotFound."""
        async with self.alone(key.name), self._open_folder(0) as folder:
            upload = await self._find(key, folder)
            if upload.state != "active":
                raise NotFound(_NOT_PUBLISHED)
            yield upload, self._original(upload, folder)

    def _original(self, upload: Upload, folder: Path) -> WorkingOriginal:
        store = self._stores.active if upload.state == "active" else self._stores.incoming
        return WorkingOriginal(self._files, self._maker, store, folder)

    async def _find(self, key: PictureKey, folder: Path) -> Upload:
        """The picture with this key. One that another program has stored is recorded now. Raises
        NotFound.
        """
        upload = await self._rows.get(key.name)
        if upload is not None:
            if upload.state == "deleted" or upload.key != str(key):
                raise NotFound(_MISSING)
            return upload
        stages: tuple[UploadState, ...] = ("active", "incoming")
        for stage in stages:
            store = self._stores.active if stage == "active" else self._stores.incoming
            path = folder / "adopted"
            with suppress(ObjectNotFound):
                sha256 = await self._files.fetch(store, str(key), path)
                probe = await self._maker.probe(path)
                size = (await asyncio.to_thread(path.stat)).st_size
                file = MeasuredFile(path, size, sha256)
                draft = self._maker.draft(key, probe, file, made_with=ADOPTED)
                return await self._rows.add(draft, stage)
        raise NotFound(_MISSING)

    async def _publish_new(
        self, key: PictureKey, path: Path, crop: Region | None, original: WorkingOriginal
    ) -> Upload:
        """Publish a file under a new name. Until then it expires like any upload."""
        new = PictureKey(new_name(time.time()), "", key.extension)
        file = await asyncio.to_thread(MeasuredFile.of, path)
        original.use(path)
        probe = await self._maker.probe(path)
        upload = await self._rows.add(self._maker.draft(new, probe, file, made_with=ADOPTED))
        upload = await self._publication.publish(upload, crop, original)
        await self._publication.finish(upload, original)
        return upload
