"""Writes what ingest keeps in the object store for one version of an asset.

Keys are computed, never listed, and no key is written twice. Each object is entered in the ledger
before it is written. All objects of a version exist before the catalogue names them; `s.json` is
written last. Objects that are not live at the end of the work become unwanted.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.catalog.objects import Objects
from orchestrator.catalog.values import LedgerRow, ObjectKind, StoredObject
from orchestrator.errors import CatalogUnavailable, ObjectNotFound
from orchestrator.imaging import Probe
from orchestrator.ingest.prepare import Prepared
from orchestrator.ingest.remove import Remover
from orchestrator.model import STORE, AssetId, Dimensions, Source, ThumbnailSizes
from orchestrator.storage import object_keys as keys
from orchestrator.storage.store import ObjectStore

log = logging.getLogger(__name__)
OPEN, AUTH = "open", "auth"
_JPEG = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Version:
    """The version that objects are stored for: the asset, a number that was not used before, and
    the longest public edge in pixels (None: no limit).
    """

    id: AssetId
    number: int
    public_edge: int | None


@dataclass(frozen=True, slots=True)
class Put:
    """One object to write: its ledger entry and its bytes."""

    object: StoredObject
    body: bytes | Path
    media_type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The objects to write for one version, in this order, and the source if it is none of them."""

    version: Version
    puts: tuple[Put, ...]
    sizes: ThumbnailSizes
    probe: Probe
    source: Source | None

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """The ledger entries."""
        return tuple(put.object for put in self.puts)

    @property
    def bytes(self) -> int:
        """The bytes that count for the customer's quota."""
        return sum(each.bytes for each in self.objects if each.kind != "sizes")


@dataclass(frozen=True, slots=True)
class Stored:
    """The source to record, the thumbnails by access, and every object written."""

    source: Source
    thumbnails: ThumbnailSizes
    objects: tuple[StoredObject, ...]


class ObjectWriter:
    """Writes the objects of asset versions."""

    def __init__(self, store: ObjectStore, objects: Objects, remover: Remover) -> None:
        self._store = store
        self._objects = objects
        self._remover = remover

    @asynccontextmanager
    async def write(self, plan: Plan) -> AsyncIterator[Stored]:
        """Write the planned objects for the block, which makes the catalogue name them. Objects
        that are not live at the end of the block become unwanted.

        Raises StorageUnavailable, CatalogUnavailable.
        """
        version = plan.version
        await self._objects.enter(version.id, version.number, plan.objects)
        try:
            yield await self._write_objects(plan)
        finally:
            await self._discard(version, plan.objects)

    @asynccontextmanager
    async def copy_thumbnails(
        self, version: Version, rows: list[LedgerRow], sizes: ThumbnailSizes
    ) -> AsyncIterator[tuple[ThumbnailSizes, tuple[StoredObject, ...]]]:
        """Copy the thumbnails in `rows` to keys of `version`, open or auth as in `sizes`. Yields
        the sizes and objects that exist: a thumbnail lost from the store is left out.

        Objects that are not live at the end of the block become unwanted. Raises
        StorageUnavailable, CatalogUnavailable.
        """
        by_name = {row.object.key.rpartition("/")[2]: row.object for row in rows}
        copies: dict[StoredObject, str] = {}
        for access, dimensions in ((OPEN, sizes.open), (AUTH, sizes.auth)):
            for size in dimensions:
                thumbnail = by_name.get(f"{max(size)}.jpg")
                if thumbnail is not None:
                    key = keys.thumbnail_key(version.id, version.number, access, max(size))
                    copies[StoredObject(key, "thumbnail", thumbnail.bytes)] = thumbnail.key
        entered = (*copies, _sizes_put(version, sizes).object)
        await self._objects.enter(version.id, version.number, entered)
        try:
            for copy, key in list(copies.items()):
                try:
                    await self._store.copy(key, copy.key)
                except ObjectNotFound:
                    log.warning("thumbnail lost from the store", extra={"key": key})
                    del copies[copy]
            existing = _existing_sizes(sizes, copies)
            sizes_put = _sizes_put(version, existing)
            await self._put(sizes_put)
            yield existing, (*copies, sizes_put.object)
        finally:
            await self._discard(version, entered)

    async def _write_objects(self, plan: Plan) -> Stored:
        source = plan.source
        for put in plan.puts:
            fingerprint = await self._put(put)
            if put.object.kind in ("source", "original"):
                location = STORE + put.object.key
                source = build_source(plan.probe, location, put.object.bytes, fingerprint)
        assert source is not None, "planned without a source"  # noqa: S101  a programming error
        return Stored(source, plan.sizes, plan.objects)

    async def _put(self, put: Put) -> str:
        """Write one object and return its ETag."""
        info = await self._store.put(put.object.key, put.body, media_type=put.media_type)
        return info.etag

    async def _discard(self, version: Version, objects: Iterable[StoredObject]) -> None:
        """Make those objects unwanted that are not live. If the catalogue does not answer, the
        sweeper does it.
        """
        try:
            await self._objects.discard(version.id, version.number, tuple(objects))
        except CatalogUnavailable as error:
            log.warning(
                "objects left to the sweeper",
                extra={"asset": str(version.id), "reason": error.public},
            )
            return
        await self._remover.remove_without_grace(version.id)


async def plan_objects(version: Version, prepared: Prepared, source: Source | None) -> Plan:
    """Return the objects to store of a prepared original.

    `source` is given if the original is used as the source where it is (in place or in the store).
    Without it the prepared source is stored, as `original` if it is the unchanged file.
    """
    return await asyncio.to_thread(_plan_objects, version, prepared, source)


async def plan_original(version: Version, path: Path, probe: Probe, sizes: ThumbnailSizes) -> Plan:
    """Return the one object to store of an original that is served during its conversion. `sizes`
    are those of its thumbnails after that.
    """
    key = keys.original_key(version.id, version.number)
    put = await asyncio.to_thread(_file_put, key, "original", path, probe.media_type)
    return Plan(version, (put,), sizes, probe, None)


def build_source(probe: Probe, location: str, size: int, fingerprint: str) -> Source:
    """Return the source record of a probed file of `size` bytes at `location`."""
    return Source(
        location=location,
        kind=probe.kind,
        bytes=size,
        fingerprint=fingerprint,
        extension=probe.extension,
        tile_width=probe.tile_width,
        tile_height=probe.tile_height,
        levels=probe.levels,
        natively_tiled=probe.natively_tiled,
    )


def split_by_access(sizes: Iterable[Dimensions], public_edge: int | None) -> ThumbnailSizes:
    """Divide thumbnails into open ones (longest edge at most `public_edge`; None: all) and auth
    ones.
    """
    largest_first = sorted(sizes, key=lambda size: (-max(size), -min(size)))

    def is_open(size: Dimensions) -> bool:
        return public_edge is None or max(size) <= public_edge

    return ThumbnailSizes(
        open=tuple(size for size in largest_first if is_open(size)),
        auth=tuple(size for size in largest_first if not is_open(size)),
    )


def _plan_objects(version: Version, prepared: Prepared, source: Source | None) -> Plan:
    puts: list[Put] = []
    if source is None:
        kind: ObjectKind = "original" if prepared.is_original else "source"
        key = keys.original_key(version.id, version.number)
        if not prepared.is_original:
            key = keys.source_key(version.id, version.number, prepared.probe.extension)
        puts.append(_file_put(key, kind, prepared.source, prepared.probe.media_type))
    sizes = split_by_access(
        [thumbnail.size for thumbnail in prepared.thumbnails], version.public_edge
    )
    for thumbnail in prepared.thumbnails:
        access = OPEN if thumbnail.size in sizes.open else AUTH
        key = keys.thumbnail_key(version.id, version.number, access, max(thumbnail.size))
        puts.append(_file_put(key, "thumbnail", thumbnail.path, _JPEG))
    puts.append(_sizes_put(version, sizes))
    return Plan(version, tuple(puts), sizes, prepared.probe, source)


def _file_put(key: str, kind: ObjectKind, path: Path, media_type: str) -> Put:
    return Put(StoredObject(key, kind, path.stat().st_size), path, media_type)


def _sizes_put(version: Version, sizes: ThumbnailSizes) -> Put:
    body = json.dumps({"o": sizes.open, "a": sizes.auth}, separators=(",", ":")).encode()
    key = keys.sizes_key(version.id, version.number)
    return Put(StoredObject(key, "sizes", len(body)), body, "application/json")


def _existing_sizes(sizes: ThumbnailSizes, objects: Iterable[StoredObject]) -> ThumbnailSizes:
    """Return the sizes that have an object."""
    names = {tuple(each.key.split("/")[-2:]) for each in objects}

    def existing(access: str, dimensions: tuple[Dimensions, ...]) -> tuple[Dimensions, ...]:
        return tuple(size for size in dimensions if (access, f"{max(size)}.jpg") in names)

    return ThumbnailSizes(open=existing(OPEN, sizes.open), auth=existing(AUTH, sizes.auth))
