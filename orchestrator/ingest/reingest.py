"""Ingests of assets that exist, from the origin recorded with them."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import INGEST, JobDraft
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    ObjectNotFound,
    OverQuota,
    SourceChanged,
    TooLarge,
    Unprocessable,
)
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.ingest_context import Outcome
from orchestrator.ingest.ingest_run import IngestRunner
from orchestrator.ingest.payload.decoding import Payload, encode
from orchestrator.ingest.register import Registrar, Request, build_draft
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState
from orchestrator.origins.origin_address import local_path, scheme_of
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
_REPLACED_EVERY_S = 300
"""An ingest of a replaced origin is queued once in this time: it may fail, and every request finds
the origin replaced.
"""


class Reingester:
    """Ingests known assets again, by request or because their source changed."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        registrar: Registrar,
        converter: Converter,
        conversion_jobs: ConversionJobs,
        submitter: Submitter,
        runner: IngestRunner,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._registrar = registrar
        self._converter = converter
        self._conversion_jobs = conversion_jobs
        self._submitter = submitter
        self._runner = runner

    async def reingest(self, asset_id: AssetId, check: Check | None = None) -> Outcome:
        """Ingest an asset again from its origin, changed or not. Raises AssetNotFound, what `check`
        raises, and as `IngestRunner.ingest`.
        """
        asset = await self._catalog.assets.get(asset_id)
        if check is not None:
            check(asset)
        if asset is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        if asset.source is None or asset.source.location != f"{FILE}{asset.origin}":
            accepted = await self._runner.accept(Request(asset.id, "", force=True), check=check)
            return await self._runner.run(asset_id, accepted.ingest_generation)
        recipes = await self._converter.load_recipes(asset)
        registered = await self._registrar.register_file(
            asset.id, local_path(asset.origin), recipes, asset, force=True, check=check
        )
        if registered.changed:
            check = None  # the request was accepted with the new file
        async with self._converter.lock(asset_id):
            now = await self._catalog.assets.get(asset_id)
            if now is not None and (check is not None or now.state is not AssetState.REGISTERED):
                now = await self._catalog.versions.reopen(asset_id, now.version, check)
            if now is None:
                raise _overtaken()
            # In case this conversion fails or the process is killed.
            await self._conversion_jobs.submit(now)
            return await self._convert(now)

    async def refresh_source(self, asset: Asset) -> Asset:
        """Register an asset again whose source does not have the bytes that were recorded. Returns
        the asset as it is now.

        Raises OriginUnavailable, Unprocessable or TooLarge if its origin has no usable picture,
        SourceChanged if the asset must be ingested again. For an optimised origin that was
        replaced, a job is queued that does it.
        """
        now = await self._catalog.assets.get(asset.id)
        if now is None:
            raise AssetNotFound("The asset was deleted.")
        is_replaced = (now.version, now.source) != (asset.version, asset.source)
        if is_replaced or not await self._is_source_lost(now):
            return now
        if now.source is not None and not now.source.location.startswith((STORE, FILE)):
            await self._submit_replaced(now)
            raise SourceChanged("The origin was replaced. The asset is being ingested again.")
        if scheme_of(now.origin) != "file":
            raise SourceChanged("The stored source no longer exists. Ingest the asset again.")
        recipes = await self._converter.load_recipes(now)
        known = await self._catalog.assets.get(now.id)
        registered = await self._registrar.register_file(
            now.id, local_path(now.origin), recipes, known
        )
        if registered.changed:
            await self._conversion_jobs.submit(registered.asset)
        return registered.asset

    async def _submit_replaced(self, asset: Asset) -> None:
        """Queue an ingest of an asset whose optimised origin was replaced, unless one waits."""
        if asset.is_pending:
            return
        request = Request(asset.id, "")
        period = int(time.time() // _REPLACED_EVERY_S)
        draft = JobDraft(
            INGEST,
            encode(Payload(request)),
            asset.id.customer,
            host=host_of(asset.origin),
            asset=str(asset.id),
            dedupe=f"replaced {asset.id} {asset.version} {period}",
            request=build_draft(request),
        )
        await self._submitter.submit([draft])
        log.info("replaced origin queued for ingest", extra={"asset": str(asset.id)})

    async def _convert(self, asset: Asset) -> Outcome:
        try:
            converted = await self._converter.convert_locked(asset)
        except (Unprocessable, TooLarge, OverQuota) as error:
            await self._converter.record_failure(asset, error.public, error.code)
            raise
        if converted is None:
            raise _overtaken()
        return Outcome(converted, changed=True, bytes=asset.source.bytes if asset.source else 0)

    async def _is_source_lost(self, asset: Asset) -> bool:
        """Return whether the bytes that the asset names do not exist. A loss from the object store
        is recorded as a failure.
        """
        source = asset.source
        if source is None or not source.location.startswith(STORE):
            return True  # a file in place: the registrar reads its status
        with suppress(ObjectNotFound):
            info = await self._store.head(source.location.removeprefix(STORE))
            if info.etag == source.fingerprint:
                return False
        now = await self._catalog.assets.get(asset.id)
        if now is None or now.source != source:
            return False  # another version was published, which removed the objects of this one
        await self._converter.record_failure(
            asset, "The stored source no longer exists. Ingest the asset again."
        )
        return True


def _overtaken() -> Conflict:
    return Conflict("The asset was changed during its ingest. Try again.")
