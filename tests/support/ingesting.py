"""The parts of ingest for tests, with a store that records its operations.

Run as a module, it converts registered assets, but stores none, until a test kills it:
`python -m tests.support.ingesting DSN DATA`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import CONVERT
from orchestrator.catalog.migrator import migrate
from orchestrator.catalog.values import LedgerRow
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.hooks import HookJobs
from orchestrator.ingest.ingest_context import Outcome, WillRetry
from orchestrator.ingest.job_handler import ConvertHandler
from orchestrator.ingest.pipeline import Pipeline, build_pipeline
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.register import Request
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.sweeper import Requeue, Sweeper
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_loop import Worker
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.model import STORE, Asset, AssetId
from orchestrator.origins.credential_store import make_key
from orchestrator.origins.origin_services import OriginServices, open_origins
from orchestrator.origins.own_data import OwnData
from orchestrator.settings import Cache, Database, Imaging, Ingest, Server, Settings
from orchestrator.storage import object_keys as keys
from orchestrator.storage.filesystem_store import FilesystemStore
from orchestrator.storage.store import DEFAULT_MEDIA_TYPE, ObjectInfo, read
from tests.support.patience import ANSWER_S


class RecordingStore(FilesystemStore):
    """A real store. `log` lists puts and deletes; `before_put` is called before each put."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log: list[tuple[str, str]] = []
        self.before_put: Callable[[str], Awaitable[None]] | None = None

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
        if self.before_put is not None:
            await self.before_put(key)
        self.log.append(("put", key))
        return await super().put(
            key,
            body,
            media_type=media_type,
            metadata=metadata,
            if_absent=if_absent,
            if_match=if_match,
        )

    async def delete(self, keys: Iterable[str]) -> None:
        """As ObjectStore.delete."""
        wanted = list(keys)
        self.log += [("delete", key) for key in wanted]
        await super().delete(wanted)

    @property
    def written(self) -> list[str]:
        """Keys in the order they were put."""
        return [key for action, key in self.log if action == "put"]

    async def keys(self) -> set[str]:
        """All keys in the store."""
        return {info.key async for info in self.list("")}

    async def sizes(self, key: str) -> dict[str, list[list[int]]]:
        """The content of an `s.json`."""
        found: dict[str, list[list[int]]] = json.loads(await read(self, key, max_bytes=10_000))
        return found


@dataclass
class IngestSystem:
    """Everything a test of ingest uses."""

    settings: Settings
    catalog: Catalog
    store: RecordingStore
    imaging: ImagingPool
    build: Callable[..., Pipeline]
    pipeline: Pipeline
    origins: OriginServices
    submitter: Submitter
    pictures: Path = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = self.settings.data_dir.parent / "pictures"
        self.pictures.mkdir(exist_ok=True)

    async def asset(self, name: str = "picture") -> Asset:
        """The asset `1/1/{name}`, which must exist."""
        found = await self.catalog.assets.get(AssetId(1, 1, name))
        assert found is not None
        return found

    async def ingest(
        self, request: Request, job: int | None = None, *, will_retry: WillRetry | None = None
    ) -> Outcome:
        """As IngestRunner.ingest."""
        return await self.pipeline.runner.ingest(request, job, will_retry=will_retry)

    async def register(self, path: Path, name: str = "picture") -> Asset:
        """Register a file in place by the folder's policy."""
        known = await self.catalog.assets.get(AssetId(1, 1, name))
        policies = self.pipeline.policies
        recipes = Recipes(await policies.folder(1), await policies.thumbnails(1, ""))
        await self.pipeline.registrar.register_file(AssetId(1, 1, name), path, recipes, known)
        return await self.asset(name)

    def conversion_worker(
        self, slots: int = 2, on_end: Callable[[], None] = lambda: None
    ) -> Worker:
        """A worker for conversion jobs that retries after a short wait."""
        options = WorkerOptions(
            slots=slots, retry_first_s=0.02, retry_longest_s=0.1, blocked_s=0.02, look_s=0.2
        )
        handler = ConvertHandler(
            self.catalog.assets,
            self.pipeline.converter,
            self.pipeline.reingester,
            options.max_attempts,
            on_end,
        )
        return Worker(self.catalog.claims, {CONVERT: handler}, options)

    async def sweep(self, requeue: Requeue | None = None) -> Counter[str]:
        """Sweep once, with an age limit of 0 seconds."""
        settings = self.settings.ingest.model_copy(update={"stuck_after_s": 0})
        scratch = self.settings.data_dir / "scratch"
        sweeper = Sweeper(
            self.catalog,
            self.pipeline.remover,
            scratch,
            settings,
            conversions=self.pipeline.conversion_jobs,
            requeue=requeue,
        )
        return await sweeper.sweep()

    async def ledger(self) -> dict[str, LedgerRow]:
        """Every row of the ledger by its key."""
        return {row.object.key: row for row in await self.catalog.objects.page(limit=100_000)}

    async def assert_exact(self) -> None:
        """Check that the store, the ledger, the assets and the storage accounts agree."""
        ledger = await self.ledger()
        assert {row.state for row in ledger.values()} <= {"live"}
        assert set(ledger) == await self.store.keys()
        named: set[str] = set()
        charged: Counter[int] = Counter()
        images: Counter[int] = Counter()
        for row in ledger.values():
            info = await self.store.head(row.object.key)
            assert info.bytes == row.object.bytes
            charged[row.id.customer] += row.object.bytes if row.object.kind != "sizes" else 0
        for asset in await self.catalog.assets.page(limit=10_000):
            own = keys_named_by(asset)
            images[asset.id.customer] += bool(own)
            named |= own
        assert named == set(ledger)
        for customer in {*charged, *images}:
            use = await self.catalog.quotas.get(customer)
            assert (use.images, use.stored) == (images[customer], charged[customer])
            assert (use.reserved_images, use.reserved_bytes) == (0, 0)

    async def count_waiting(self) -> int:
        """How many transactions wait for a lock of this database, on a connection outside them: a
        transaction sees the statistics of its beginning.
        """
        async with self.catalog.connection() as connection:
            number = await connection.fetchval(
                """SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            )
        return int(number)

    def scratch(self) -> list[Path]:
        """Everything in scratch space except the locks and folders of processes."""
        return list((self.settings.data_dir / "scratch").glob("*/*"))


def settings_for(dsn: str, data: Path) -> Settings:
    """Small thumbnails, loopback origins, short waits."""
    return Settings(
        server=Server(data_dir=data),
        database=Database(dsn=SecretStr(dsn), answer_timeout_s=ANSWER_S),
        cache=Cache(free_space_floor=0),
        ingest=Ingest(
            thumbnail_policy=[200, 100, 50],
            optimisation_policy="fastest",
            allow_private_addresses=True,
            read_timeout_s=1,
            workers=2,
            remove_after_s=0,
        ),
    )


def keys_named_by(asset: Asset) -> set[str]:
    """The store keys that an asset names."""
    number, found = asset.thumbnails_version, set()
    if asset.source is not None and asset.source.location.startswith(STORE):
        found.add(asset.source.location.removeprefix(STORE))
    if number:
        found.add(keys.sizes_key(asset.id, number))
        for access, sizes in (("open", asset.thumbnails.open), ("auth", asset.thumbnails.auth)):
            found |= {keys.thumbnail_key(asset.id, number, access, max(size)) for size in sizes}
    return found


@asynccontextmanager
async def open_ingest_system(
    settings: Settings,
    imaging: ImagingPool,
    *,
    catalog: Catalog | None = None,
    store: RecordingStore | None = None,
) -> AsyncIterator[IngestSystem]:
    """Open all parts over the database, which this migrates."""
    await migrate(settings.database)
    catalog = catalog or await Catalog.open(settings.database, HookJobs(settings.ingest))
    store = store or RecordingStore(settings.data_dir / "objects")
    scratch = await Scratch.open(settings.data_dir / "scratch")
    async with open_origins(
        settings.ingest, catalog.strategies, [make_key()], OwnData()
    ) as origins:
        submitter = Submitter(catalog)
        build = partial(
            build_pipeline,
            catalog=catalog,
            store=store,
            imaging=imaging,
            scratch=scratch,
            origins=origins,
            policies=Policies(settings.ingest, catalog.policies),
            settings=settings,
            submitter=submitter,
        )
        pipeline = build()
        try:
            yield IngestSystem(
                settings, catalog, store, imaging, build, pipeline, origins, submitter
            )
        finally:
            await scratch.close()
            await store.close()
            await catalog.close()


async def _never(key: str) -> None:
    await asyncio.Event().wait()


async def _convert(dsn: str, data: Path) -> None:
    settings = settings_for(dsn, data)
    imaging = ImagingPool(Imaging(processes=1))
    async with open_ingest_system(settings, imaging) as system:
        system.store.before_put = _never
        await system.pipeline.conversion_jobs.submit_missing()
        await system.conversion_worker(slots=1).run()


if __name__ == "__main__":
    asyncio.run(_convert(sys.argv[1], Path(sys.argv[2])))
