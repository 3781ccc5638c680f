"""Makes the versions of published pictures again, after `uploads.resizing` changed or when versions
are missing: here, or as jobs of the kind `upload_resize`.

A picture whose versions were made by the present rules, and are all stored, is left alone, so that
an interrupted run goes on where it ended.
"""

from __future__ import annotations

from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.catalog.uploads import Upload, Uploads
from orchestrator.errors import InvalidInput, NotFound, ObjectNotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

UPLOAD_RESIZE = "upload_resize"
"""The kind of these jobs."""
_NO_CUSTOMER = 0
_JOBS_AT_ONCE = 500


class Resizer:
    """Makes versions again."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        rows: Uploads,
        maker: VersionMaker,
        publisher: Publisher,
        submitter: Submitter,
    ) -> None:
        self._stores = stores
        self._rows = rows
        self._maker = maker
        self._publisher = publisher
        self._submitter = submitter

    async def originals(self, limit: int = 0) -> list[str]:
        """The keys of all published originals, at most `limit` (0: all), also of those that another
        program published. Raises StorageUnavailable.
        """
        keys = []
        async for info in self._stores.active.list(""):
            try:
                keys.append(str(PictureKey.parse_original(info.key)))
            except InvalidInput:  # a version, or not ours
                continue
        return sorted(keys)[: limit or None]

    async def resize(self, key: str, *, force: bool = False) -> bool:
        """Make the versions of a picture again, if that is necessary or with `force`; False if it
        is not. Raises InvalidInput, NotFound, Unprocessable, TooLarge, Overloaded, Unavailable,
        Conflict.
        """
        if not force and await self.is_current(key):
            return False
        await self._publisher.remake(key)
        return True

    async def is_current(self, key: str) -> bool:
        """True if the picture is published completely, with versions made by the present rules.
        Raises InvalidInput, Unavailable.
        """
        parsed = PictureKey.parse_original(key)
        upload = await self._rows.get(parsed.name)
        if upload is None or not self._is_recorded_current(upload):
            return False
        return not await self.missing(parsed)

    async def missing(self, key: PictureKey) -> list[str]:
        """The keys of the original and of its versions that are not stored in `active`. Raises
        StorageUnavailable.
        """
        wanted = [str(key), *(str(key.of_version(name)) for name in self._maker.names)]
        return [each for each in wanted if not await self._has(each)]

    async def submit(self, keys: list[str], *, force: bool = False) -> int:
        """Record a job for each picture; the number of jobs. Raises CatalogUnavailable."""
        recorded = 0
        for begin in range(0, len(keys), _JOBS_AT_ONCE):
            drafts = [
                JobDraft(UPLOAD_RESIZE, {"key": key, "force": force}, _NO_CUSTOMER)
                for key in keys[begin : begin + _JOBS_AT_ONCE]
            ]
            recorded += len((await self._submitter.submit(drafts)).ids)
        return recorded

    async def __call__(self, job: Job) -> None:
        """Handle a job. Raises as `resize`."""
        try:
            await self.resize(job.payload["key"], force=job.payload["force"])
        except NotFound:  # deleted meanwhile
            return

    def _is_recorded_current(self, upload: Upload) -> bool:
        return (
            upload.state == "active"
            and bool(upload.asset)
            and upload.made_with == self._maker.made_with(upload.crop)
        )

    async def _has(self, key: str) -> bool:
        try:
            await self._stores.active.head(key)
        except ObjectNotFound:
            return False
        return True
