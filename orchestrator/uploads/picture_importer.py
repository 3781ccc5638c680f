"""Publishes pictures of another system under the names that they have there: the migration.

Only what is missing is done, and a picture is complete when its row says so. So a migration that
was interrupted is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.catalog.uploads import Uploads
from orchestrator.errors import Unsupported
from orchestrator.uploads.intake import Intake, OpenFolder
from orchestrator.uploads.measured_file import MeasuredFile
from orchestrator.uploads.originals_at_work import WorkingOriginal
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.publication import Publication
from orchestrator.uploads.resizer import Resizer
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

Fetch = Callable[[Path], Awaitable[None]]
"""Copies the original to a file."""
_REPLACED_BY_SVG = ("jpg", "png")


class PictureImporter:
    """Publishes pictures of another system."""

    def __init__(  # noqa: PLR0913  only puts the parts together
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        intake: Intake,
        publication: Publication,
        publisher: Publisher,
        resizer: Resizer,
        open_folder: OpenFolder,
    ) -> None:
        self._stores = stores
        self._files = files
        self._maker = maker
        self._rows = rows
        self._intake = intake
        self._publication = publication
        self._publisher = publisher
        self._resizer = resizer
        self._open_folder = open_folder

    async def bring(self, key: PictureKey, fetch: Fetch, *, force: bool = False) -> bool:
        """Publish a picture whose original `fetch` copies, unless it is published; with `force`, in
        any case. False if there was nothing to do.

        Raises what `fetch` raises, Unsupported and other Unprocessable, TooLarge, OverQuota,
        Overloaded, Unavailable, Conflict.
        """
        await self._remove_replaced(key)
        upload = await self._rows.get(key.name)
        missing = await self._resizer.missing(key)
        # A migration that was killed, or a deletion: what the store has may be of either.
        is_unfinished = upload is not None and upload.state != "active"
        is_complete = upload is not None and bool(upload.asset and upload.made_with)
        if is_complete and not (force or missing or is_unfinished):
            return False
        if force or is_unfinished or str(key) in missing:
            await self._fetch_and_publish(key, fetch)
        elif missing:
            await self._publisher.remake(str(key))
        else:
            await self._publisher.publish(str(key))
        return True

    async def _remove_replaced(self, key: PictureKey) -> None:
        """Remove what a drawing replaces: the same picture with another extension."""
        upload = await self._rows.get(key.name)
        if upload is not None and upload.key != str(key):
            async with self._publisher.alone(key.name):
                await self._publication.delete(upload)
        if key.extension == "svg":
            stale = [str(PictureKey(key.name, "", each)) for each in _REPLACED_BY_SVG]
            await self._stores.active.delete(stale)

    async def _fetch_and_publish(self, key: PictureKey, fetch: Fetch) -> None:
        async with self._publisher.alone(key.name), self._open_folder(0) as folder:
            path = folder / "fetched"
            await fetch(path)
            fetched = await asyncio.to_thread(MeasuredFile.of, path)
            self._intake.check_size(fetched.bytes)
            received, extension, probe = await self._intake.check(fetched)
            if (extension == "svg") != (key.extension == "svg"):
                raise Unsupported(f"The file is {extension.upper()}, which its name denies.")
            before = await self._rows.get(key.name)
            if before is not None and (
                before.state == "deleted" or before.sha256 != received.sha256
            ):
                await self._publication.delete(before)
            upload = await self._rows.add(self._maker.draft(key, probe, received))
            original = WorkingOriginal(self._files, self._maker, self._stores.active, folder)
            original.use(received.path)
            published = await self._publication.publish(upload, upload.crop, original)
            await self._publication.finish(published, original)
