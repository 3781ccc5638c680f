"""Keeps the caches of Cantaloupe true: purges what they hold of an asset that has changed.

Cantaloupe keeps information, answers and downloaded sources by the identifier of the source. It
does not look at the bytes again. Its API of tasks drops them, on the node that is asked. The
identifier of a source that we have copied or stored contains its version, so an old answer is never
taken for a new one, and the purge only gives back space. A file that is read in place keeps its
path when it changes: a node is asked about it only after its purge for that version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import ImageServerUnavailable
from orchestrator.model import FILE, Asset, AssetId
from orchestrator.work_context import work_context

log = logging.getLogger(__name__)
MAX_PENDING = 1000
"""Items that wait for one node. If there are more, its whole cache is purged instead."""
MAX_KNOWN = 100_000
_ANSWER_S = 5.0
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.5
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 30.0
_ACCEPTED = 202


class NodePurge:
    """The caches of one node: what is to be purged there, and what was."""

    def __init__(self, address: str, user: str, secret: str) -> None:
        self.address = address.rstrip("/")
        self._headers = {"Authorization": aiohttp.encode_basic_auth(user, secret)}
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._is_everything_due = False
        self._is_due = asyncio.Event()
        self._purged: OrderedDict[str, int] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    def enqueue(self, name: str) -> None:
        """Purge an item soon."""
        self._pending[name] = None
        if len(self._pending) > MAX_PENDING:
            self._pending.clear()
            self._is_everything_due = True
        self._is_due.set()

    async def ensure(self, session: aiohttp.ClientSession, name: str, version: int) -> None:
        """Purge an item unless it was purged for this version of the asset. Raises
        ImageServerUnavailable.
        """
        if self._purged.get(name) == version:
            return
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                if self._purged.get(name) == version:
                    return
                await self._purge(session, name)
                self._purged[name] = version
                self._purged.move_to_end(name)
                if len(self._purged) > MAX_KNOWN:
                    self._purged.popitem(last=False)
        finally:
            if not lock.locked():
                self._locks.pop(name, None)

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Purge what is due, again and again. A node that is away is asked until it is back."""
        failures = 0
        while True:
            await self._is_due.wait()
            try:
                await self._purge_next(session)
                failures = 0
            except ImageServerUnavailable:
                failures += 1
                wait_s = backoff_s(failures, first_s=_FIRST_RETRY_S, longest_s=_LAST_RETRY_S)
                await asyncio.sleep(wait_s)
            if not self._pending and not self._is_everything_due:
                self._is_due.clear()

    async def _purge_next(self, session: aiohttp.ClientSession) -> None:
        if self._is_everything_due:
            await self._purge(session, None)
            self._is_everything_due = False
        elif self._pending:
            name = next(iter(self._pending))
            await self._purge(session, name)
            self._pending.pop(name, None)

    async def _purge(self, session: aiohttp.ClientSession, name: str | None) -> None:
        """Purge an item, or everything if `name` is None, and wait until it is done."""
        task = {"verb": "PurgeItemFromCache", "identifier": name}
        if name is None:
            task = {"verb": "PurgeCache"}
        try:
            async with asyncio.timeout(_ANSWER_S):
                problem = await self._run_task(session, task)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = type(error).__name__
        metrics.IMAGE_SERVER_PURGES.labels(outcome="failed" if problem else "done").inc()
        if problem:
            log.warning("purge failed", extra={"node": self.address, "reason": problem})
            raise ImageServerUnavailable("The image server did not purge an old image.")

    async def _run_task(self, session: aiohttp.ClientSession, task: dict[str, str | None]) -> str:
        """What went wrong, in one or two words; '' if the task has succeeded."""
        url = URL(f"{self.address}/tasks", encoded=True)
        headers = self._headers | work_context().headers()
        async with session.post(url, json=task, headers=headers, allow_redirects=False) as answer:
            if answer.status != _ACCEPTED:
                return f"status {answer.status}"
            # Only the path: the host is the one that the node takes for its own.
            path = urlsplit(answer.headers.get("Location", "")).path
        looks = 0
        while True:
            async with session.get(
                url.with_path(path, encoded=True), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return f"status {answer.status}"
                state = await answer.json(content_type=None)
            if state.get("status") == "FAILED" or state.get("cancelled"):
                return "task failed"
            # Version 6 answers `done`, version 5 `status`.
            if state.get("done") or state.get("status") == "SUCCEEDED":
                return ""
            looks += 1
            await asyncio.sleep(backoff_s(looks, first_s=_FIRST_LOOK_S, longest_s=_LAST_LOOK_S))


class PoolPurge:
    """The caches of all nodes of a pool."""

    def __init__(self, addresses: list[str], user: str, secret: str) -> None:
        self._nodes = {
            address.rstrip("/"): NodePurge(address, user, secret) for address in addresses
        }
        self._names: OrderedDict[AssetId, dict[str, None]] = OrderedDict()

    async def before_use(
        self, session: aiohttp.ClientSession, node: str, asset: Asset, name: str
    ) -> None:
        """Call before a node is asked about the source `name` of this asset. Raises
        ImageServerUnavailable if the node may answer from an old version of it.
        """
        self._names.setdefault(asset.id, {})[name] = None
        self._names.move_to_end(asset.id)
        if len(self._names) > MAX_KNOWN:
            self._names.popitem(last=False)
        if asset.source is not None and asset.source.location.startswith(FILE):
            await self._nodes[node].ensure(session, name, asset.version)

    def on_change(self, is_changed: Callable[[AssetId], bool]) -> None:
        """Purge on all nodes what this process has asked about the assets that have changed."""
        for asset_id in [each for each in self._names if is_changed(each)]:
            for name in self._names.pop(asset_id):
                for node in self._nodes.values():
                    node.enqueue(name)

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Purge what is due on all nodes."""
        async with asyncio.TaskGroup() as group:
            for node in self._nodes.values():
                group.create_task(node.run(session))
