"""Conversion: a registered version gets its tile-ready source and thumbnails, and is flipped to
them in one transaction.

At most one process of the installation converts an asset, or takes it in, at a time. What is
written by somebody who is overtaken by a newer version, or fails, is not wanted; who is killed is
followed by another, who writes under a number of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiofiles

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import ObjectNotFound, PreconditionFailed, SourceChanged
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.prepare import Prepared, Recipes, prepare
from orchestrator.ingest.publish import Publisher, Version, plan_objects
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState, Source, file_fingerprint
from orchestrator.storage.store import LocalFiles, ObjectStore

log = logging.getLogger(__name__)
_WAIT_S = 0.5


class Conversions:
    """Converts registered assets, at most `at_once` of them together in this process."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        imaging: ImagingPool,
        policies: Policies,
        scratch: Scratch,
        publisher: Publisher,
        *,
        at_once: int,
        reserve_s: float,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._imaging = imaging
        self._policies = policies
        self._scratch = scratch
        self._publisher = publisher
        self._reserve_s = reserve_s
        self._slots = asyncio.Semaphore(at_once)

    async def convert(self, asset_id: AssetId) -> Asset | None:
        """Convert the asset once no other process ingests or converts it. Returns the converted
        asset; None if it is not registered, or was replaced during the conversion.

        Raises Unprocessable, TooLarge, InvalidInput or OverQuota (a retry cannot help),
        SourceChanged (the original was replaced or deleted), Unavailable, Overloaded or NoRoom.
        """
        async with self.alone(asset_id):
            asset = await self._catalog.assets.get(asset_id)
            if asset is None or asset.state is not AssetState.REGISTERED:
                return None
            return await self.convert_alone(asset)

    async def record_failure(self, asset: Asset, reason: str) -> None:
        """Record why this version could not be converted. Requests that its original can answer are
        still answered. Raises CatalogUnavailable.
        """
        metrics.INGESTS.labels("failed").inc()
        await self._catalog.assets.fail(asset.id, asset.version, reason)
        log.warning("conversion failed", extra={"asset": str(asset.id), "reason": reason})

    @asynccontextmanager
    async def alone(self, asset_id: AssetId) -> AsyncIterator[None]:
        """Wait until nobody converts the asset, and keep others from it meanwhile; takes one of the
        slots.
        """
        while True:
            async with self._slots, self._catalog.exclusive(lock_name(asset_id)) as taken:
                if taken:
                    yield
                    return
            await asyncio.sleep(_WAIT_S)  # outside the slot, which others can use meanwhile

    async def convert_alone(self, asset: Asset) -> Asset | None:
        """Convert this version; None if it was replaced meanwhile. The caller holds `alone`."""
        source = asset.source
        if source is None:
            return None
        started = time.perf_counter()
        async with self._scratch.folder(expected_bytes=2 * source.bytes) as folder:
            path = await self._original(source, folder)
            try:
                recipes = await self.policies_of(asset)
                prepared = await prepare(self._imaging, path, recipes, folder)
            except FileNotFoundError as error:
                raise SourceChanged("The original was removed while it was converted.") from error
            await asyncio.to_thread(verify_in_place, source)
            converted = await self._flip(asset, source, prepared)
        if converted is not None:
            metrics.INGESTS.labels("completed").inc()
            metrics.INGEST_SECONDS.observe(time.perf_counter() - started)
        return converted

    async def _flip(self, asset: Asset, source: Source, prepared: Prepared) -> Asset | None:
        """Store what was made and make the catalogue name it; None when a newer version came."""
        number = await self._catalog.assets.next_version()
        version = Version(asset.id, number, asset.public_edge)
        kept = source if prepared.is_original else None
        plan = await plan_objects(version, prepared, kept)
        is_ours = kept is not None and kept.location.startswith(STORE)
        reservation = await self._catalog.quotas.reserve(
            asset.id, plan.bytes + (source.bytes if is_ours else 0), self._reserve_s
        )
        try:
            async with self._publisher.stored(plan) as stored:
                return await self._catalog.assets.complete(
                    asset.id,
                    asset.version,
                    source=stored.source,
                    thumbnails=stored.thumbnails,
                    thumbnails_version=number,
                    width=prepared.probe.width,
                    height=prepared.probe.height,
                    settlement=Settlement(stored.objects, reservation),
                )
        finally:
            await self._catalog.quotas.release(reservation)

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


def lock_name(asset_id: AssetId) -> str:
    """Return the name of the lock that whoever takes the asset in, or converts it, holds."""
    return f"conversion {asset_id}"
