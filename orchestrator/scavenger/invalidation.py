"""Takes out of this host's caches what no longer stands for its asset: old versions, deleted
assets, prefixes that were cleared; and keeps the caches' pins those of the catalogue.

Changes are told as they commit. What was not heard (this host was down, its connection lost) is
read from the catalogue afterwards; until then nothing wrong is served, for products carry their
version.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.changes import GONE, PREFIX, Change
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import Asset, AssetId

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0
"""Even what was lost although the connection stood is made up for within this time."""
_PINS_PAUSE_S = 0.5
_KEPT_S = 7 * 86_400.0
_FORGET_EVERY_S = 3600.0
_PAGE = 500


class KnownChanges(Protocol):
    """The catalogue's memory of changes."""

    async def since(self, seen: datetime | None) -> tuple[list[Change], datetime]:
        """The changes since, and the time now."""
        ...

    async def forget(self, older_than_s: float) -> None:
        """Forget those of long ago."""
        ...


class KnownAssets(Protocol):
    """What is asked of the catalogue's assets."""

    async def page(
        self,
        after: AssetId | None = None,
        limit: int = 100,
        *,
        customer: int | None = None,
        space: int | None = None,
    ) -> list[Asset]:
        """Some assets in order."""
        ...

    async def pinned(self) -> list[AssetId]:
        """The ids of all pinned assets."""
        ...


class Invalidator:
    """Runs in the housekeeping process; `heard` and its like are called on the event loop."""

    def __init__(
        self,
        caches: Sequence[DiskCache],
        changes: KnownChanges,
        assets: KnownAssets,
        *,
        pinned_by_rule: Callable[[str], bool],
        seen: Path,
    ) -> None:
        """`seen` is a file of this host that remembers up to when changes are made up for."""
        self._caches = caches
        self._changes = changes
        self._assets = assets
        self._pinned_by_rule = pinned_by_rule
        self._seen = seen
        self._outdated: dict[str, int] = {}  # one entry an asset, however often it changes
        self._prefixes: list[str] = []
        self._woken = asyncio.Event()
        self._pins_due = True
        self._looked_at = float("-inf")
        self._forgot_at = time.monotonic()

    def heard(self, asset_id: AssetId, version: int) -> None:
        """The asset has this version now; GONE: there is none any more."""
        self._outdated[str(asset_id)] = version
        self._pins_due = True
        self._woken.set()

    def heard_prefix(self, prefix: str) -> None:
        """All assets whose text id begins so are to go."""
        self._prefixes.append(prefix)
        self._woken.set()

    def restored(self) -> None:
        """Changes are heard again: some may not have been."""
        self._looked_at = float("-inf")
        self._woken.set()

    async def run(self) -> None:
        """See to it until cancelled."""
        while True:
            try:
                await self.once()
            except CatalogUnavailable as error:
                self._looked_at = time.monotonic()  # and a listener that comes back asks again
                log.warning("changes not looked up", extra={"reason": error.public})
            with suppress(TimeoutError):
                async with asyncio.timeout(_PINS_PAUSE_S if self._pins_due else LOOK_EVERY_S):
                    await self._woken.wait()

    async def once(self) -> None:
        """Drop what was heard of, make up for what was not, settle the pins. Raises
        CatalogUnavailable.
        """
        self._woken.clear()
        await self._drop_heard()
        now = time.monotonic()
        if now >= self._looked_at + LOOK_EVERY_S:
            await self.catch_up()
            self._looked_at, self._pins_due = now, True
        if self._pins_due:
            self._pins_due = False
            wanted = [str(asset_id) for asset_id in await self._assets.pinned()]
            for cache in self._caches:
                await cache.settle_pins(wanted, self._pinned_by_rule)
        if now >= self._forgot_at + _FORGET_EVERY_S:
            self._forgot_at = now
            await self._changes.forget(_KEPT_S)

    async def catch_up(self) -> int:
        """Drop what changed since this host last looked; files gone. Raises CatalogUnavailable."""
        changes, now = await self._changes.since(await asyncio.to_thread(self._read_seen))
        gone = 0
        for change in changes:
            gone += await self._drop(change.asset, change.version)
        if gone:
            log.info("changes caught up", extra={"changes": len(changes), "files": gone})
        await asyncio.to_thread(self._write_seen, now)
        return gone

    async def _drop_heard(self) -> None:
        while self._outdated or self._prefixes:
            if self._outdated:
                await self._drop(*self._outdated.popitem())
            else:
                await self._drop(self._prefixes.pop(), PREFIX)

    async def _drop(self, asset: str, version: int) -> int:
        if version == PREFIX:
            return await self._drop_prefix(asset)
        if version == GONE:
            return sum([await cache.drop_asset(asset) for cache in self._caches])
        return sum([await cache.drop_older(asset, version) for cache in self._caches])

    async def _drop_prefix(self, prefix: str) -> int:
        gone = sum([await cache.drop_prefix(prefix) for cache in self._caches])
        unnamed = [cache for cache in self._caches if await cache.has_unnamed()]
        if unnamed:
            async for asset_id in assets_with(self._assets, prefix):
                gone += sum([await cache.drop_asset(str(asset_id)) for cache in unnamed])
        log.info("prefix cleared", extra={"prefix": prefix, "files": gone})
        return gone

    def _read_seen(self) -> datetime | None:
        try:
            return datetime.fromisoformat(self._seen.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            return None

    def _write_seen(self, now: datetime) -> None:
        fresh = self._seen.with_name(self._seen.name + ".new")
        with suppress(OSError):  # a disk that is full: the same is looked at again next time
            self._seen.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(now.isoformat(), encoding="ascii")
            fresh.replace(self._seen)


async def assets_with(assets: KnownAssets, prefix: str) -> AsyncIterator[AssetId]:
    """The assets of the catalogue whose text id begins with `prefix`."""
    customer, space = _bounds(prefix)
    position: AssetId | None = None
    while page := await assets.page(position, _PAGE, customer=customer, space=space):
        for asset in page:
            if str(asset.id).startswith(prefix):
                yield asset.id
        position = page[-1].id


def _bounds(prefix: str) -> tuple[int | None, int | None]:
    """Customer and space that all ids with this prefix share; None where it leaves them open."""
    parts = prefix.split("/")[:-1]
    numbers = [int(part) if part.isdecimal() and len(part) <= 9 else None for part in parts[:2]]
    customer, space = (*numbers, None, None)[:2]
    return customer, space
