"""Simulates the death of a process at a chosen step, without killing a process. From that step on,
nothing that the code under test does reaches the database or the object store. That is all that
other processes see of a kill -9.

Every use of the catalogue and of the store is two steps: before it, and after it when its answer is
lost.
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


class ProcessKilled(BaseException):
    """The simulated process has been killed. It must not run any further step."""


_BEFORE = ("query", "put ", "copy ")
"""The names of the steps before a use of the database or a change of the store begin so. A kill
there leaves what a kill at the step before leaves.
"""


class KillSwitch:
    """Kills the simulated process at step `at`, counted from 0 once `armed` is True. `steps` has
    the names of the steps that were counted. `every_step`: count also the steps at which a kill
    leaves what a kill at the step before leaves.
    """

    def __init__(self, at: int | None = None, *, every_step: bool = True) -> None:
        self.at = at
        self.every_step = every_step
        self.steps: list[str] = []
        self.armed = False
        self.is_killed = False

    def step(self, name: str) -> None:
        """Run the step `name`, or raise ProcessKilled."""
        if not self.armed:
            return
        if self.is_killed:
            raise ProcessKilled
        if not self.every_step and name.startswith(_BEFORE):
            return
        if len(self.steps) == self.at:
            self.is_killed = True
            raise ProcessKilled
        self.steps.append(name)


class KillablePool(Pool):
    """A connection pool that passes a step before and after each use."""

    kill_switch: KillSwitch

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """As Pool.connection."""
        self.kill_switch.step("query")
        async with super().connection() as connection:
            yield connection
        self.kill_switch.step("queried")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """As Pool.transaction. Its end, before the commit, is a step too."""
        async with self.connection() as connection, connection.transaction():
            yield connection
            self.kill_switch.step("commit")


class KillableStore(RecordingStore):
    """An object store that passes a step before and after each change."""

    def __init__(self, root: Path, kill_switch: KillSwitch) -> None:
        super().__init__(root)
        self._kill_switch = kill_switch

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
        self._kill_switch.step(f"put {key}")
        info = await super().put(
            key,
            body,
            media_type=media_type,
            metadata=metadata,
            if_absent=if_absent,
            if_match=if_match,
        )
        self._kill_switch.step(f"was put {key}")
        return info

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """As ObjectStore.copy."""
        self._kill_switch.step(f"copy {target}")
        info = await super().copy(source, target)
        self._kill_switch.step(f"copied {target}")
        return info

    async def delete(self, keys: Iterable[str]) -> None:
        """As ObjectStore.delete. Deletes one key at a time, so that a kill can come between two."""
        for key in keys:
            self._kill_switch.step(f"delete {key}")
            await super().delete([key])
        self._kill_switch.step("deleted")


async def open_killable_catalog(settings: Database, kill_switch: KillSwitch) -> Catalog:
    """A catalogue whose connections pass the steps of `kill_switch`."""
    pool = await KillablePool.open(settings)
    assert isinstance(pool, KillablePool)
    pool.kill_switch = kill_switch
    return Catalog(pool)
