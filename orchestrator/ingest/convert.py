"""Conversion: a registered version gets its tile-ready source and thumbnails. One transaction
switches the asset to them.

At most one process of the installation ingests or converts an asset at a time. If a newer version
replaces the one that is converted, or the conversion fails, its objects become unwanted. After a
process is killed, another one writes under a version number of its own.
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
from orchestrator.errors import ObjectNotFound, PreconditionFailed, SourceChanged, Unprocessable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.prepare import Prepared, Recipes, prepare
from orchestrator.ingest.publish import ObjectWriter, Version, plan_objects
from orchestrator.ingest.reservation import Reservation
from orchestrator.ingest.scratch import Scratch
from orchestrator.jobs.fair_slots import FairSlots
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState, Source
from orchestrator.origins.file_reader import verify_file
from orchestrator.storage.store import LocalFiles, ObjectStore

log = logging.getLogger(__name__)
_LOCK_POLL_S = 0.5


class Converter:
    """Converts registered assets, in the `slots` that this process has for conversions."""

    def __init__(  # noqa: PLR0913  the parts of one conversion
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        imaging: ImagingPool,
        policies: Policies,
        scratch: Scratch,
        writer: ObjectWriter,
        slots: FairSlots,
        reserve_s: float,
        release: str,
    ) -> None:
        """`release` is that of the product."""
        self._catalog = catalog
        self._store = store
        self._imaging = imaging
        self._policies = policies
        self._scratch = scratch
        self._writer = writer
        self._reserve_s = reserve_s
        self._release = release
        self._slots = slots

    async def convert(self, asset_id: AssetId) -> Asset | None:
        """Convert the asset once no other process ingests or converts it. Returns the converted
        asset; None if it is not registered, or was replaced during the conversion.

        Raises Unprocessable, TooLarge, InvalidInput or OverQuota (a retry cannot help),
        SourceChanged (the original was replaced or deleted), Unavailable, Overloaded or NoRoom.
        """
        async with self.lock(asset_id):
            asset = await self._catalog.assets.get(asset_id)
            if asset is None or asset.state is not AssetState.REGISTERED:
                return None
            return await self.convert_locked(asset)

    @asynccontextmanager
    async def lock(self, asset_id: AssetId) -> AsyncIterator[None]:
        """Wait until nothing else ingests or converts the asset, then hold its lock. It occupies no
        connection and no slot.
        """
        while True:
            async with self._catalog.exclusive(lock_name(asset_id)) as is_locked:
                if is_locked:
                    yield
                    return
            await asyncio.sleep(_LOCK_POLL_S)

    async def convert_locked(self, asset: Asset) -> Asset | None:
        """Convert this version; None if another one replaced it. The caller holds `lock`."""
        source = asset.source
        if source is None:
            return None
        started = time.perf_counter()
        async with self._scratch.folder(expected_bytes=2 * source.bytes) as folder:
            path = await self._open_original(source, folder)
            try:
                recipes = await self.load_recipes(asset)
                async with self._slots.hold(asset.id.customer):
                    prepared = await prepare(
                        self._imaging, path, recipes, folder, check_room=self._scratch.check_room
                    )
            except Unprocessable:
                if source.location.startswith(FILE):
                    # A file that is being replaced is not damaged.
                    await asyncio.to_thread(verify_file, source)
                raise
            except FileNotFoundError as error:
                raise SourceChanged(
                    "The original was deleted while it was converted. Ingest the asset again."
                ) from error
            if source.location.startswith(FILE):
                # It may have been replaced while it was read.
                await asyncio.to_thread(verify_file, source)
            converted = await self._publish(asset, source, prepared, recipes)
        if converted is not None:
            metrics.INGESTS.labels("completed").inc()
            metrics.INGEST_SECONDS.observe(time.perf_counter() - started)
        return converted

    async def record_failure(self, asset: Asset, reason: str, code: str = "") -> None:
        """Record why this version could not be converted. Requests that its original can answer are
        still answered; if it cannot be decoded (`code`), all are refused. Raises
        CatalogUnavailable.
        """
        metrics.INGESTS.labels("failed").inc()
        await self._catalog.versions.fail(
            asset.id, asset.version, reason, code=code, release=self._release
        )
        fields = {"asset": str(asset.id), "reason": reason, "code": code}
        log.warning("conversion failed", extra=fields)

    async def load_recipes(self, asset: Asset) -> Recipes:
        """Return the policies recorded with the asset. Raises InvalidInput if one no longer
        exists.
        """
        return Recipes(
            await self._policies.optimisation(asset.id.customer, asset.optimisation_policy),
            await self._policies.thumbnails(asset.id.customer, asset.thumbnail_policy),
        )

    async def _publish(
        self, asset: Asset, source: Source, prepared: Prepared, recipes: Recipes
    ) -> Asset | None:
        """Store the objects and switch the asset to them; None if a newer version replaced it."""
        number = await self._catalog.versions.next_version()
        version = Version(asset.id, number, asset.public_edge)
        kept_source = source if prepared.is_original else None
        plan = await plan_objects(version, prepared, kept_source)
        is_in_store = kept_source is not None and kept_source.location.startswith(STORE)
        reservation = Reservation(self._catalog.quotas, asset.id, self._reserve_s)
        reserved = await reservation.reserve(plan.bytes + (source.bytes if is_in_store else 0))
        try:
            async with self._writer.write(plan) as stored:
                return await self._catalog.versions.complete(
                    asset.id,
                    asset.version,
                    source=stored.source,
                    thumbnails=stored.thumbnails,
                    thumbnails_version=number,
                    dimensions=prepared.probe.dimensions,
                    made_with=recipes.digest,
                    settlement=Settlement(stored.objects, reserved),
                )
        finally:
            await reservation.release()

    async def _open_original(self, source: Source, folder: Path) -> Path:
        """Return a local path of the original. Raises SourceChanged, StorageUnavailable."""
        if source.location.startswith(FILE):
            return await asyncio.to_thread(verify_file, source)
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
            raise SourceChanged(
                "The stored original no longer exists. Ingest the asset again."
            ) from error
        return target


def lock_name(asset_id: AssetId) -> str:
    """Return the name of the lock that an ingest or a conversion of the asset holds."""
    return f"conversion {asset_id}"
