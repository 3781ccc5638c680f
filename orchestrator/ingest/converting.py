"""Conversion: a registered version gets its tile-ready source and thumbnails, and is flipped to
them in one transaction.

At most one process of the installation converts an asset at a time. Who is overtaken by a newer
version, or fails, takes away what it wrote; who is killed is followed by another, which writes the
same keys again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import aiofiles

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import ObjectNotFound, PreconditionFailed, SourceChanged
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.preparing import Recipes, prepare
from orchestrator.ingest.publishing import Publisher, Version
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState, Source, file_fingerprint
from orchestrator.storage import keys
from orchestrator.storage.store import LocalFiles, ObjectStore

PENDING = (AssetState.REGISTERED, AssetState.INGESTING)
_WAIT_S = 0.5


class Conversion(StrEnum):
    """What became of one conversion: `outdated` when a newer version came, `busy` when somebody
    else is at it.
    """

    COMPLETED = "completed"
    OUTDATED = "outdated"
    BUSY = "busy"


class Conversions:
    """Converts registered assets, at most `at_once` of them together in this process."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        imaging: ImagingPool,
        policies: Policies,
        scratch: Scratch,
        at_once: int,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._imaging = imaging
        self._policies = policies
        self._scratch = scratch
        self._publisher = Publisher(store)
        self._slots = asyncio.Semaphore(at_once)

    async def convert(self, asset_id: AssetId) -> Conversion:
        """Convert the asset if it waits for that and nobody else is converting it.

        Raises Unprocessable or TooLarge (trying again cannot help), SourceChanged (its original is
        another now), or what may pass: Unavailable, Overloaded, NoRoom.
        """
        async with self._slots, self._catalog.exclusive(_lock_name(asset_id)) as alone:
            if not alone:
                return Conversion.BUSY
            asset = await self._catalog.assets.get(asset_id)
            if asset is None or asset.state not in PENDING:
                return Conversion.OUTDATED
            return await self.convert_alone(asset)

    @asynccontextmanager
    async def alone(self, asset_id: AssetId) -> AsyncIterator[None]:
        """Wait until nobody converts the asset, and keep others from it meanwhile; takes one of the
        slots.
        """
        async with self._slots:
            while True:
                async with self._catalog.exclusive(_lock_name(asset_id)) as taken:
                    if taken:
                        yield
                        return
                await asyncio.sleep(_WAIT_S)

    async def convert_alone(self, asset: Asset, original: Path | None = None) -> Conversion:
        """Convert this very version, whose `original` may be at hand already. The caller holds
        `alone`.
        """
        source = asset.source
        if source is None:
            return Conversion.OUTDATED
        started = time.perf_counter()
        async with self._scratch.folder(expected_bytes=2 * source.bytes) as folder:
            path = original or await self._original(source, folder)
            try:
                recipes = await self.policies_of(asset)
                prepared = await prepare(self._imaging, path, recipes, folder)
            except FileNotFoundError as error:
                raise SourceChanged("The original was removed while it was converted.") from error
            await asyncio.to_thread(verify_in_place, source)
            version = Version(asset.id, asset.version, asset.public_edge)
            stored = await self._publisher.put(
                version, prepared, source if prepared.is_original else None
            )
            done = await self._catalog.assets.complete(
                asset.id,
                asset.version,
                source=stored.source,
                thumbnails=stored.thumbnails,
                width=prepared.probe.width,
                height=prepared.probe.height,
            )
            if done is None:
                await self._publisher.remove(stored.keys)
                return Conversion.OUTDATED
        if stored.source.location != source.location and source.location.startswith(STORE):
            await self._publisher.remove([keys.original_key(asset.id, asset.version)])
        metrics.INGESTS.labels("completed").inc()
        metrics.INGEST_SECONDS.observe(time.perf_counter() - started)
        return Conversion.COMPLETED

    async def policies_of(self, asset: Asset) -> Recipes:
        """Return the policies recorded with the asset. Raises InvalidInput when one is not known
        any more.
        """
        return Recipes(
            await self._policies.optimisation(asset.id.customer, asset.optimisation_policy),
            await self._policies.thumbnails(asset.id.customer, asset.thumbnail_policy),
        )

    async def _original(self, source: Source, folder: Path) -> Path:
        if source.location.startswith(FILE):
            await asyncio.to_thread(verify_in_place, source)
            return Path(source.location.removeprefix(FILE))
        key = source.location.removeprefix(STORE)
        if isinstance(self._store, LocalFiles) and (local := await self._store.local_path(key)):
            return local
        target = folder / f"original.{source.extension}"
        try:
            async with (
                self._store.open(key, if_match=source.fingerprint) as stream,
                aiofiles.open(target, "wb") as file,
            ):
                async for chunk in stream:
                    await file.write(chunk)
        except (ObjectNotFound, PreconditionFailed) as error:
            raise SourceChanged("The stored original is not there any more.") from error
        return target


def verify_in_place(source: Source) -> None:
    """Raise SourceChanged when a source read in place is not what was registered (blocking)."""
    if not source.location.startswith(FILE):
        return
    try:
        status = Path(source.location.removeprefix(FILE)).stat()
    except OSError as error:
        raise SourceChanged("The original is not there any more.") from error
    if file_fingerprint(status) != source.fingerprint:
        raise SourceChanged("The original was replaced.")


def _lock_name(asset_id: AssetId) -> str:
    return f"conversion {asset_id}"
