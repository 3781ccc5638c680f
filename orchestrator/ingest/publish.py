"""What ingest keeps in the object store for one version of an asset.

Keys are known, never listed, and none is written twice. Each is in the ledger before it is
written; all objects of a version are there before the catalogue names them, `s.json` last of all.
What is not live at the end of the work is unwanted.
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
    """Whose objects are stored: the asset, a number nobody used before, and the longest edge anyone
    may see (None: any).
    """

    id: AssetId
    number: int
    public_edge: int | None


@dataclass(frozen=True, slots=True)
class Put:
    """One object to write: what the ledger has of it, and where its bytes are."""

    object: StoredObject
    body: bytes | Path
    media_type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be written for one version, in this order, and where the source is if it is
    none of that.
    """

    version: Version
    puts: tuple[Put, ...]
    sizes: ThumbnailSizes
    probe: Probe
    source: Source | None

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """What the ledger is to have."""
        return tuple(put.object for put in self.puts)

    @property
    def bytes(self) -> int:
        """The bytes that count for the customer's quota."""
        return sum(one.bytes for one in self.objects if one.kind != "sizes")


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: the source to record, the thumbnails by access, and every object written."""

    source: Source
    thumbnails: ThumbnailSizes
    objects: tuple[StoredObject, ...]


class Publisher:
    """Writes the objects of asset versions."""

    def __init__(self, store: ObjectStore, objects: Objects, remover: Remover) -> None:
        self._store = store
        self._objects = objects
        self._remover = remover

    @asynccontextmanager
    async def stored(self, plan: Plan) -> AsyncIterator[Stored]:
        """Have what is planned in the store, for the work that makes the catalogue name it; what
        this does not is unwanted at its end.

        Raises StorageUnavailable, CatalogUnavailable.
        """
        version = plan.version
        await self._objects.enter(version.id, version.number, plan.objects)
        try:
            yield await self._write(plan)
        finally:
            await self._discard(version, plan.objects)

    @asynccontextmanager
    async def refiled(
        self, version: Version, rows: list[LedgerRow], sizes: ThumbnailSizes
    ) -> AsyncIterator[tuple[ThumbnailSizes, tuple[StoredObject, ...]]]:
        """Have copies of the thumbnails in `rows` under a number of their own, filed as `sizes`
        says; gives the sizes there are and their objects. One lost from the store is left out.

        What the work in it does not make live is unwanted at its end. Raises StorageUnavailable,
        CatalogUnavailable.
        """
        found = {row.object.key.rpartition("/")[2]: row.object for row in rows}
        planned: dict[StoredObject, str] = {}
        for access, dimensions in ((OPEN, sizes.open), (AUTH, sizes.auth)):
            for size in dimensions:
                before = found.get(f"{max(size)}.jpg")
                if before is not None:
                    key = keys.thumbnail_key(version.id, version.number, access, max(size))
                    planned[StoredObject(key, "thumbnail", before.bytes)] = before.key
        listed = _sizes_put(version, sizes)
        entered = (*planned, listed.object)
        await self._objects.enter(version.id, version.number, entered)
        try:
            for copied, before_key in list(planned.items()):
                try:
                    await self._store.copy(before_key, copied.key)
                except ObjectNotFound:
                    log.warning("thumbnail lost from the store", extra={"key": before_key})
                    del planned[copied]
            there = _there(sizes, planned)
            listed = _sizes_put(version, there)
            await self._put(listed)
            made = (*planned, listed.object)
            yield there, made
        finally:
            await self._discard(version, entered)

    async def _write(self, plan: Plan) -> Stored:
        source = plan.source
        for put in plan.puts:
            fingerprint = await self._put(put)
            if put.object.kind in ("source", "original"):
                source = source_of(
                    plan.probe, STORE + put.object.key, put.object.bytes, fingerprint
                )
        assert source is not None, "planned without a source"  # noqa: S101  a programming error
        return Stored(source, plan.sizes, plan.objects)

    async def _put(self, put: Put) -> str:
        """Return the ETag."""
        info = await self._store.put(put.object.key, put.body, media_type=put.media_type)
        return info.etag

    async def _discard(self, version: Version, objects: Iterable[StoredObject]) -> None:
        """Say that those which are not live are unwanted; when the catalogue is away, the sweeper
        finds them.
        """
        try:
            await self._objects.discard(version.id, version.number, tuple(objects))
        except CatalogUnavailable:
            log.warning("objects left to the sweeper", extra={"asset": str(version.id)})
            return
        await self._remover.at_once(version.id)


async def plan_objects(version: Version, prepared: Prepared, source: Source | None) -> Plan:
    """Return what is to be stored of a prepared picture.

    `source` is where the source is already (an original used as it is, in place or in the store);
    without one the prepared source is stored: `original` when it is the file as it came.
    """
    return await asyncio.to_thread(_planned, version, prepared, source)


async def plan_original(version: Version, path: Path, probe: Probe, sizes: ThumbnailSizes) -> Plan:
    """Return what is to be stored of an original that is answered from while it is converted;
    `sizes` are those its thumbnails will have.
    """
    key = keys.original_key(version.id, version.number)
    put = await asyncio.to_thread(_file_put, key, "original", path, probe.media_type)
    return Plan(version, (put,), sizes, probe, None)


def _planned(version: Version, prepared: Prepared, source: Source | None) -> Plan:
    puts: list[Put] = []
    if source is None:
        kind: ObjectKind = "original" if prepared.is_original else "source"
        key = keys.original_key(version.id, version.number)
        if not prepared.is_original:
            key = keys.source_key(version.id, version.number, prepared.probe.extension)
        puts.append(_file_put(key, kind, prepared.source, prepared.probe.media_type))
    sizes = split([thumbnail.size for thumbnail in prepared.thumbnails], version.public_edge)
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


def _there(sizes: ThumbnailSizes, objects: Iterable[StoredObject]) -> ThumbnailSizes:
    """The sizes of which there is an object."""
    names = {tuple(one.key.split("/")[-2:]) for one in objects}

    def kept(access: str, dimensions: tuple[Dimensions, ...]) -> tuple[Dimensions, ...]:
        return tuple(size for size in dimensions if (access, f"{max(size)}.jpg") in names)

    return ThumbnailSizes(open=kept(OPEN, sizes.open), auth=kept(AUTH, sizes.auth))


def source_of(probe: Probe, location: str, size: int, fingerprint: str) -> Source:
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


def split(sizes: Iterable[Dimensions], public_edge: int | None) -> ThumbnailSizes:
    """Part thumbnails into those anyone may see (longest edge at most `public_edge`; None: all) and
    the others.
    """
    largest_first = sorted(sizes, key=lambda size: (-max(size), -min(size)))
    is_open = [public_edge is None or max(size) <= public_edge for size in largest_first]
    return ThumbnailSizes(
        open=tuple(size for size, open_ in zip(largest_first, is_open, strict=True) if open_),
        auth=tuple(size for size, open_ in zip(largest_first, is_open, strict=True) if not open_),
    )
