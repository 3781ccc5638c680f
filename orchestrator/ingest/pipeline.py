"""What ingest offers to everybody else: assets declared, taken in, converted, changed and deleted.

New objects are stored before the catalogue names them, old ones removed after it has stopped to. A
picture that is being served goes on being served as it was until its successor is complete, and if
that fails, too.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Deleted
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    ObjectNotFound,
    OverQuota,
    SourceChanged,
    TooLarge,
    Unprocessable,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.convert import Conversions
from orchestrator.ingest.hooks import AfterIngest
from orchestrator.ingest.ingest_run import Ingests, Outcome, WillRetry
from orchestrator.ingest.policies import OptimisationPolicy, Policies
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.publish import Publisher
from orchestrator.ingest.register import Registrar, Request, draft_of
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.rights import Filing
from orchestrator.ingest.scratch import Scratch
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState
from orchestrator.origins.origin_address import local_path, scheme_of
from orchestrator.origins.origin_services import OriginServices
from orchestrator.settings import Settings
from orchestrator.storage.store import ObjectStore

__all__ = ["Outcome", "Pipeline", "Request"]

log = logging.getLogger(__name__)


class Pipeline:
    """Everything ingest does, over one catalogue, object store and imaging pool."""

    def __init__(  # noqa: PLR0913  composes the parts of ingest
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        imaging: ImagingPool,
        scratch: Scratch,
        origins: OriginServices,
        policies: Policies,
        settings: Settings,
        submitter: Submitter,
        after: AfterIngest | None = None,
    ) -> None:
        self.policies = policies
        self.after = after or AfterIngest(settings.ingest)
        self.remover = Remover(catalog.objects, store, settings.ingest.remove_after_s)
        self._catalog = catalog
        self._assets = catalog.assets
        self._store = store
        publisher = Publisher(store, catalog.objects, self.remover)
        self._registrar = Registrar(self._assets, imaging, self.remover, settings.ingest.max_bytes)
        # Each conversion keeps a database connection for its lock, and so does one change of
        # rights; some must be left to work with.
        wanted = max(2, settings.ingest.workers, settings.jobs.workers)
        at_once = max(1, min(wanted, settings.database.pool_max - 3))
        # A fetch and a conversion, each as long as it may take.
        reserve_s = settings.ingest.total_timeout_s + settings.imaging.convert_timeout_s + 600
        self._conversions = Conversions(
            catalog,
            store,
            imaging,
            policies,
            scratch,
            publisher,
            at_once=at_once,
            reserve_s=reserve_s,
        )
        self.conversion_jobs = ConversionJobs(catalog, submitter, self._conversions)
        self._filing = Filing(catalog, publisher, self._conversions)
        self._ingests = Ingests(
            catalog=catalog,
            imaging=imaging,
            scratch=scratch,
            origins=origins,
            policies=policies,
            publisher=publisher,
            conversions=self._conversions,
            filing=self._filing,
            remover=self.remover,
            after=self.after,
            reserve_s=reserve_s,
        )

    async def register_in_place(
        self, asset_id: AssetId, path: Path, policy: OptimisationPolicy, known: Asset | None
    ) -> bool:
        """Register a local file to be read where it is; conversion is left to whoever looks for
        pending assets.

        `known` is the asset as read before, so that an unchanged file costs no more than a look at
        its status; False is returned then. Raises OriginUnavailable, Unprocessable, TooLarge,
        Overloaded.
        """
        policies = Recipes(policy, await self.policies.thumbnails(asset_id.customer, ""))
        return (await self._registrar.in_place(asset_id, path, policies, known)).changed

    async def declare(
        self, request: Request, *, batch: int | None = None, connection: Any = None
    ) -> Asset:
        """Record that an asset is to be taken in: state ingesting, its error cleared, what it shows
        unchanged. In the transaction of `connection` (`Catalog.transaction`) where one is given.
        """
        draft = draft_of(request, None, None, None, "", batch=batch)
        return await self._catalog.ingesting.declare(draft, connection)

    async def ingest(
        self, request: Request, job: int | None = None, *, will_retry: WillRetry | None = None
    ) -> Outcome:
        """Take one picture in, until it is converted and published; every attempt is recorded, with
        the number of its `job`.

        Raises what `fault_of` describes: InvalidInput (policy, origin), OriginUnavailable,
        NotAnImage, Unprocessable, TooLarge, OverQuota, NoRoom, Unavailable, Overloaded, Conflict,
        AssetNotFound when it was deleted meanwhile. An older version goes on being served then, and
        the asset and its attempt say why; but after a fault of which `will_retry` says so the asset
        goes on ingesting.
        """
        return await self._ingests.ingest(request, job, will_retry=will_retry)

    async def convert(self, asset_id: AssetId) -> Asset | None:
        """Convert a registered asset; see `Conversions.convert`."""
        return await self._conversions.convert(asset_id)

    async def refresh_source(self, asset: Asset) -> Asset:
        """Register anew an asset at whose source's location are not the bytes that were recorded.

        Raises OriginUnavailable, Unprocessable or TooLarge when its origin gives no picture now,
        SourceChanged when only an ingest can mend it.
        """
        now = await self._assets.get(asset.id)
        if now is None:
            raise AssetNotFound("The image was deleted.")
        if (now.version, now.source) != (asset.version, asset.source) or not await self._is_lost(
            now
        ):
            return now
        if scheme_of(now.origin) != "file":
            raise SourceChanged("The stored image is gone; it must be ingested again.")
        policies = await self._conversions.policies_of(now)
        path = local_path(now.origin)
        known = await self._assets.get(now.id)
        registered = await self._registrar.in_place(now.id, path, policies, known)
        if registered.changed:
            await self.conversion_jobs.submit(registered.asset)
        return registered.asset

    async def reingest(self, asset_id: AssetId) -> Outcome:
        """Take an asset in again from its origin, changed or not. Raises AssetNotFound and as
        `ingest`.
        """
        asset = await self._assets.get(asset_id)
        if asset is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        if asset.source is None or asset.source.location != f"{FILE}{asset.origin}":
            request = Request(
                asset.id,
                asset.origin,
                asset.optimisation_policy,
                asset.thumbnail_policy,
                force=True,
            )
            return await self.ingest(request)
        policies = await self._conversions.policies_of(asset)
        await self._registrar.in_place(asset.id, local_path(asset.origin), policies, asset)
        async with self._conversions.alone(asset_id):
            now = await self._assets.get(asset_id)
            if now is not None and now.state is not AssetState.REGISTERED:
                now = await self._assets.reopen(asset_id, now.version)
            if now is None:
                raise Conflict("The image was changed meanwhile.")
            await self.conversion_jobs.submit(now)  # in case this conversion fails or is killed
            return await self._converted(now)

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Change who may see how much; None leaves a field. Thumbnails are filed anew.

        Raises AssetNotFound, Conflict when the asset does not stop changing, StorageUnavailable.
        """
        asset = await self._filing.set_access(
            asset_id, roles=roles, max_unauthorised=max_unauthorised
        )
        self.after.happened("changed", asset)
        return asset

    async def narrow(self, request: Request, known: Asset) -> Asset:
        """The known asset under the rights that the request asks for, if nobody may see more by
        them than before: they do not wait for the pixels. Every ingest begins with it.

        Raises as `set_access`.
        """
        return await self._ingests.narrow(request, known)

    async def set_fields(self, asset_id: AssetId, **fields: Any) -> Asset:
        """Change descriptive fields (strings, numbers, tags, rights); an ingest under way goes on.
        Raises AssetNotFound.
        """
        asset = await self._assets.set_fields(asset_id, **fields)
        self.after.happened("changed", asset)
        return asset

    async def delete(self, asset_id: AssetId) -> Deleted:
        """Forget an asset; its objects are removed after a grace, cached files on every host at
        once (by notification); an original in place is left alone.

        Returns what there was of it. Raises AssetNotFound.
        """
        deleted = await self._assets.delete(asset_id)
        if deleted is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        await self.remover.at_once(asset_id)
        self.after.happened("deleted", deleted.asset)
        log.info(
            "asset deleted",
            extra={
                "asset": str(asset_id),
                "objects": deleted.objects,
                "bytes": deleted.bytes,
            },
        )
        return deleted

    async def record_failure(self, asset: Asset, reason: str) -> None:
        """See `Conversions.record_failure`."""
        await self._conversions.record_failure(asset, reason)

    async def _converted(self, asset: Asset) -> Outcome:
        try:
            now = await self._conversions.convert_alone(asset)
        except (Unprocessable, TooLarge, OverQuota) as error:
            await self._conversions.record_failure(asset, error.public)
            raise
        if now is None:
            raise Conflict("The image was changed meanwhile.")
        return Outcome(now, changed=True, bytes=asset.source.bytes if asset.source else 0)

    async def _is_lost(self, asset: Asset) -> bool:
        """Tell whether the bytes its row names are not there; what is lost from the store is
        recorded as failed.
        """
        source = asset.source
        if source is None or not source.location.startswith(STORE):
            return True  # in place: the registrar looks
        with suppress(ObjectNotFound):
            info = await self._store.head(source.location.removeprefix(STORE))
            if info.etag == source.fingerprint:
                return False
        now = await self._assets.get(asset.id)
        if now is None or now.source != source:
            return False  # completed or replaced while we looked, and tidied up after
        await self._conversions.record_failure(asset, "The stored source is gone.")
        return True
