"""A folder shared by several hosts, each of them a fixture's call away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cache import shared_keeping, shared_presence
from orchestrator.cache.disk.cache import DiskOptions, Product
from orchestrator.cache.shared import SharedFolder
from orchestrator.cache.shared_keeping import SharedKeeper
from orchestrator.catalog.catalog import Catalog

MB = 1_000_000
QUOTA = 12 * MB
Host = Callable[..., Awaitable[SharedFolder]]


def source(number: int, version: int = 1, **more: Any) -> Product:
    return Product(f"1/1/{number}", version, "source x", "jp2", **more)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "nas" / "sources"


@pytest.fixture
async def host(catalog: Catalog, root: Path) -> AsyncIterator[Host]:
    """Each call is another host's process with the folder open."""
    async with AsyncExitStack() as stack:

        async def one(**options: Any) -> SharedFolder:
            given = DiskOptions(**{"quota": QUOTA, "use_flush_s": 0.0, **options})
            opened = SharedFolder.opened(root, catalog.shared_files, given)
            return await stack.enter_async_context(opened)

        yield one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are known sooner."""
    monkeypatch.setattr(shared_presence, "ALIVE_S", 0.6)
    monkeypatch.setattr(shared_presence, "BEAT_S", 0.1)
    monkeypatch.setattr(shared_keeping, "LEASE_S", 0.4)


def keeper(catalog: Catalog, shared: SharedFolder, low_water: float = 1.0) -> SharedKeeper:
    return SharedKeeper(shared, catalog.owners, low_water=low_water)


async def bring(shared: SharedFolder, product: Product, size: int = MB) -> Path:
    async with shared.writing(product, size) as writing:
        if writing.present is not None:
            return writing.present
        writing.path.write_bytes(bytes([product.version]) * size)
        return await writing.publish()


async def kill(shared: SharedFolder) -> None:
    """End without goodbye."""

    async def nothing() -> None:
        await asyncio.sleep(0)

    shared.presence.leave = nothing  # type: ignore[method-assign]
    shared.presence.beat = nothing  # type: ignore[method-assign]
