"""Removes outdated files from this host's caches: of old versions, of deleted assets, of cleared
prefixes. Also sets the caches' pins to those of the catalogue.

Notifications of changes arrive when the changes are committed. Changes that this host missed (it
was down, or its connection was lost) are read from the catalogue afterwards. Until then nothing
outdated is served, because products carry their version.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.asset_transaction import GONE, PREFIX
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.changes import Changes
from orchestrator.errors import CatalogUnavailable
from orchestrator.fault_log import FaultLog
from orchestrator.model import AssetId

log = logging.getLogger(__name__)
CATCH_UP_EVERY_S = 60.0
"""Notifications that were lost although the connection was up are made up for within this time."""
_PINS_PAUSE_S = 0.5
_CHANGES_KEPT_S = 7 * 86_400.0
_FORGET_EVERY_S = 3600.0
_PAGE = 500


class Invalidator:
    """Runs in the housekeeping process; the callbacks are called on the event loop."""

    def __init__(
        self,
        caches: Sequence[DiskCache],
        changes: Changes,
        assets: Assets,
        *,
        pinned_by_rule: Callable[[str], bool],
        seen: Path,
    ) -> None:
        """`seen` is a file of this host with the time up to which it has applied changes."""
        self._caches = caches
        self._changes = changes
        self._assets = assets
        self._pinned_by_rule = pinned_by_rule
        self._seen = seen
        self._outdated: dict[str, int] = {}  # one entry for an asset, however often it changes
        self._prefixes: list[str] = []
        self._woken = asyncio.Event()
        self._faults = FaultLog(log, "missed changes not read", "missed changes read again")
        self._pins_due = True
        self._caught_up_at = float("-inf")
        self._trimmed_at = time.monotonic()

    def on_change(self, asset_id: AssetId, version: int) -> None:
        """The asset has this version now; GONE: it was deleted."""
        self._outdated[str(asset_id)] = version
        self._pins_due = True
        self._woken.set()

    def on_prefix(self, prefix: str) -> None:
        """Files of all assets whose text id begins with `prefix` must be removed."""
        self._prefixes.append(prefix)
        self._woken.set()

    def on_purged(self, original: str) -> None:
        """The results of this original of a transform must be removed."""
        self._outdated[original] = GONE
        self._woken.set()

    def on_restored(self) -> None:
        """Notifications arrive again; some may have been lost."""
        self._caught_up_at = float("-inf")
        self._woken.set()

    async def run(self) -> None:
        """Apply changes until cancelled."""
        while True:
            try:
                await self.once()
                self._faults.clear()
            except CatalogUnavailable as error:
                # Not again at once: the listener calls on_restored when the database is back.
                self._caught_up_at = time.monotonic()
                self._faults.report(reason=error.public)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PINS_PAUSE_S if self._pins_due else CATCH_UP_EVERY_S):
                    await self._woken.wait()

    async def once(self) -> None:
        """Apply the notified changes, read missed changes if that is due, set the pins. Raises
        CatalogUnavailable.
        """
        self._woken.clear()
        await self._drop_notified()
        now = time.monotonic()
        if now >= self._caught_up_at + CATCH_UP_EVERY_S:
            await self.catch_up()
            self._caught_up_at, self._pins_due = now, True
        if self._pins_due:
            self._pins_due = False
            pinned = [str(asset_id) for asset_id in await self._assets.pinned()]
            for cache in self._caches:
                await cache.assets.set_pins(pinned, self._pinned_by_rule)
        if now >= self._trimmed_at + _FORGET_EVERY_S:
            self._trimmed_at = now
            await self._changes.forget(_CHANGES_KEPT_S)

    async def catch_up(self) -> int:
        """Drop the files of changes since the last call; returns the files removed. Raises
        CatalogUnavailable.
        """
        changes, now = await self._changes.since(await asyncio.to_thread(self._read_seen))
        files = 0
        for change in changes:
            files += await self._drop(change.asset, change.version)
        if files:
            log.info("changes caught up", extra={"changes": len(changes), "files": files})
        await asyncio.to_thread(self._write_seen, now)
        return files

    async def _drop_notified(self) -> None:
        while self._outdated or self._prefixes:
            if self._outdated:
                await self._drop(*self._outdated.popitem())
            else:
                await self._drop(self._prefixes.pop(), PREFIX)

    async def _drop(self, asset: str, version: int) -> int:
        if version == PREFIX:
            return await self._drop_prefix(asset)
        if version == GONE:
            return sum([await cache.assets.drop(asset) for cache in self._caches])
        return sum([await cache.assets.drop_older(asset, version) for cache in self._caches])

    async def _drop_prefix(self, prefix: str) -> int:
        files = sum([await cache.assets.drop_prefix(prefix) for cache in self._caches])
        unnamed = [cache for cache in self._caches if await cache.assets.has_unnamed()]
        if unnamed:
            async for asset_id in assets_with(self._assets, prefix):
                files += sum([await cache.assets.drop(str(asset_id)) for cache in unnamed])
        log.info("prefix cleared", extra={"prefix": prefix, "files": files})
        return files

    def _read_seen(self) -> datetime | None:
        try:
            return datetime.fromisoformat(self._seen.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            return None

    def _write_seen(self, now: datetime) -> None:
        fresh = self._seen.with_name(self._seen.name + ".new")
        with suppress(OSError):  # disk full: the same changes are read again next time
            self._seen.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(now.isoformat(), encoding="ascii")
            fresh.replace(self._seen)


async def assets_with(assets: Assets, prefix: str) -> AsyncIterator[AssetId]:
    """The assets of the catalogue whose text id begins with `prefix`."""
    customer, space = _bounds(prefix)
    position: AssetId | None = None
    while page := await assets.page(position, _PAGE, customer=customer, space=space):
        for asset in page:
            if str(asset.id).startswith(prefix):
                yield asset.id
        position = page[-1].id


def _bounds(prefix: str) -> tuple[int | None, int | None]:
    """Customer and space that all ids with this prefix have; None where the prefix allows
    several.
    """
    parts = prefix.split("/")[:-1]
    numbers = [int(part) if part.isdecimal() and len(part) <= 9 else None for part in parts[:2]]
    customer, space = (*numbers, None, None)[:2]
    return customer, space
