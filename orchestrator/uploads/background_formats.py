"""Makes the versions of published pictures in further formats: jobs of the kind `upload_formats`.

A job belongs to one revision of a picture. It stores its results only while that is the current
one.
"""

from __future__ import annotations

import logging

from orchestrator import metrics
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.catalog.uploads import Upload, Uploads
from orchestrator.errors import ObjectNotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.uploads.intake import OpenFolder
from orchestrator.uploads.originals_at_work import WorkingOriginal
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

log = logging.getLogger(__name__)
UPLOAD_FORMATS = "upload_formats"
"""The kind of these jobs."""
_NO_CUSTOMER = 0


class FormatJobs:
    """Records the jobs."""

    def __init__(self, submitter: Submitter, formats: tuple[str, ...]) -> None:
        self._submitter = submitter
        self._formats = formats

    async def record(self, upload: Upload) -> None:
        """Record the job of this revision, once, unless it was done. Raises CatalogUnavailable."""
        if not set(self._formats) - set(upload.formats):
            return
        payload = {"name": upload.name, "revision": upload.revision}
        dedupe = f"upload formats {upload.name} {upload.revision} {' '.join(self._formats)}"
        await self._submitter.submit(
            [JobDraft(UPLOAD_FORMATS, payload, _NO_CUSTOMER, dedupe=dedupe)]
        )


class FormatMaker:
    """Handles the jobs."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        publisher: Publisher,
        formats: tuple[str, ...],
        open_folder: OpenFolder,
    ) -> None:
        self._stores = stores
        self._files = files
        self._maker = maker
        self._rows = rows
        self._publisher = publisher
        self._formats = formats
        self._open_folder = open_folder

    async def __call__(self, job: Job) -> None:
        """Make and store the formats that are missing. Raises Unprocessable, TooLarge, Overloaded,
        Unavailable, Conflict.
        """
        name, revision = job.payload["name"], job.payload["revision"]
        upload = await self._current(name, revision)
        if upload is None:
            return
        for extension in self._formats:
            if extension not in upload.formats:
                try:
                    await self._make(upload, extension)
                except ObjectNotFound:  # deleted meanwhile
                    return

    async def _make(self, upload: Upload, extension: str) -> None:
        key = PictureKey.parse(upload.key)
        made: dict[PictureKey, bytes] = {}
        async with self._open_folder(0) as folder:
            original = WorkingOriginal(self._files, self._maker, self._stores.active, folder)
            path, probe = await original.path(upload), await original.probe(upload)
            if extension == "avif" and probe.pages > 1 and probe.format in ("gif", "webp"):
                return  # the animation would be lost
            for rule in self._maker.rules:
                made[key.of_version(rule.name, extension)] = await self._maker.make_one(
                    key, path, probe, upload.crop, rule=rule, extension=extension
                )
        async with self._publisher.alone(upload.name):
            # No other job of this picture stores versions of another crop at the same time.
            if await self._current(upload.name, upload.revision) is None:
                return
            await self._files.store_versions(
                self._stores.active,
                made,
                self._maker.made_with(upload.crop),
                cache_control=self._stores.cache_control,
            )
            await self._rows.add_format(upload.name, upload.revision, extension)
        await self._rows.announce_change(upload.name)
        metrics.UPLOADS.labels("formats").inc()
        log.info("picture format made", extra={"key": upload.key, "format": extension})

    async def _current(self, name: str, revision: int) -> Upload | None:
        upload = await self._rows.get(name)
        if upload is None or upload.state != "active" or upload.revision != revision:
            return None
        return upload
