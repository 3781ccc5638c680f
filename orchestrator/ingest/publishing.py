"""What ingest keeps in the object store for one version of an asset, and takes away exactly.

Keys are known, never listed. All objects of a version are there before the catalogue names them,
`s.json` last of all; they are deleted only after the catalogue has stopped naming them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ObjectNotFound
from orchestrator.imaging import POLICIES, Probe
from orchestrator.ingest.preparing import Prepared
from orchestrator.model import STORE, Asset, AssetId, AssetState, Dimensions, Source, ThumbnailSizes
from orchestrator.storage import keys
from orchestrator.storage.store import ObjectStore

OPEN, AUTH = "open", "auth"
_JPEG = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Version:
    """Whose objects are stored: the asset, its new version, and the longest edge anyone may see
    (None: any).
    """

    id: AssetId
    number: int
    public_edge: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: the source to record, the thumbnails by access, and every key written."""

    source: Source
    thumbnails: ThumbnailSizes
    keys: frozenset[str]


class Publisher:
    """Writes and removes the objects of asset versions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put_original(self, version: Version, path: Path, probe: Probe) -> Source:
        """Keep the file as it came, to be served from until it is converted, or for good."""
        key = keys.original_key(version.id, version.number)
        return await self._put_source(key, path, probe)

    async def put(self, version: Version, prepared: Prepared, source: Source | None) -> Stored:
        """Store source and thumbnails, `s.json` last.

        `source` is where the source is already (an original used as it is, in place or in the
        store); without one, the prepared source is stored. Objects written before an error are
        removed again.
        """
        written: list[str] = []
        try:
            if source is None:
                key = keys.source_key(version.id, version.number, prepared.probe.extension)
                written.append(key)
                source = await self._put_source(key, prepared.source, prepared.probe)
            sizes = split(
                [thumbnail.size for thumbnail in prepared.thumbnails], version.public_edge
            )
            for thumbnail in prepared.thumbnails:
                access = OPEN if thumbnail.size in sizes.open else AUTH
                key = keys.thumbnail_key(version.id, version.number, access, max(thumbnail.size))
                written.append(key)
                await self._store.put(key, thumbnail.path, media_type=_JPEG)
            written.append(keys.sizes_key(version.id, version.number))
            await self._put_sizes(written[-1], sizes)
        except BaseException:
            await self.remove(written)
            raise
        return Stored(source, sizes, frozenset(written))

    async def refile(self, asset: Asset, sizes: ThumbnailSizes) -> set[str]:
        """See that each thumbnail of the asset lies where `sizes` has it, and `s.json` says so.

        Copies are made where needed; the returned keys are those to remove once the catalogue knows
        `sizes`. Can be repeated, and does not mind how far an earlier attempt came.
        """
        if not asset.thumbnails_version:
            return set()  # only planned so far
        unwanted = set()
        for access, other, edges in (
            (AUTH, OPEN, _edges(sizes.auth)),
            (OPEN, AUTH, _edges(sizes.open)),
        ):
            for edge in edges:
                key = keys.thumbnail_key(asset.id, asset.thumbnails_version, access, edge)
                elsewhere = keys.thumbnail_key(asset.id, asset.thumbnails_version, other, edge)
                if not await self._exists(key):
                    with suppress(ObjectNotFound):  # a thumbnail that is lost is lost in both
                        await self._store.copy(elsewhere, key)
                unwanted.add(elsewhere)
        await self._put_sizes(keys.sizes_key(asset.id, asset.thumbnails_version), sizes)
        return unwanted

    async def remove(self, unwanted: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        await self._store.delete(sorted(unwanted))

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head(key)
        except ObjectNotFound:
            return False
        return True

    async def _put_source(self, key: str, path: Path, probe: Probe) -> Source:
        info = await self._store.put(key, path, media_type=probe.media_type)
        return source_of(probe, STORE + key, info.bytes, info.etag)

    async def _put_sizes(self, key: str, sizes: ThumbnailSizes) -> None:
        body = json.dumps({"o": sizes.open, "a": sizes.auth}, separators=(",", ":")).encode()
        await self._store.put(key, body, media_type="application/json")


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


def keys_of(asset: Asset) -> set[str]:
    """Return every key the store may have for an asset as the catalogue knows, or knew, it.

    While it is converted, and when that failed, what a conversion writes counts, however far it
    came.
    """
    found = set()
    if asset.source is not None and asset.source.location.startswith(STORE):
        found.add(asset.source.location.removeprefix(STORE))
    number = asset.thumbnails_version or asset.version
    found.add(keys.sizes_key(asset.id, number))
    for edge in _edges(asset.thumbnails.all()):
        found |= {keys.thumbnail_key(asset.id, number, access, edge) for access in (OPEN, AUTH)}
    if asset.state is not AssetState.READY:
        found.add(keys.original_key(asset.id, asset.version))
        for policy in POLICIES.values():
            found.add(keys.source_key(asset.id, asset.version, policy.extension))
    return found


def _edges(sizes: Iterable[Dimensions]) -> set[int]:
    return {max(size) for size in sizes}
