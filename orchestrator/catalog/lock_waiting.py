"""Waits for a lock that one process of the installation can have at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from orchestrator.errors import Conflict

Lock = Callable[[str], AbstractAsyncContextManager[bool]]
"""Holds the lock of a name in all processes of the installation; yields False if another has it."""
_POLL_S = 0.05


@asynccontextmanager
async def wait_for_lock(lock: Lock, name: str, *, wait_s: float, busy: str) -> AsyncIterator[None]:
    """Hold the lock for the block. Raises Conflict with the text `busy` if another task or process
    has it for longer than `wait_s` seconds, CatalogUnavailable.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while loop.time() < deadline:
        async with lock(name) as is_held:
            if is_held:
                yield
                return
        await asyncio.sleep(_POLL_S)
    raise Conflict(busy)
