"""Answers requests for shaped pictures: checks the syntax, then the permission, then finds the
picture, then its result. Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.ico_results import IcoResults
from orchestrator.errors import (
    AssetNotFound,
    NotAnImage,
    OriginUnavailable,
    SourceChanged,
    StorageTimeout,
    StorageUnavailable,
    Unavailable,
    UnsupportedMedia,
)
from orchestrator.model import Asset, AssetId
from orchestrator.storage.object_keys import check_key
from orchestrator.transform.access import AccessRules, Permitted, Signed
from orchestrator.transform.originals import Originals, Place
from orchestrator.transform.parameters import NamedFormat
from orchestrator.transform.picture_shaper import Result
from orchestrator.transform.result_maker import ResultMaker, Subject
from orchestrator.transform.stored_results import StoredResults
from orchestrator.transform.stores import Stores, store_name
from orchestrator.transform.write_back import WriteBack

ASSET_SCHEME = "asset:"
"""Begins a path that names a registered asset: `asset:{customer}/{space}/{name}`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says about who sent it."""

    authorization: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict)


class AssetPictures(Protocol):
    """Registered assets as originals; implemented by routing, which transform must not import."""

    async def find(self, asset_id: AssetId, credentials: Credentials) -> tuple[Asset, bool]:
        """The asset if this client may have all of it, and whether it is stale. Raises
        AssetNotFound, NotAuthorised, CatalogUnavailable, the recorded error of a refused asset.
        """
        ...

    async def refresh(self, asset: Asset) -> None:
        """Read an asset again whose source was replaced."""
        ...

    def lease(self, asset: Asset) -> AbstractAsyncContextManager[Path]:
        """The source of an asset as a file, for the block."""
        ...


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """A request: the percent-decoded segment of the parameters and path of the picture, and what
    the query and the headers say. `accepted` is the format that Accept prefers, "" for none.
    """

    segment: str
    path: str
    signed: Signed = field(default_factory=Signed)
    region: str = ""
    bucket: str = ""
    accepted: NamedFormat = ""
    credentials: Credentials = field(default_factory=Credentials)
    waits_for_store: bool = False
    """True if the answer must wait until the result is stored beside its original."""

    @property
    def chosen_bucket(self) -> str:
        """The name of the bucket that headers choose, "" without headers."""
        return store_name(self.region, self.bucket) if self.region or self.bucket else ""


@dataclass(frozen=True, slots=True)
class Transformed:
    """A shaped picture. `hot_s` is how long it may be answered without looking the original up;
    `group` is the id that drops it earlier.
    """

    result: Result
    permitted: Permitted
    modified: datetime | None
    group: str
    hot_s: float
    asset: Asset | None = None
    stale: bool = False
    timings: tuple[tuple[str, float], ...] = ()
    """(step, milliseconds), for Server-Timing."""

    @property
    def private(self) -> bool:
        """True if only clients with rights may have it."""
        return self.asset is not None and self.asset.restricted


@dataclass(frozen=True, slots=True)
class Purged:
    """A purged picture: its id in caches, and how many stored results were deleted."""

    group: str
    results: int


class Transformer:
    """Answers the requests of one process."""

    def __init__(  # noqa: PLR0913  only puts the parts together
        self,
        *,
        rules: AccessRules,
        stores: Stores,
        originals: Originals,
        maker: ResultMaker,
        results: StoredResults,
        write_back: WriteBack,
        rows: IcoResults,
        derivatives: DiskCache,
        timeout_s: float,
    ) -> None:
        self.rules = rules
        self.stores = stores
        self.write_back = write_back
        self._originals = originals
        self._maker = maker
        self._results = results
        self._rows = rows
        self._derivatives = derivatives
        self._timeout_s = timeout_s

    async def transform(
        self, request: TransformRequest, assets: AssetPictures | None = None
    ) -> Transformed:
        """The shaped picture. Without `assets` only pictures in stores can be requested.

        Raises InvalidInput, Forbidden, Expired, NotAuthorised, NotFound, UnsupportedMedia,
        Unprocessable, TooLarge, Overloaded, OriginUnavailable (the store), Unavailable.
        """
        self.rules.parse(request.segment)
        asset_id = parse_path(request.path)
        permitted = self.rules.permit(
            request.segment, request.path, request.signed, request.chosen_bucket
        )
        if request.chosen_bucket or asset_id is None:
            store = self.stores.choose(request.region, request.bucket)
        try:
            async with asyncio.timeout(self._timeout_s):
                with _translated_errors():
                    if asset_id is None:
                        place = Place(store, request.path)
                        return await self._from_store(request, place, permitted)
                    if assets is None:
                        raise AssetNotFound("Assets cannot be requested here.")
                    return await self._from_asset(request, asset_id, permitted, assets)
        except TimeoutError as error:
            raise Unavailable("This picture took too long to make. Try again shortly.") from error

    async def purge(
        self, path: str, region: str = "", bucket: str = "", *, scan: bool = False
    ) -> Purged:
        """Remove the results of a picture: those stored beside it, and those in the caches of every
        host. With `scan` also results beside it that this product has not stored.

        Raises InvalidInput, Forbidden, NotFound, OriginUnavailable, CatalogUnavailable, Conflict.
        """
        asset_id = parse_path(path)
        if asset_id is not None:
            purged = Purged(str(asset_id), 0)
        else:
            place = Place(self.stores.choose(region, bucket), path)
            with _translated_errors():
                purged = Purged(place.id, await self.write_back.purge(place, scan=scan))
            self._originals.expire(place.id)
        await self._derivatives.assets.drop(purged.group)
        await self._rows.announce_purge(purged.group)
        return purged

    def expire(self, group: str) -> None:
        """Look a picture up at the next request; `group` is its id in caches."""
        self._originals.expire(group)

    async def _from_store(
        self, request: TransformRequest, place: Place, permitted: Permitted
    ) -> Transformed:
        try:
            return await self._shape_original(request, place, permitted)
        except SourceChanged:  # replaced between the look-up and the read
            self._originals.expire(place.id)
            return await self._shape_original(request, place, permitted)

    async def _shape_original(
        self, request: TransformRequest, place: Place, permitted: Permitted
    ) -> Transformed:
        started = time.perf_counter()
        original = await self._originals.find(place)
        found = time.perf_counter()
        parameters = permitted.parameters
        # A stored result has one format: what depends on Accept is kept in the cache alone.
        accepted = "" if parameters.format else request.accepted
        copy = None if accepted else self._results.copy_of(original, request.segment, parameters)
        subject = self.write_back.subject(original)
        result = await self._maker.get(subject, parameters, accepted=accepted, stored=copy)
        if request.waits_for_store and copy is not None and not result.is_original:
            await self.write_back.store(original, request.segment, parameters)
        return Transformed(
            result,
            permitted,
            modified=original.modified,
            group=place.id,
            hot_s=self._originals.fresh_s(original),
            timings=_timings(result, started, found),
        )

    async def _from_asset(
        self,
        request: TransformRequest,
        asset_id: AssetId,
        permitted: Permitted,
        assets: AssetPictures,
    ) -> Transformed:
        try:
            return await self._shape_asset(request, asset_id, permitted, assets)
        except SourceChanged:
            asset, _ = await assets.find(asset_id, request.credentials)
            await assets.refresh(asset)
            return await self._shape_asset(request, asset_id, permitted, assets)

    async def _shape_asset(
        self,
        request: TransformRequest,
        asset_id: AssetId,
        permitted: Permitted,
        assets: AssetPictures,
    ) -> Transformed:
        started = time.perf_counter()
        asset, is_stale = await assets.find(asset_id, request.credentials)
        found = time.perf_counter()
        name = asset.source.location if asset.source else ""
        subject = Subject(str(asset.id), asset.version, name, "", lambda: assets.lease(asset))
        accepted = "" if permitted.parameters.format else request.accepted
        result = await self._maker.get(subject, permitted.parameters, accepted=accepted)
        return Transformed(
            result,
            permitted,
            modified=asset.updated,
            group=str(asset.id),
            hot_s=float("inf"),
            asset=asset,
            stale=is_stale,
            timings=_timings(result, started, found),
        )


def parse_path(path: str) -> AssetId | None:
    """The asset that a path names; None for the key of an original in a store. Raises InvalidInput
    and InvalidImageRequest for what is neither.
    """
    if path.startswith(ASSET_SCHEME):
        return AssetId.parse(path.removeprefix(ASSET_SCHEME))
    check_key(path)
    return None


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate errors to those of a request whose path names a picture in a store."""
    try:
        yield
    except NotAnImage as error:
        raise UnsupportedMedia(error.public) from error
    except StorageTimeout as error:
        raise OriginUnavailable(
            "The store of the pictures did not answer in time. Try again shortly.",
            code="origin_timeout",
        ) from error
    except StorageUnavailable as error:
        raise OriginUnavailable(
            "The store of the pictures does not answer. Try again shortly."
        ) from error


def _timings(result: Result, started: float, found: float) -> tuple[tuple[str, float], ...]:
    ended = time.perf_counter()
    return (("original", (found - started) * 1e3), (result.tier, (ended - found) * 1e3))
