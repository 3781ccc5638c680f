"""One ingest as idempotent steps: register (answerable from the original), convert, complete;
or all of it at once for an origin elsewhere. Also what changes or ends an asset afterwards.

Objects are in the store before the catalogue names them and are removed after it stops naming
them; a version that was overtaken takes its own objects away again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import AssetNotFound, OriginUnavailable, SourceChanged
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.file import file_status, fingerprint
from orchestrator.ingest.origins import Fetched, Origins
from orchestrator.ingest.policies import OptimisationPolicy, Policies
from orchestrator.ingest.preparing import Prepared, Recipes, prepare, sizes_for
from orchestrator.ingest.publishing import (
    STORE,
    Publisher,
    Stored,
    Version,
    keys_of,
    source_of,
    split,
)
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import Asset, AssetId, AssetState, Source
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
FILE = "file://"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be ingested: the origin, under which id, by which policies ("" for the default)."""

    id: AssetId
    origin: str
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    force: bool = False
    """Make everything anew even if the origin's bytes are those of the version there is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an ingest; `changed` is False when the origin's bytes were known already."""

    asset: Asset
    changed: bool
    bytes: int


class Pipeline:
    """The steps of ingest over one catalogue, store and imaging pool."""

    def __init__(
        self,
        *,
        assets: Assets,
        store: ObjectStore,
        imaging: ImagingPool,
        scratch: Scratch,
        origins: Origins,
        policies: Policies,
        max_bytes: int,
    ) -> None:
        self._assets = assets
        self._store = store
        self._imaging = imaging
        self._scratch = scratch
        self._origins = origins
        self._publisher = Publisher(store)
        self._max_bytes = max_bytes
        self.policies = policies

    async def register_in_place(
        self, asset_id: AssetId, path: Path, policy: OptimisationPolicy, known: Asset | None
    ) -> bool:
        """Record a local picture that stays where it is, answerable from now on; False when it is
        `known` already.

        Raises Unprocessable, TooLarge, OriginUnavailable, Overloaded, CatalogUnavailable.
        """
        status = await asyncio.to_thread(file_status, path, self._max_bytes)
        mark = fingerprint(status)
        if known is not None and _is_known(known, str(path), mark, policy.name):
            return False
        probe = await self._imaging.probe(path)
        source = source_of(probe, f"{FILE}{path}", status.st_size, mark)
        sizes = sizes_for((probe.width, probe.height), self.policies.thumbnails(""))
        draft = _draft(asset_id, str(path), mark, probe, source, policy.name)
        edge = known.public_edge if known is not None else None
        registered = await self._assets.register(draft, thumbnails=split(sizes, edge))
        if registered.changed:
            metrics.INGESTS.labels(outcome="registered").inc()
            await self._remove_old(known, registered.asset)
        return registered.changed

    async def convert(self, asset: Asset) -> Asset | None:
        """Make what a registered asset waits for and flip it; None when a newer version came.

        Raises Unprocessable, TooLarge, SourceChanged, NoRoom, Overloaded or Unavailable.
        """
        started = time.perf_counter()
        policies = Recipes(
            self.policies.optimisation(asset.optimisation_policy),
            self.policies.thumbnails(asset.thumbnail_policy),
        )
        async with self._scratch.folder(asset.source.bytes if asset.source else 0) as folder:
            original = await self._original(asset, folder)
            prepared = await prepare(self._imaging, original, policies, folder)
            await self._check_unchanged(asset)
            version = Version(asset.id, asset.version, asset.public_edge)
            kept = asset.source if prepared.is_original else None
            stored = await self._publisher.put(version, prepared, kept)
        done = await self._assets.complete(
            asset.id, asset.version, source=stored.source, thumbnails=stored.thumbnails
        )
        if done is None:
            await self._publisher.remove(stored.keys)
            return None
        await self._remove_old(asset, done)
        _count(done, started)
        return done

    async def ingest(self, request: Request) -> Outcome:
        """Fetch an origin, make everything and publish it as a new version in one step.

        Until then an earlier version is served as it was. Raises what `Origins.fetch`, `convert`
        and the policies raise.
        """
        policies = Recipes(
            self.policies.optimisation(request.optimisation_policy),
            self.policies.thumbnails(request.thumbnail_policy),
        )
        known = await self._assets.get(request.id)
        started = time.perf_counter()
        async with self._scratch.folder() as folder:
            fetched = await self._origins.fetch(request.origin, folder / "original")
            metrics.INGEST_BYTES.inc(fetched.bytes)
            name = policies.optimisation.name
            if known is not None and not request.force:
                if _is_known(known, request.origin, fetched.sha256, name) and _is_ready(known):
                    return Outcome(known, changed=False, bytes=fetched.bytes)
            prepared = await prepare(self._imaging, fetched.path, policies, folder)
            number = await self._assets.next_version()
            edge = known.public_edge if known is not None else None
            stored = await self._publisher.put(Version(request.id, number, edge), prepared, None)
        asset = await self._publish(request, fetched, prepared, number, stored, name)
        await self._remove_old(known, asset)
        _count(asset, started)
        return Outcome(asset, changed=True, bytes=fetched.bytes)

    async def reingest(self, asset_id: AssetId) -> Outcome:
        """Take the asset's origin in again, by the policies it was made by. Raises AssetNotFound
        and as `ingest`.
        """
        known = await self._assets.get(asset_id)
        if known is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        if known.source is not None and known.source.location.startswith(FILE):
            asset = await self.changed(known)
            done = await self.convert(asset)
            return Outcome(done or asset, changed=True, bytes=asset.source.bytes if asset.source else 0)
        request = Request(
            asset_id, known.origin, known.optimisation_policy, known.thumbnail_policy, force=True
        )
        return await self.ingest(request)

    async def changed(self, asset: Asset) -> Asset:
        """The asset registered anew from what is at its origin now, when that is a file here.

        For any other source there is nothing to look at again. Raises SourceChanged when the file
        is gone, and as `register_in_place`.
        """
        if asset.source is None or not asset.source.location.startswith(FILE):
            return asset
        path = Path(asset.source.location.removeprefix(FILE))
        policy = self.policies.optimisation(asset.optimisation_policy)
        try:
            await self.register_in_place(asset.id, path, policy, asset)
        except OriginUnavailable as error:
            raise SourceChanged("The image's original is gone; ingest it again.") from error
        return await self._assets.get(asset.id) or asset

    async def set_access(
        self,
        asset_id: AssetId,
        roles: tuple[str, ...] | None = None,
        max_unauthorised: int | None = None,
    ) -> Asset:
        """Change who may see the asset: thumbnails are filed anew first, then everything derived
        gets a new version. Raises AssetNotFound, StorageUnavailable.
        """
        asset = await self._assets.get(asset_id)
        if asset is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        wanted_roles = asset.roles if roles is None else roles
        edge = asset.max_unauthorised if max_unauthorised is None else max_unauthorised
        public = None if not wanted_roles and edge < 0 else max(edge, 0)
        sizes = split(asset.thumbnails.all(), public)
        moved: set[str] = set()
        if asset.state is AssetState.READY:
            moved = await self._publisher.refile(asset, sizes)
        changed = await self._assets.set_access(
            asset_id, roles=wanted_roles, max_unauthorised=edge, thumbnails=sizes
        )
        await self._publisher.remove(moved)
        return changed

    async def delete(self, asset_id: AssetId) -> Asset:
        """Forget the asset and remove its objects. Raises AssetNotFound."""
        asset = await self._assets.delete(asset_id)
        if asset is None:
            raise AssetNotFound(f"There is no asset {asset_id}.")
        await self._publisher.remove(keys_of(asset))
        return asset

    async def _publish(
        self,
        request: Request,
        fetched: Fetched,
        prepared: Prepared,
        number: int,
        stored: Stored,
        policy: str,
    ) -> Asset:
        draft = _draft(
            request.id, request.origin, fetched.sha256, prepared.probe, stored.source, policy
        )
        asset = await self._assets.publish(draft, number, stored.source, stored.thumbnails)
        if asset is None:
            await self._publisher.remove(stored.keys)
            raise SourceChanged("A newer version of this image was published meanwhile.")
        return asset

    async def _original(self, asset: Asset, folder: Path) -> Path:
        """The file to convert: in place where it lies here, else brought to scratch."""
        source = asset.source
        if source is None:
            raise AssetNotFound("The asset has no original.")
        if source.location.startswith(FILE):
            await self._check_unchanged(asset)
            return Path(source.location.removeprefix(FILE))
        target = folder / f"original.{source.extension}"
        async with self._store.open(
            source.location.removeprefix(STORE), if_match=source.fingerprint
        ) as stream:
            with await asyncio.to_thread(target.open, "wb") as file:
                async for chunk in stream:
                    await asyncio.to_thread(file.write, chunk)
        return target

    async def _check_unchanged(self, asset: Asset) -> None:
        source = asset.source
        if source is None or not source.location.startswith(FILE):
            return
        path = Path(source.location.removeprefix(FILE))
        status = await asyncio.to_thread(file_status, path)
        if fingerprint(status) != source.fingerprint:
            raise SourceChanged("The original is being replaced.")

    async def _remove_old(self, old: Asset | None, new: Asset) -> None:
        """Remove the objects of a version that is no longer named; failing leaves orphans, no harm."""
        if old is not None:
            await self._publisher.remove(keys_of(old) - keys_of(new))


def _is_known(known: Asset, origin: str, mark: str, policy: str) -> bool:
    same_bytes = known.origin == origin and known.origin_fingerprint == mark
    return same_bytes and known.optimisation_policy == policy


def _is_ready(known: Asset) -> bool:
    return known.state is AssetState.READY


def _draft(
    asset_id: AssetId, origin: str, mark: str, probe: Probe, source: Source, policy: str
) -> AssetDraft:
    return AssetDraft(
        id=asset_id,
        origin=origin,
        origin_fingerprint=mark,
        width=probe.width,
        height=probe.height,
        media_type=probe.media_type,
        source=source,
        optimisation_policy=policy,
    )


def _count(asset: Asset, started: float) -> None:
    elapsed_s = time.perf_counter() - started
    metrics.INGESTS.labels(outcome="completed").inc()
    metrics.INGEST_SECONDS.observe(elapsed_s)
    log.info(
        "asset ready",
        extra={
            "asset": str(asset.id),
            "version": asset.version,
            "bytes": asset.source.bytes if asset.source else 0,
            "elapsed_ms": round(elapsed_s * 1000),
        },
    )
