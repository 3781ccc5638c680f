"""The steps by which a picture is published, cropped and deleted. Each may be repeated: the row
says what is done. The caller holds the lock of the picture.

The versions are stored first, then the original, then the row is switched, so `active` never
answers for a picture that is half there. What follows is finished when the request is repeated. A
crop is a property of the row. The original is stored whole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator import metrics
from orchestrator.catalog.uploads import Region, Upload, Uploads
from orchestrator.errors import NotFound
from orchestrator.model import AssetId
from orchestrator.uploads.originals_at_work import WorkingOriginal
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

log = logging.getLogger(__name__)
_GONE = "The picture was deleted."


class PublishedAssets(Protocol):
    """Published pictures as registered assets; implemented by ingest, which uploads must not
    import.
    """

    async def add(
        self, asset_id: AssetId, path: Path, *, origin: str, sha256: str, policy: str
    ) -> None:
        """Register the file, so that every request for the asset can be answered."""
        ...

    async def remove(self, asset_id: AssetId) -> None:
        """Delete the asset; a missing one is no error."""
        ...


@dataclass(frozen=True, slots=True)
class AssetRules:
    """How published pictures become assets: their customer and space, their optimisation policy,
    and the address of an original by its key.
    """

    customer: int
    space: int
    policy: str
    origin_of: Callable[[str], str]

    def id_of(self, name: str) -> AssetId:
        """The id of the asset of a published picture."""
        return AssetId(self.customer, self.space, name)


RecordFormats = Callable[[Upload], Awaitable[None]]
"""Records the job that makes the versions of a picture in further formats."""


class Publication:
    """Changes what is stored and recorded of pictures."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        assets: PublishedAssets,
        asset_rules: AssetRules,
        record_formats: RecordFormats,
    ) -> None:
        self._stores = stores
        self._files = files
        self._maker = maker
        self._rows = rows
        self._assets = assets
        self._asset_rules = asset_rules
        self._record_formats = record_formats

    async def publish(
        self, upload: Upload, crop: Region | None, original: WorkingOriginal
    ) -> Upload:
        """Publish a picture that is in `incoming`. Raises ObjectNotFound, Unprocessable, TooLarge,
        Overloaded, Unavailable.
        """
        made = None if crop else await self._files.read_versions(self._stores.incoming, upload)
        if made is None:
            made = await self._make(upload, crop, original)
        path = await original.path(upload)
        made_with, control = self._maker.made_with(crop), self._stores.cache_control
        active = self._stores.active
        await self._files.store_versions(active, made, made_with, cache_control=control)
        await self._files.store_original(active, upload, path, cache_control=control)
        published = _existing(
            await self._rows.publish(upload.name, crop, self._maker.names, made_with)
        )
        await self._rows.announce_change(upload.name)
        metrics.UPLOADS.labels("published").inc()
        log.info("picture published", extra={"key": upload.key, "crop": crop})
        return published

    async def recut(self, upload: Upload, crop: Region | None, original: WorkingOriginal) -> Upload:
        """Let the versions of a published picture show another part of it. From the switch of the
        row on, `active` answers with the new versions, also if this is interrupted. Raises as
        `publish`.
        """
        made = await self._make(upload, crop, original)
        switched = _existing(await self._rows.publish(upload.name, crop, self._maker.names))
        await self._rows.announce_change(upload.name)
        metrics.UPLOADS.labels("cropped").inc()
        log.info("picture cropped", extra={"key": upload.key, "crop": crop})
        return await self._complete(switched, made)

    async def finish(self, upload: Upload, original: WorkingOriginal) -> None:
        """Do what an earlier request for this published picture has not done. Raises as `publish`,
        and OverQuota.
        """
        if not upload.made_with:
            upload = await self._complete(upload, await self._make(upload, upload.crop, original))
        await self._record_formats(upload)
        if upload.asset:
            return
        await self._files.delete(self._stores.incoming, upload)
        asset_id = self._asset_rules.id_of(upload.name)
        await self._assets.add(
            asset_id,
            await original.path(upload),
            origin=self._asset_rules.origin_of(upload.key),
            sha256=upload.sha256,
            policy=self._asset_rules.policy,
        )
        await self._rows.set_asset(upload.name, str(asset_id))

    async def delete(self, upload: Upload) -> None:
        """Delete the picture, its versions and its asset. The row goes last. Raises Unavailable."""
        await self._rows.set_deleted(upload.name)
        await self._rows.announce_change(upload.name)
        for store in (self._stores.active, self._stores.incoming):
            await self._files.delete(store, upload)
        if upload.published is not None:
            own = self._asset_rules.id_of(upload.name)
            await self._assets.remove(AssetId.parse(upload.asset) if upload.asset else own)
        await self._rows.forget(upload.name)
        metrics.UPLOADS.labels("deleted").inc()
        log.info("picture deleted", extra={"key": upload.key})

    async def delete_unrecorded(self, key: PictureKey) -> None:
        """Delete the objects that another program may have stored of a picture that is not
        recorded. Raises Unavailable.
        """
        await self._rows.announce_change(key.name)
        for store in (self._stores.active, self._stores.incoming):
            await self._files.delete_keys(store, key)

    async def _make(
        self, upload: Upload, crop: Region | None, original: WorkingOriginal
    ) -> dict[PictureKey, bytes]:
        path, probe = await original.path(upload), await original.probe(upload)
        return await self._maker.make(PictureKey.parse(upload.key), path, probe, crop)

    async def _complete(self, upload: Upload, made: dict[PictureKey, bytes]) -> Upload:
        """Store the versions of a published picture that show its crop."""
        made_with = self._maker.made_with(upload.crop)
        await self._files.store_versions(
            self._stores.active, made, made_with, cache_control=self._stores.cache_control
        )
        completed = await self._rows.complete(upload.name, upload.revision, made_with)
        return _existing(completed)


def _existing(upload: Upload | None) -> Upload:
    if upload is None:
        raise NotFound(_GONE)
    return upload
