"""Death of a process at a chosen step, without the process: from that step on nothing it does
reaches the database or the object store, which is all that others see of kill -9.

Every use of the catalogue and the store is a step: before it, and after it with the answer lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.connection import Pool
from orchestrator.settings import Database
from orchestrator.storage.store import DEFAULT_MEDIA_TYPE, ObjectInfo
from tests.support.ingesting import RecordingStore


class Dead(BaseException):
    """The process is no more."""


class Scissors:
    """Cuts at the step number `at`, counted from 0 once `armed`; `steps` has the names of those
    that were taken.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps: list[str] = []
        self.armed = False
        self.is_cut = False

    def step(self, name: str) -> None:
        """Die here, or go on."""
        if not self.armed:
            return
        if self.is_cut:
            raise Dead
        if len(self.steps) == self.at:
            self.is_cut = True
            raise Dead
        self.steps.append(name)


class CutPool(Pool):
    """A pool whose every use is a step."""

    scissors: Scissors

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """As Pool.connection."""
        self.scissors.step("query")
        async with super().connection() as connection:
            yield connection
        self.scissors.step("queried")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """As Pool.transaction; its end, before the commit, is a step, too."""
        async with self.connection() as connection, connection.transaction():
            yield connection
            self.scissors.step("commit")


class CutStore(RecordingStore):
    """A store whose every change is a step."""

    def __init__(self, root: Path, scissors: Scissors) -> None:
        super().__init__(root)
        self._scissors = scissors

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str = DEFAULT_MEDIA_TYPE,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str = "",
    ) -> ObjectInfo:
        """As ObjectStore.put."""
        self._scissors.step(f"put {key}")
        info = await super().put(
            key,
            body,
            media_type=media_type,
            metadata=metadata,
            if_absent=if_absent,
            if_match=if_match,
        )
        self._scissors.step(f"was put {key}")
        return info

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """As ObjectStore.copy."""
        self._scissors.step(f"copy {target}")
        info = await super().copy(source, target)
        self._scissors.step(f"copied {target}")
        return info

    async def delete(self, keys: Iterable[str]) -> None:
        """As ObjectStore.delete; one key at a time, so that it can be cut between two."""
        for key in keys:
            self._scissors.step(f"delete {key}")
            await super().delete([key])
        self._scissors.step("deleted")


async def cut_catalog(settings: Database, scissors: Scissors) -> Catalog:
    """A catalogue that `scissors` cuts off."""
    pool = await CutPool.open(settings)
    assert isinstance(pool, CutPool)
    pool.scissors = scissors
    return Catalog(pool)
