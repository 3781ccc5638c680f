"""The ledger of objects: the store, the ledger, the assets and the storage accounts agree after any
operation, also after one that was killed at any step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.catalog.values import StoredObject
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    OrchestratorError,
    StorageUnavailable,
    Superseded,
    Unprocessable,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem, keys_named_by, open_ingest_system, settings_for
from tests.support.simulated_kill import (
    KillableStore,
    KillSwitch,
    ProcessKilled,
    open_killable_catalog,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")


async def test_every_object_is_in_the_ledger_before_it_is_written(system: IngestSystem) -> None:
    seen: dict[str, str] = {}

    async def record(key: str) -> None:
        seen[key] = (await system.ledger())[key].state

    system.store.before_put = record
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 300, 200))))
    originals = {key for key in seen if "original" in key}
    assert len(originals) == 1  # the original that was served during the conversion
    assert set(seen) - originals == await system.store.keys()
    assert set(seen.values()) == {"writing"}
    await system.assert_exact()


async def test_no_key_is_ever_written_twice(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path)))
    await system.ingest(Request(ID, str(path), force=True))
    await system.pipeline.editor.set_access(ID, roles=("reader",))
    await system.pipeline.editor.set_access(ID, roles=())
    await system.register(path)
    await system.pipeline.converter.convert(ID)
    assert len(system.store.written) == len(set(system.store.written))
    await system.assert_exact()


async def test_objects_of_an_old_version_are_removed_after_the_grace_period_and_not_before(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    without_grace = settings_for(dsn, tmp_path / "data")
    with_grace = without_grace.model_copy(
        update={"ingest": without_grace.ingest.model_copy(update={"remove_after_s": 3600})}
    )
    async with open_ingest_system(with_grace, imaging) as system:
        path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
        await system.ingest(Request(ID, str(path)))
        old = await system.store.keys()  # with the original that was served
        await system.ingest(Request(ID, str(path), force=True))
        new = keys_named_by(await system.asset())
        await system.sweep()
        assert await system.store.keys() == old | new
        states = {key: row.state for key, row in (await system.ledger()).items()}
        assert states == dict.fromkeys(old, "unwanted") | dict.fromkeys(new, "live")
    async with open_ingest_system(without_grace, imaging) as system:
        swept = await system.sweep()
        assert swept["unwanted_objects"] == len(old)
        assert await system.store.keys() == new
        await system.assert_exact()


async def test_the_removal_continues_after_an_outage_of_the_store(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path)))
    delete = system.store.delete

    async def fail(keys: object) -> None:
        raise StorageUnavailable("away")

    system.store.delete = fail  # type: ignore[method-assign]
    deleted = await system.pipeline.editor.delete(ID)
    assert (deleted.objects, deleted.asset.id) == (5, ID)
    assert len(await system.store.keys()) == 5
    system.store.delete = delete  # type: ignore[method-assign]
    await system.sweep()
    await system.assert_exact()


async def test_an_ingest_that_lost_its_lock_and_was_swept_publishes_nothing_and_leaves_nothing(
    system: IngestSystem,
) -> None:
    """A lost connection released the lock, and the sweeper ran while the ingest wrote."""

    async def sweep(key: str) -> None:
        if key.endswith("s.json"):
            await system.catalog.objects.abandon(ID, 0)
            await system.pipeline.remover.remove()

    system.store.before_put = sweep
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    with pytest.raises(Conflict, match="lost its lock"):
        await system.ingest(Request(ID, str(path)))
    assert not (await system.asset()).servable
    await system.sweep()
    assert await system.store.keys() == set()
    await system.assert_exact()


async def test_an_asset_deleted_during_its_ingest_stays_deleted(system: IngestSystem) -> None:
    async def delete(key: str) -> None:
        if key.endswith("s.json"):
            system.store.before_put = None
            await system.pipeline.editor.delete(ID)

    system.store.before_put = delete
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    with pytest.raises(Superseded):
        await system.ingest(Request(ID, str(path)))
    assert await system.catalog.assets.get(ID) is None
    await system.assert_exact()


async def test_rights_changed_during_a_reingest_decide_where_its_thumbnails_are_stored(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path)))

    async def restrict(key: str) -> None:
        if key.endswith("s.json"):
            system.store.before_put = None
            await system.pipeline.editor.set_access(ID, roles=("reader",))

    system.store.before_put = restrict
    await system.ingest(Request(ID, str(path), force=True))
    asset = await system.asset()
    assert (asset.roles, asset.thumbnails.open) == (("reader",), ())
    assert len(asset.thumbnails.auth) == 3
    await system.assert_exact()


async def test_rights_can_be_changed_although_a_thumbnail_was_lost_from_the_store(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    before = (await system.ingest(Request(ID, str(path)))).asset
    await system.store.delete([f"1/1/picture/{before.thumbnails_version}/open/100.jpg"])
    after = await system.pipeline.editor.set_access(ID, roles=("reader",))
    assert [max(size) for size in after.thumbnails.auth] == [200, 50]
    await system.sweep()
    await system.assert_exact()


# --- killed at any step ---------------------------------------------------------------------------

SMALL, LARGE = (90, 60), (120, 80)
Operation = Callable[[IngestSystem], Awaitable[object]]


async def ingest_first(system: IngestSystem) -> None:
    await system.ingest(Request(ID, str(system.pictures / "large.jpg")))


async def delete_asset(system: IngestSystem) -> None:
    await system.pipeline.editor.delete(ID)


async def restrict_asset(system: IngestSystem) -> None:
    await system.pipeline.editor.set_access(ID, roles=("reader",), max_unauthorised=60)


async def convert_asset(system: IngestSystem) -> None:
    await system.register(system.pictures / "large.jpg")
    await system.pipeline.converter.convert(ID)


async def prepare_asset(system: IngestSystem, *, served: bool) -> None:
    pictures.jpeg(system.pictures / "small.jpg", *SMALL)
    pictures.jpeg(system.pictures / "large.jpg", *LARGE, seed=1)
    if served:
        await system.ingest(Request(ID, str(system.pictures / "small.jpg")))


async def assert_whole(system: IngestSystem, asset: Asset) -> None:
    """Check that nothing of one version is mixed with another version."""
    assert asset.dimensions in (SMALL, LARGE)
    if not asset.thumbnails_version:
        return
    assert max(asset.thumbnails.all()[0]) == max(asset.dimensions)
    assert keys_named_by(asset) <= await system.store.keys()
    listed = await system.store.sizes(f"1/1/picture/{asset.thumbnails_version}/s.json")
    assert {tuple(size) for size in listed["o"]} == set(asset.thumbnails.open)
    assert {tuple(size) for size in listed["a"]} == set(asset.thumbnails.auth)
    assert asset.source is not None
    if asset.source.location.startswith("store:"):
        info = await system.store.head(asset.source.location.removeprefix("store:"))
        assert (info.etag, info.bytes) == (asset.source.fingerprint, asset.source.bytes)


@pytest.mark.parametrize(
    ("operation", "served"),
    [
        (ingest_first, False),
        (ingest_first, True),
        (convert_asset, False),
        (convert_asset, True),
        (restrict_asset, True),
        (delete_asset, True),
    ],
)
@pytest.mark.parametrize("every_step", [False, pytest.param(True, marks=pytest.mark.soak)])
async def test_a_kill_between_any_two_steps_leaves_the_old_or_the_new_version_and_no_orphan(
    dsn: str,
    tmp_path: Path,
    imaging: ImagingPool,
    operation: Operation,
    served: bool,
    every_step: bool,
) -> None:
    """Repeats the operation, killed one step later each time, until it ends before the kill."""
    without_grace = settings_for(dsn, tmp_path / "data")
    async with open_ingest_system(without_grace, imaging) as system:
        await prepare_asset(system, served=served)
        before = await system.catalog.assets.get(ID)
        step, done = 0, False
        while not done:
            kill_switch = KillSwitch(step, every_step=every_step)
            done = await _run_killed(system, imaging, kill_switch, operation)
            after = await system.catalog.assets.get(ID)
            if after is not None and after.servable:
                await assert_whole(system, after)
            await system.sweep()
            await system.assert_exact()
            swept = await system.catalog.assets.get(ID)
            if swept is not None:
                assert swept.state is not AssetState.INGESTING
                await assert_whole(system, swept) if swept.servable else None
            if served and operation is not delete_asset:
                assert swept is not None
                assert swept.servable
            step += 1
            if not done and swept != before:  # back to the state at the start
                with suppress(AssetNotFound):
                    await system.pipeline.editor.delete(ID)
                await prepare_asset(system, served=served)
                before = await system.catalog.assets.get(ID)
        assert step > 5


async def _run_killed(
    system: IngestSystem, imaging: ImagingPool, kill_switch: KillSwitch, operation: Operation
) -> bool:
    """Return True if the operation ended before the kill."""
    catalog = await open_killable_catalog(system.settings.database, kill_switch)
    store = KillableStore(system.settings.data_dir / "objects", kill_switch)
    async with open_ingest_system(system.settings, imaging, catalog=catalog, store=store) as killed:
        kill_switch.armed = True
        try:
            await operation(killed)
        except ProcessKilled:
            return False
        finally:
            kill_switch.armed = False
    return True


# --- in any order ---------------------------------------------------------------------------------

NAMES = ("a", "b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ingest", "force", "broken", "register", "convert", "restrict", "open", "delete"]
        ),
        st.sampled_from(NAMES),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
async def test_the_ledger_lists_what_the_store_contains_after_any_sequence_of_operations(
    system: IngestSystem, steps: list[tuple[str, str, int]]
) -> None:
    for n in range(2):
        path = system.pictures / f"{n}.jpg"
        if not path.exists():
            pictures.jpeg(path, 60 + 40 * n, 50, seed=n)
    torn = system.pictures / "torn.jpg"
    if not torn.exists():
        whole = pictures.jpeg(system.pictures / "whole.jpg", 600, 500)
        pictures.truncated(torn, whole, 0.4)
    for step, name, which in steps:
        with suppress(OrchestratorError):
            await _take_step(system, step, AssetId(1, 1, name), system.pictures / f"{which}.jpg")
    await system.assert_exact()
    for name in NAMES:
        with suppress(AssetNotFound):
            await system.pipeline.editor.delete(AssetId(1, 1, name))
    await system.assert_exact()
    assert await system.store.keys() == set()


async def _take_step(system: IngestSystem, step: str, asset_id: AssetId, path: Path) -> None:
    pipeline, torn = system.pipeline, system.pictures / "torn.jpg"
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "ingest": lambda: pipeline.runner.ingest(Request(asset_id, str(path))),
        "force": lambda: pipeline.runner.ingest(Request(asset_id, str(path), force=True)),
        "broken": lambda: pipeline.runner.ingest(Request(asset_id, str(torn))),
        "register": lambda: system.register(path, asset_id.name),
        "convert": lambda: pipeline.converter.convert(asset_id),
        "restrict": lambda: pipeline.editor.set_access(asset_id, roles=("r",), max_unauthorised=55),
        "open": lambda: pipeline.editor.set_access(asset_id, roles=(), max_unauthorised=-1),
        "delete": lambda: pipeline.editor.delete(asset_id),
    }
    await steps[step]()


async def test_the_storage_account_can_be_recounted(system: IngestSystem) -> None:
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 300, 200))))
    before = await system.catalog.quotas.get(1)
    async with system.catalog.transaction() as connection:
        await connection.execute("UPDATE customer_storage SET images = 7, stored = 1")
    assert await system.catalog.quotas.recount(1) == before


async def test_objects_of_other_assets_are_not_changed(system: IngestSystem) -> None:
    one = StoredObject("1/1/picture/1/source.tif", "source", 3)
    await system.catalog.objects.enter(ID, 1, [one])
    with pytest.raises(Conflict):
        await system.catalog.objects.enter(ID, 1, [one])
    await system.catalog.objects.discard(ID, 1, [one, replace(one, key="1/1/picture/1/original")])
    assert {row.state for row in (await system.ledger()).values()} == {"unwanted"}
    assert await asyncio.gather(system.sweep(), system.sweep())
    assert await system.ledger() == {}
    with pytest.raises(Unprocessable):
        torn = pictures.truncated(
            system.pictures / "t.jpg", pictures.jpeg(system.pictures / "w.jpg", 600, 500), 0.4
        )
        await system.ingest(Request(ID, str(torn)))
    await system.assert_exact()
