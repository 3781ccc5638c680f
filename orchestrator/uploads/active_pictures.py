"""Finds the bytes of published pictures: in the disk cache, else in the store, else made from the
original, while a new crop is being stored. Large originals are read from the store by ranges.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.catalog.uploads import Upload, Uploads, cache_group
from orchestrator.errors import CatalogUnavailable, InvalidInput, NotFound, ObjectNotFound
from orchestrator.fault_log import FaultLog
from orchestrator.storage.store import ObjectInfo, ObjectStream
from orchestrator.uploads.intake import OpenFolder
from orchestrator.uploads.originals_at_work import WorkingOriginal
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

log = logging.getLogger(__name__)
_MISSING = "There is no such published picture."
_LARGE_BYTES = 8 * 1024**2
"""Larger files are not read into memory."""
_EXTENSION = "img"
Tier = Literal["disk", "stored", "resize"]


@dataclass(frozen=True, slots=True)
class ActivePicture:
    """A published file. `body` is None for a large one, which is read from the store by `info`."""

    key: PictureKey
    body: bytes | None
    tier: Tier
    modified: datetime
    info: ObjectInfo | None = None
    is_recorded: bool = True
    """False for a file of which nothing is known but the store: its changes are not announced."""
    product: Product | None = None
    """What the disk cache has, or will soon have, the body as."""

    @property
    def group(self) -> str:
        """The id by which a change drops it from caches."""
        return cache_group(self.key.name)


class ActivePictures:
    """Reads published pictures for one process."""

    def __init__(
        self,
        *,
        stores: UploadStores,
        files: PictureFiles,
        maker: VersionMaker,
        rows: Uploads,
        derivatives: DiskCache,
        flights: SingleFlight,
        open_folder: OpenFolder,
    ) -> None:
        self._store = stores.active
        self._files = files
        self._maker = maker
        self._rows = rows
        self._derivatives = derivatives
        self._flights = flights
        self._open_folder = open_folder
        self._faults = FaultLog(log, "pictures read without the database", "database read again")

    async def get(self, text: str, accepted: Sequence[str] = ()) -> ActivePicture:
        """The file with this key; a version in the first of the formats `accepted` that has been
        made. Without the database, what the store has. Raises NotFound, Unavailable, Unprocessable.
        """
        try:
            key = PictureKey.parse(text)
        except InvalidInput as error:
            raise NotFound(_MISSING) from error
        try:
            upload = await self._rows.get(key.name)
        except CatalogUnavailable as error:
            # Only what is published is in the store, but for moments.
            self._faults.report(reason=error.public)
            upload = None
        else:
            self._faults.clear()
        if upload is not None:
            key = _stored_key(upload, key, accepted)
        try:
            return await self._read(upload, key)
        except ObjectNotFound as error:
            raise NotFound(_MISSING) from error

    def open(
        self, info: ObjectInfo, start: int, length: int
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Read a range of a large file. Raises ObjectNotFound, PreconditionFailed if it was
        replaced, StorageUnavailable.
        """
        return self._store.open(info.key, start=start, length=length, if_match=info.etag)

    async def _read(self, upload: Upload | None, key: PictureKey) -> ActivePicture:
        product = Product(
            cache_group(key.name), upload.revision if upload else 0, str(key), _EXTENSION
        )
        if upload is None:  # only the store knows when it changes
            return await self._from_store(None, key)

        async def find() -> ActivePicture | None:
            body = await self._derivatives.get(product)
            outcome = "miss" if body is None else "hit"
            metrics.TIER_LOOKUPS.labels(tier="disk", outcome=outcome).inc()
            return None if body is None else ActivePicture(key, body, "disk", upload.changed)

        async def publish(picture: ActivePicture) -> None:
            if picture.body is not None:
                await self._derivatives.put(product, picture.body)

        picture = await find()
        if picture is None:
            picture = await self._flights.run(
                f"{product.asset} {product.version} {product.name}",
                lambda: self._find_stored_or_make(upload, key),
                find=find,
                publish=publish,
            )
        return picture if picture.body is None else replace(picture, product=product)

    async def _find_stored_or_make(self, upload: Upload, key: PictureKey) -> ActivePicture:
        if upload.made_with or not key.version:
            return await self._from_store(upload, key)
        # The row has switched to another crop, and the versions of it are not stored yet.
        body = await self._make(upload, key)
        return ActivePicture(key, body, "resize", upload.changed)

    async def _from_store(self, upload: Upload | None, key: PictureKey) -> ActivePicture:
        async with self._store.open(str(key)) as stream:
            modified = upload.changed if upload else stream.info.modified
            if stream.length > _LARGE_BYTES:
                info = stream.info
                return ActivePicture(key, None, "stored", modified, info, upload is not None)
            body = await stream.read()
        return ActivePicture(key, body, "stored", modified, is_recorded=upload is not None)

    async def _make(self, upload: Upload, key: PictureKey) -> bytes:
        rule = next((each for each in self._maker.rules if each.name == key.version), None)
        if rule is None:
            raise NotFound(_MISSING)
        async with self._open_folder(0) as folder:
            original = WorkingOriginal(self._files, self._maker, self._store, folder)
            path, probe = await original.path(upload), await original.probe(upload)
            return await self._maker.make_one(
                PictureKey.parse(upload.key), path, probe, upload.crop, rule=rule
            )


def _stored_key(upload: Upload, key: PictureKey, accepted: Sequence[str]) -> PictureKey:
    """The key of the object that answers a request for `key`. Raises NotFound."""
    original = PictureKey.parse(upload.key)
    if upload.state != "active":
        raise NotFound(_MISSING)
    if not key.version:
        if key != original:
            raise NotFound(_MISSING)
        return key
    usual = original.of_version(key.version)
    if key != usual:
        if key.extension not in upload.formats:
            raise NotFound(_MISSING)
        return key
    made = next((each for each in accepted if each in upload.formats), "")
    return original.of_version(key.version, made) if made else usual
