"""The converter: takes assets that are answered from their original and makes them tile-ready.

What waits is in the catalogue, so nothing is lost when this process dies; the next one takes it up.
A picture that cannot be made is recorded at once; a part of ours that is away is waited for,
however long.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.catalog.assets import Assets
from orchestrator.errors import (
    CatalogUnavailable,
    InvalidInput,
    NoRoom,
    OriginUnavailable,
    Overloaded,
    OverQuota,
    SourceChanged,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from orchestrator.ingest.convert import Conversion
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.model import Asset, AssetId

log = logging.getLogger(__name__)
_LONGEST_WAIT_S = 300.0
_UNEXPECTED_TRIES = 4

Progress = Callable[[int, int], None]
"""Told (converted by this process, those and what waits)."""


@dataclass(frozen=True, slots=True)
class _PutOff:
    """When a version may be tried again, and how often it was."""

    version: int
    tries: int
    until: float


class Converter:
    """Works the waiting assets off, `at_once` of them at a time."""

    def __init__(
        self,
        assets: Assets,
        pipeline: Pipeline,
        at_once: int,
        progress: Progress | None = None,
        *,
        idle_s: float = 1.0,
        first_wait_s: float = 1.0,
    ) -> None:
        """`idle_s`: how often an empty list of what waits is looked at; `first_wait_s`: until the
        second try of one that was put off, doubled with each more.
        """
        self._idle_s = idle_s
        self._first_wait_s = first_wait_s
        self._assets = assets
        self._pipeline = pipeline
        self._at_once = at_once
        self._progress = progress
        self._put_off: dict[AssetId, _PutOff] = {}
        self._settled = 0

    async def run(self) -> None:
        """Convert until cancelled."""
        while True:
            try:
                settled = await self.round()
                if settled:  # counting reads every asset: not once a second for ever
                    await self._tell()
            except CatalogUnavailable:
                settled = 0
                log.warning("conversions wait for the catalogue")
            if not settled:
                await asyncio.sleep(self._idle_s)

    async def round(self) -> int:
        """Work one batch off; returns how many were settled. Raises CatalogUnavailable."""
        now = asyncio.get_running_loop().time()
        waiting = await self._assets.pending(self._at_once * 4 + len(self._put_off))
        self._forget_others(waiting)
        todo = iter([asset for asset in waiting if self._is_due(asset, now)])
        before = self._settled

        async def work() -> None:
            for asset in todo:
                done = await self._one(asset)
                self._settled += done  # not in one line: that would read before the wait

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._at_once):
                tasks.create_task(work())
        return self._settled - before

    async def _one(self, asset: Asset) -> bool:
        """Convert one asset; False when it was put off."""
        try:
            if await self._pipeline.convert(asset.id) is Conversion.BUSY:
                self._put_off_for_now(asset, "another process is at it")
                return False
        except (Unprocessable, TooLarge, InvalidInput, OverQuota) as error:
            return await self._fail(asset, error.public)
        except SourceChanged:
            return await self._again(asset)
        except (Unavailable, Overloaded, NoRoom) as error:
            self._put_off_for_now(asset, error.public)
            return False
        except Exception:
            log.exception("conversion broke down", extra={"asset": str(asset.id)})
            if self._put_off_for_now(asset, "unexpected") < _UNEXPECTED_TRIES:
                return False
            return await self._fail(asset, "The image could not be converted.")
        return True

    async def _again(self, asset: Asset) -> bool:
        """The original was replaced or removed under the version: look at what is there now."""
        try:
            now = await self._pipeline.refresh_source(asset)
        except (SourceChanged, Unprocessable, TooLarge, InvalidInput) as error:
            return await self._fail(asset, error.public)
        except OriginUnavailable as error:
            if not error.retryable:
                return await self._fail(asset, error.public)
            self._put_off_for_now(asset, error.public)
            return False
        except (Unavailable, Overloaded) as error:
            self._put_off_for_now(asset, error.public)
            return False
        if now.version == asset.version:
            self._put_off_for_now(asset, "the original is being written")
            return False
        return True

    async def _fail(self, asset: Asset, reason: str) -> bool:
        try:
            await self._pipeline.fail(asset, reason)
        except CatalogUnavailable as error:
            self._put_off_for_now(asset, error.public)
            return False
        return True

    def _put_off_for_now(self, asset: Asset, reason: str) -> int:
        """Return how often that was."""
        last = self._put_off.get(asset.id)
        tries = 1 if last is None else last.tries + 1
        wait_s = min(self._first_wait_s * 2 ** (tries - 1), _LONGEST_WAIT_S)
        wait_s *= random.uniform(0.5, 1)  # noqa: S311  jitter
        until = asyncio.get_running_loop().time() + wait_s
        self._put_off[asset.id] = _PutOff(asset.version, tries, until)
        log.info("conversion put off", extra={"asset": str(asset.id), "reason": reason})
        return tries

    def _is_due(self, asset: Asset, now: float) -> bool:
        last = self._put_off.get(asset.id)
        return last is None or last.until <= now

    def _forget_others(self, waiting: list[Asset]) -> None:
        """Keep only what is still waiting in the very version that was put off."""
        versions = {asset.id: asset.version for asset in waiting}
        self._put_off = {
            asset_id: last
            for asset_id, last in self._put_off.items()
            if versions.get(asset_id) == last.version
        }

    async def _tell(self) -> None:
        if self._progress is not None:
            counts = await self._assets.count()
            waiting = counts.get("registered", 0) + counts.get("ingesting", 0)
            self._progress(self._settled, self._settled + waiting)
