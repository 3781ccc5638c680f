"""Taking pictures in: the steps of one ingest, each of which can be repeated, in the order that
never harms a reader.

New objects are stored before the catalogue names them, old ones deleted after it has stopped to. A
picture never served before is registered first and answered from its original; one that is being
served goes on being served as it was until its successor is complete, and if that fails, too.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    ObjectNotFound,
    SourceChanged,
    TooLarge,
    Unprocessable,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.converting import PENDING, Conversion, Conversions
from orchestrator.ingest.file import file_status
from orchestrator.ingest.origins import Origins
from orchestrator.ingest.policies import OptimisationPolicy, Policies
from orchestrator.ingest.preparing import Recipes, prepare, sizes_for
from orchestrator.ingest.publishing import Publisher, Version, keys_of, split
from orchestrator.ingest.reading import Fetched, local_path, scheme_of
from orchestrator.ingest.registering import (
    Registrar,
    Request,
    as_planned,
    draft_of,
    is_unchanged,
    public_edge_of,
)
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import FILE, STORE, Asset, AssetId, AssetState, file_fingerprint
from orchestrator.settings import Settings
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
_RACES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The asset as it now is; `changed` is False when its origin had nothing new. `bytes` of the
    original read.
    """

    asset: Asset
    changed: bool
    bytes: int = 0


class Pipeline:
    """Everything ingest does, over one catalogue, object store and imaging pool."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        imaging: ImagingPool,
        scratch: Scratch,
        origins: Origins,
        policies: Policies,
        settings: Settings,
    ) -> None:
        self.policies = policies
        self._assets = catalog.assets
        self._store = store
        self._imaging = imaging
        self._scratch = scratch
        self._origins = origins
        self._publisher = Publisher(store)
        self._registrar = Registrar(
            self._assets, imaging, self._publisher, settings.ingest.max_bytes
        )
        # Each conversion keeps a database connection for its lock; some must be left to work with.
        at_once = max(1, min(max(2, settings.ingest.workers), settings.database.pool_max - 2))
        self._conversions = Conversions(catalog, store, imaging, policies, scratch, at_once)

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

    async def ingest(self, request: Request) -> Outcome:
        """Take one picture in, until it is converted.

        Raises InvalidInput (policy, origin), OriginUnavailable, Unprocessable, TooLarge, NoRoom,
        Unavailable or Overloaded; an older version goes on being served then. Conflict when a later
        ingest got there first.
        """
        customer = request.id.customer
        policies = Recipes(
            await self.policies.optimisation(customer, request.optimisation_policy),
            await self.policies.thumbnails(customer, request.thumbnail_policy),
        )
        async with self._conversions.alone(request.id):
            known = await self._assets.get(request.id)
            if known is not None and await self._is_untouched(known, request, policies):
                return Outcome(known, changed=False)
            async with self._scratch.folder() as folder:
                fetched = await self._origins.fetch(
                    request.id.customer, request.origin, folder / "original"
                )
                metrics.INGEST_BYTES.inc(fetched.bytes)
                if known is None or known.state is not AssetState.READY:
                    return await self._ingest_first(request, policies, fetched, known)
                if not request.force and is_unchanged(
                    known, request, fetched.fingerprint, policies
                ):
                    return Outcome(known, changed=False, bytes=fetched.bytes)
                return await self._ingest_again(request, policies, fetched, known)

    async def convert(self, asset_id: AssetId) -> Conversion:
        """Convert a registered asset; see `Conversions.convert`."""
        return await self._conversions.convert(asset_id)

    async def changed(self, asset: Asset) -> Asset:
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
        return (await self._registrar.in_place(now.id, path, policies, known)).asset

    async def reingest(self, asset_id: AssetId) -> Outcome:
        """Take an asset in again from its origin, changed or not. Raises AssetNotFound and as
        `ingest`.
        """
        asset = await self._assets.get(asset_id)
        if asset is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        if asset.source is None or not asset.source.location.startswith(FILE):
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
            if now is not None and now.state not in PENDING:
                now = await self._assets.reopen(asset_id, now.version)
            if now is None:
                raise Conflict("The image was changed meanwhile.")
            return await self._converted(now, None)

    async def set_access(
        self,
        asset_id: AssetId,
        *,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Change who may see how much; None leaves a field. Thumbnails move between open and auth.

        Raises AssetNotFound, Conflict when the asset does not stop changing, StorageUnavailable.
        """
        for _ in range(_RACES):
            before = await self._assets.get(asset_id)
            if before is None:
                raise AssetNotFound(f"There is no asset {asset_id}.")
            wanted_roles = before.roles if roles is None else roles
            limit = before.max_unauthorised if max_unauthorised is None else max_unauthorised
            edge = max(limit, 0) if wanted_roles or limit >= 0 else None
            sizes = split(await self._sizes_of(before), edge)
            unwanted = await self._publisher.refile(before, sizes)
            after = await self._assets.set_access(
                asset_id, roles=roles, max_unauthorised=max_unauthorised, thumbnails=sizes
            )
            if (after.thumbnails_version, after.dimensions) == (
                before.thumbnails_version,
                before.dimensions,
            ):
                await self._publisher.remove(unwanted)
                return after
        raise Conflict("The image keeps changing; try again.")

    async def delete(self, asset_id: AssetId) -> Asset:
        """Forget an asset and remove its objects; an original in place is left alone. Raises
        AssetNotFound.
        """
        deleted = await self._assets.delete(asset_id)
        if deleted is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        await self._publisher.remove(keys_of(deleted.asset))
        return deleted.asset

    async def _is_untouched(self, known: Asset, request: Request, policies: Recipes) -> bool:
        """Tell, without reading it, whether a local file is what the asset was made from."""
        if (
            request.force
            or known.state is not AssetState.READY
            or scheme_of(request.origin) != "file"
        ):
            return False
        status = await asyncio.to_thread(file_status, local_path(request.origin))
        return is_unchanged(known, request, file_fingerprint(status), policies)

    async def _ingest_first(
        self, request: Request, policies: Recipes, fetched: Fetched, known: Asset | None
    ) -> Outcome:
        """Store the original, register it, then convert: it is answered from the original
        meanwhile.
        """
        probe = await self._imaging.probe(fetched.path)
        number = await self._assets.next_version()
        version = Version(request.id, number, None)
        planned = as_planned(probe, policies)
        source = await self._publisher.put_original(version, fetched.path, planned)
        draft = draft_of(request, probe, policies, source, fetched.fingerprint)
        try:
            registered = await self._registrar.record(draft, policies, known, number)
        except BaseException:
            await self._publisher.remove([source.location.removeprefix(STORE)])
            raise
        if not registered.changed:  # an earlier attempt came as far
            await self._publisher.remove([source.location.removeprefix(STORE)])
        return await self._converted(registered.asset, fetched.path)

    async def _converted(self, asset: Asset, original: Path | None) -> Outcome:
        try:
            outcome = await self._conversions.convert_alone(asset, original)
        except (Unprocessable, TooLarge) as error:
            await self.fail(asset, error.public)
            raise
        now = await self._assets.get(asset.id)
        if outcome is not Conversion.COMPLETED or now is None:
            raise Conflict("The image was changed meanwhile.")
        return Outcome(now, changed=True, bytes=asset.source.bytes if asset.source else 0)

    async def _ingest_again(
        self, request: Request, policies: Recipes, fetched: Fetched, known: Asset
    ) -> Outcome:
        """Make everything under a new version, then flip; until then, and on any error, the old one
        serves.
        """
        number = await self._assets.next_version()
        async with self._scratch.folder(expected_bytes=2 * fetched.bytes) as folder:
            prepared = await prepare(self._imaging, fetched.path, policies, folder)
            draft = draft_of(request, prepared.original, policies, None, fetched.fingerprint)
            version = Version(request.id, number, public_edge_of(draft, known))
            stored = await self._publisher.put(version, prepared, None)
            published = await self._assets.publish(draft, number, stored.source, stored.thumbnails)
        if published is None:
            await self._publisher.remove(stored.keys)
            raise Conflict("A later ingest of the image got there first.")
        await self._publisher.remove(keys_of(known) - keys_of(published))
        metrics.INGESTS.labels("completed").inc()
        return Outcome(published, changed=True, bytes=fetched.bytes)

    async def fail(self, asset: Asset, reason: str) -> None:
        """Record why this version could not be converted; what can be answered from its original
        still is.
        """
        metrics.INGESTS.labels("failed").inc()
        await self._assets.fail(asset.id, asset.version, reason)
        log.warning("ingest failed", extra={"asset_id": str(asset.id), "reason": reason})

    async def _sizes_of(self, asset: Asset) -> list[tuple[int, int]]:
        if asset.thumbnails_version:
            return list(asset.thumbnails.all())
        policies = await self._conversions.policies_of(asset)
        return sizes_for(asset.dimensions, policies.thumbnails)

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
        await self.fail(asset, "The stored source is gone.")
        return True
