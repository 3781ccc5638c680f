"""Dropping, pinning and comparing what lies in a folder shared by several hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from orchestrator.cache.disk.eviction import Reason
from orchestrator.cache.disk.file_names import Place, asset_hash, version_of
from orchestrator.cache.disk.maintenance import Verification
from orchestrator.cache.shared_room import Room
from orchestrator.catalog.shared_files import SharedFiles
from orchestrator.errors import CatalogUnavailable, NoRoom

log = logging.getLogger(__name__)


class SharedUpkeep:
    """What is done by asset."""

    def __init__(self, room: Room, files: SharedFiles) -> None:
        self._room = room
        self._files = files

    async def drop(self, asset: str, below: int | None, reason: Reason) -> int:
        """Remove the files of an asset (its hash), or of versions under `below`; files gone.

        What somebody reads goes when nobody does any more: the owner sees to it. Without database
        or folder nothing is dropped, which is safe: products are keyed by version.
        """

        def old(name: str) -> bool:
            return below is None or version_of(name) < below

        try:
            known = await self._files.of_asset(self._room.id(), asset)
            if not any(old(row.name) for row in known):
                return 0
            async with self._room.locked() as folder:
                free = [row for row in await folder.unleased(asset) if old(row.name)]
                gone, _ = await self._room.remove(folder, free, reason)
                left = {row.key for row in known if not row.writer and old(row.name)}
                await folder.doom(sorted(left - {row.key for row in free}))
                return gone
        except (NoRoom, CatalogUnavailable):
            log.warning("shared files not dropped", extra={"asset": asset})
            return 0

    async def drop_prefix(self, prefix: str) -> int:
        """Remove the files of assets whose text id begins so; files gone."""
        with suppress(NoRoom, CatalogUnavailable):
            found = await self._files.with_prefix(self._room.id(), prefix)
            return sum([await self.drop(asset, None, "prefix") for asset in found])
        return 0

    async def has_unnamed(self) -> bool:
        """True if there are files of assets whose ids are not known (found on a walk)."""
        with suppress(NoRoom, CatalogUnavailable):
            known = await self._files.assets(self._room.id())
            return any(not text for text, _ in known.values())
        return False

    async def pin(self, asset: str, *, pinned: bool) -> None:
        """Never evict what there is of this asset (its text id); or let it go."""
        with suppress(NoRoom, CatalogUnavailable):
            await self._files.set_pinned(self._room.id(), [asset_hash(asset)], pinned=pinned)

    async def settle_pins(self, wanted: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin the `wanted` assets and let go of others, unless `keep` says so; how many changed."""
        hashes = {asset_hash(text) for text in wanted}
        with suppress(NoRoom, CatalogUnavailable):
            folder = self._room.id()
            known = await self._files.assets(folder)
            pin = [a for a, (_, pinned) in known.items() if a in hashes and not pinned]
            old = [a for a, (_, pinned) in known.items() if a not in hashes and pinned]
            free = [a for a in old if not keep(known[a][0])]
            for assets, pinned in ((pin, True), (free, False)):
                if assets:
                    await self._files.set_pinned(folder, assets, pinned=pinned)
            return len(pin) + len(free)
        return 0

    async def verify(self, *, repair: bool) -> Verification:
        """Compare every row with every file (a walk); settle it if asked to. Raises NoRoom,
        CatalogUnavailable.
        """
        there = await asyncio.to_thread(lambda: list(self._room.tree.assets()))
        known = await self._files.assets(self._room.id())
        found = [await self._compare(asset, repair) for asset in sorted({*there, *known})]
        return Verification(
            files=sum(each.files for each in found),
            bytes=sum(each.bytes for each in found),
            missing=sum(each.missing for each in found),
            unknown=sum(each.unknown for each in found),
            resized=sum(each.resized for each in found),
            empty=sum(each.empty for each in found),
        )

    async def clear(self) -> int:
        """Remove everything that nobody reads just now; files gone. Raises as `verify`."""
        await self.verify(repair=True)
        assets = await self._files.assets(self._room.id())
        return sum([await self.drop(asset, None, "cleared") for asset in assets])

    async def _compare(self, asset: str, repair: bool) -> Verification:
        async with self._room.locked() as folder:
            sizes = await asyncio.to_thread(self._room.sizes, asset)
            rows = {row.name: row for row in await folder.of_asset(asset)}
            known = {name for name, row in rows.items() if not row.writer}
            if repair:
                for name in {*known, *sizes}:
                    await self._room.adopt(folder, Place(asset, name))
        there = {name for name, size in sizes.items() if size}
        return Verification(
            files=len(there),
            bytes=sum(sizes.values()),
            missing=len(known - sizes.keys()),
            unknown=len(there - rows.keys()),
            resized=sum(rows[name].bytes != sizes[name] for name in known & there),
            empty=len(sizes.keys() - there),
        )
