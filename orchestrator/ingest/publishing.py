"""What ingest keeps in the object store for one version of an asset, and takes away exactly.

Keys are known, never listed. All objects of a version are there before the catalogue names them,
`s.json` last of all; they are deleted only after the catalogue has stopped naming them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.imaging import Probe
from orchestrator.ingest.preparing import Prepared
from orchestrator.model import Asset, AssetId, Dimensions, Source, ThumbnailSizes
from orchestrator.storage import keys
from orchestrator.storage.store import ObjectStore

STORE = "store:"
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
        """Copy the thumbnails whose access differs from `asset.thumbnails` in `sizes` to where they
        belong now.

        Both copies then exist; the returned keys are those to remove once the catalogue knows
        `sizes`.
        """
        moved = set()
        for old, new, edges in (
            (OPEN, AUTH, _edges(asset.thumbnails.open) & _edges(sizes.auth)),
            (AUTH, OPEN, _edges(asset.thumbnails.auth) & _edges(sizes.open)),
        ):
            for edge in sorted(edges, reverse=True):
                key = keys.thumbnail_key(asset.id, asset.thumbnails_version, old, edge)
                target = keys.thumbnail_key(asset.id, asset.thumbnails_version, new, edge)
                await self._store.copy(key, target)
                moved.add(key)
        await self._put_sizes(keys.sizes_key(asset.id, asset.thumbnails_version), sizes)
        return moved

    async def remove(self, unwanted: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        await self._store.delete(sorted(unwanted))

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
    """Return every key the store has for an asset as the catalogue knows it."""
    found = set()
    if asset.source is not None and asset.source.location.startswith(STORE):
        found.add(asset.source.location.removeprefix(STORE))
    if asset.thumbnails.all():
        found.add(keys.sizes_key(asset.id, asset.thumbnails_version))
    for access, sizes in ((OPEN, asset.thumbnails.open), (AUTH, asset.thumbnails.auth)):
        for edge in _edges(sizes):
            found.add(keys.thumbnail_key(asset.id, asset.thumbnails_version, access, edge))
    return found


def possible_keys(
    asset: Asset, version: int, extension: str, sizes: Iterable[Dimensions]
) -> set[str]:
    """Return every key a conversion of this version may have written before it was cut off."""
    found = {keys.original_key(asset.id, version), keys.sizes_key(asset.id, version)}
    if extension:
        found.add(keys.source_key(asset.id, version, extension))
    for edge in _edges(sizes):
        found |= {keys.thumbnail_key(asset.id, version, access, edge) for access in (OPEN, AUTH)}
    return found


def _edges(sizes: Iterable[Dimensions]) -> set[int]:
    return {max(size) for size in sizes}
