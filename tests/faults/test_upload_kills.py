"""A process is killed between any two steps of a change of a picture: nothing is lost, no client
sees half of it, and the same request, repeated, finishes it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from PIL import Image

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.catalog.uploads import UploadDraft
from orchestrator.errors import NotFound
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.scratch import Scratch
from orchestrator.model import AssetId
from orchestrator.settings import Imaging, ResizingRule, Uploads
from orchestrator.storage.picture_folder import PictureFolder
from orchestrator.storage.store import ObjectInfo
from orchestrator.uploads.active_pictures import ActivePictures
from orchestrator.uploads.background_formats import FormatJobs
from orchestrator.uploads.intake import Intake
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_importer import PictureImporter
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.publication import AssetRules, Publication
from orchestrator.uploads.resizer import Resizer
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.simulated_kill import (
    KillableStore,
    KillSwitch,
    ProcessKilled,
    open_killable_catalog,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIZE = (60, 40)
_RULES = [ResizingRule(suffix=name, convert=["-resize", "30x30>"]) for name in ("BI", "MI")]
_numbers = itertools.count(1)


class KillableFolder(PictureFolder):
    """A folder of pictures that passes a step before and after each change."""

    def __init__(self, root: Path, kill_switch: KillSwitch) -> None:
        super().__init__(root)
        self._kill_switch = kill_switch

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str = "",
        metadata: Mapping[str, str] | None = None,
        cache_control: str = "",
    ) -> ObjectInfo:
        self._kill_switch.step(f"put {key}")
        info = await super().put(key, body, media_type=media_type, metadata=metadata)
        self._kill_switch.step(f"was put {key}")
        return info

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._kill_switch.step(f"delete {key}")
            await super().delete([key])
        self._kill_switch.step("deleted")


@dataclass
class Service:
    """The services of one process."""

    system: IngestSystem
    stores: UploadStores
    publisher: Publisher
    importer: PictureImporter
    pictures: ActivePictures
    maker: VersionMaker
    files: PictureFiles

    async def receive(self, body: bytes, folder: Path, filename: str) -> None:
        """Put a picture into `incoming`."""
        key = PictureKey.parse_original(filename)
        path = folder / str(key)
        path.write_bytes(body)
        digest = await self.files.fetch(PictureFolder(folder), str(key), folder / "copy")
        draft = UploadDraft(key.name, str(key), *SIZE, 1, len(body), digest, ("BI", "MI"))
        upload = await self.system.catalog.uploads.add(draft)
        made = await self.maker.make(key, path, await self.maker.probe(path), None)
        await self.files.store(self.stores.incoming, upload, path, made, cache_control="")

    async def seen(self, filename: str) -> set[object]:
        """What a client sees: the original's bytes, the sizes of the versions, None for a 404."""
        found: set[object] = set()
        for version in ("", "BI", "MI"):
            try:
                picture = await self.pictures.get(filename.replace(".", f"{version}."))
            except NotFound:
                found.add(None)
            else:
                assert picture.body is not None
                size = Image.open(io.BytesIO(picture.body)).size
                found.add(size if version else len(picture.body))
        return found

    async def is_image(self, filename: str) -> bool:
        """True if the picture is a registered asset with stored bytes."""
        name = filename.partition(".")[0]
        asset = await self.system.catalog.assets.get(AssetId(1, 1, name))
        if asset is None or asset.source is None:
            return False
        location = asset.source.location.removeprefix("store:")
        return asset.dimensions == SIZE and bool((await self.system.store.head(location)).bytes)


@asynccontextmanager
async def open_service(
    dsn: str, folder: Path, pool: ImagingPool, kill_switch: KillSwitch
) -> AsyncIterator[Service]:
    """A process; `kill_switch` kills it once it is armed."""
    settings = settings_for(dsn, folder / "data")
    uploads = Uploads(backend="local", resizing=_RULES)
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(
            open_ingest_system(
                settings,
                pool,
                catalog=await open_killable_catalog(settings.database, kill_switch),
                store=KillableStore(settings.data_dir / "objects", kill_switch),
            )
        )
        catalog = system.catalog
        await catalog.customers.ensure(1, "main")
        cache = await DiskCache.open(
            folder / f"cache{next(_numbers)}", DiskOptions(quota=0, floor=0)
        )
        stack.push_async_callback(cache.close)
        flights = SingleFlight(folder / "flights", remember=lambda _error: 0.0)
        stack.push_async_callback(flights.close)
        scratch = await Scratch.open(folder / "work")
        stack.push_async_callback(scratch.close)
        stores = UploadStores(
            KillableFolder(folder / "incoming", kill_switch),
            KillableFolder(folder / "active", kill_switch),
            "",
        )
        maker = VersionMaker(pool, uploads)
        files = PictureFiles(maker)
        publication = Publication(
            stores=stores,
            files=files,
            maker=maker,
            rows=catalog.uploads,
            assets=system.pipeline.uploaded,
            asset_rules=AssetRules(1, 1, "fastest", lambda key: f"file:///{key}"),
            record_formats=FormatJobs(system.submitter, ()).record,
        )
        common: dict[str, Any] = {
            "stores": stores,
            "files": files,
            "maker": maker,
            "rows": catalog.uploads,
            "open_folder": scratch.folder,
        }
        publisher = Publisher(**common, publication=publication, pool=pool, lock=catalog.exclusive)
        yield Service(
            system,
            stores,
            publisher,
            PictureImporter(
                **common,
                intake=Intake(**common, pool=pool, settings=uploads),
                publication=publication,
                publisher=publisher,
                resizer=Resizer(
                    stores=stores,
                    rows=catalog.uploads,
                    maker=maker,
                    publisher=publisher,
                    submitter=system.submitter,
                ),
            ),
            ActivePictures(**common, derivatives=cache, flights=flights),
            maker,
            files,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[ImagingPool]:
    made = ImagingPool(Imaging(processes=1))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def dsn(postgres: str) -> str:
    name = f"kills_{next(_numbers)}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlsplit(postgres)._replace(path=f"/{name}").geturl()


Change = Callable[[Service, str], Awaitable[object]]
CROP = "20x10+5+5"
WHOLE, PART = (30, 20), (20, 10)


async def first(service: Service, filename: str) -> None:
    """Publish with a crop."""
    await service.publisher.publish(filename, CROP)


async def plain(service: Service, filename: str) -> None:
    """Publish without a crop."""
    await service.publisher.publish(filename)


async def delete(service: Service, filename: str) -> None:
    await service.publisher.delete([filename])


async def bring(service: Service, filename: str) -> None:
    """Publish a picture of another system, which is not in `incoming`."""

    async def fetch(path: Path) -> None:
        path.write_bytes(jpeg())

    await service.importer.bring(PictureKey.parse_original(filename), fetch)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(SIZE).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "every", [3, pytest.param(1, marks=pytest.mark.soak)], ids=["short", "long"]
)
@pytest.mark.parametrize(
    ("change", "is_published", "ends"),
    [
        pytest.param(plain, False, [{None}, {len(jpeg()), WHOLE}], marks=pytest.mark.soak),
        (first, False, [{None}, {len(jpeg()), PART}]),
        (first, True, [{len(jpeg()), WHOLE}, {len(jpeg()), PART}]),
        pytest.param(delete, True, [{len(jpeg()), WHOLE}, {None}], marks=pytest.mark.soak),
        (bring, False, [{None}, {len(jpeg()), WHOLE}]),
    ],
    ids=["publish", "publish-with-crop", "crop-of-a-published-one", "delete", "import"],
)
async def test_a_change_that_was_killed_at_any_step_is_finished_by_repeating_it(
    dsn: str,
    tmp_path: Path,
    pool: ImagingPool,
    change: Change,
    is_published: bool,
    ends: list[set[object]],
    every: int,
) -> None:
    """Kill at one of `every` steps. An odd number: a use is the step before it and that after."""
    killed = KillSwitch()
    for name in ("incoming", "active"):
        (tmp_path / name).mkdir()
    async with (
        open_service(dsn, tmp_path, pool, KillSwitch()) as alive,
        open_service(dsn, tmp_path, pool, killed) as dying,
    ):
        for at in itertools.count(step=every):
            filename = f"1500000000_{next(_numbers)}.jpg"
            if change is not bring:
                await alive.receive(jpeg(), tmp_path, filename)
            if is_published:
                await alive.publisher.publish(filename)
            killed.at, killed.steps, killed.is_killed, killed.armed = at, [], False, True
            try:
                await change(dying, filename)
            except ProcessKilled:
                pass
            finally:
                killed.armed = False
            # A client never sees half of it: all is as before, or all is as after.
            assert await alive.seen(filename) in ends, killed.steps
            await change(alive, filename)
            assert await alive.seen(filename) == ends[1], killed.steps
            is_gone = change is delete
            assert await alive.is_image(filename) is not is_gone, killed.steps
            name = filename.partition(".")[0]
            assert [each async for each in alive.stores.incoming.list(name)] == []
            stored = [each async for each in alive.stores.active.list(name)]
            assert len(stored) == (0 if is_gone else 3)
            if not killed.is_killed:
                break
        assert at > 10
