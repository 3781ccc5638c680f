"""The steps of one ingest on real parts."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from orchestrator.errors import (
    AssetNotFound,
    OrchestratorError,
    OriginUnavailable,
    SourceChanged,
    StorageUnavailable,
    Superseded,
    TooLarge,
    Unprocessable,
)
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.ingest_context import Outcome
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.register import Request
from orchestrator.model import Asset, AssetId, AssetState, SourceKind, ThumbnailSizes
from orchestrator.storage import object_keys as keys
from orchestrator.storage.store import read
from tests.support import icc, pictures
from tests.support.ingesting import IngestSystem, open_ingest_system
from tests.support.origins import OriginServer
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")
SIZES = ((200, 133), (100, 67), (50, 33))


def thumbnail_keys(asset: Asset, access: str = "open") -> set[str]:
    return {keys.thumbnail_key(ID, asset.thumbnails_version, access, e) for e in (200, 100, 50)}


def all_keys(asset: Asset, access: str = "open") -> set[str]:
    """The exact keys that the store should contain for a converted asset."""
    assert asset.source is not None
    own = {asset.source.location.removeprefix("store:")}
    if asset.source.location.startswith("file:"):
        own = set()
    return own | thumbnail_keys(asset, access) | {keys.sizes_key(ID, asset.thumbnails_version)}


# --- in place, then converted ------------------------------------------------------------------


async def test_a_registered_file_can_be_served_before_its_conversion(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    asset = await system.register(path)
    assert asset.state is AssetState.REGISTERED
    assert asset.dimensions == (300, 200)
    assert asset.media_type == "image/jpeg"
    assert asset.source is not None
    assert asset.source.location == f"file://{path}"
    assert asset.source.kind is SourceKind.ORIGINAL
    assert asset.thumbnails == ThumbnailSizes(open=SIZES)
    assert asset.thumbnails_version == 0
    assert await system.store.keys() == set()


async def test_conversion_switches_the_same_version_to_source_and_thumbnails(
    system: IngestSystem,
) -> None:
    before = await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))
    assert await system.pipeline.converter.convert(ID) is not None
    asset = await system.asset()
    assert asset.version == before.version
    assert asset.state is AssetState.READY
    assert asset.thumbnails == before.thumbnails
    assert asset.thumbnails_version > asset.version  # a number of its own: no key is written twice
    assert asset.source is not None
    number = asset.thumbnails_version
    assert asset.source.location == f"store:{keys.source_key(ID, number, 'tif')}"
    assert asset.source.kind is SourceKind.PYRAMID_TIFF
    info = await system.store.head(asset.source.location.removeprefix("store:"))
    assert (info.etag, info.bytes) == (asset.source.fingerprint, asset.source.bytes)
    assert await system.store.keys() == all_keys(asset)
    assert system.scratch() == []


async def test_thumbnails_are_stored_largest_first_and_the_list_of_them_last(
    system: IngestSystem,
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))
    await system.pipeline.converter.convert(ID)
    asset = await system.asset()
    number = asset.thumbnails_version
    names = [key.removeprefix(keys.prefix(ID, number)) for key in system.store.written]
    assert names == ["source.tif", "open/200.jpg", "open/100.jpg", "open/50.jpg", "s.json"]
    listed = await system.store.sizes(keys.sizes_key(ID, number))
    assert listed == {"o": [[200, 133], [100, 67], [50, 33]], "a": []}
    for size in SIZES:
        key = keys.thumbnail_key(ID, number, "open", max(size))
        assert (await system.store.head(key)).media_type == "image/jpeg"
        body = await read(system.store, key, max_bytes=1_000_000)
        assert Image.open(io.BytesIO(body)).size == size


async def test_a_tile_ready_file_stays_where_it_is_and_gets_thumbnails(
    system: IngestSystem,
) -> None:
    path = pictures.jp2_tiled(system.pictures / "a.jp2", 300, 200)
    before = await system.register(path)
    await system.pipeline.converter.convert(ID)
    asset = await system.asset()
    assert asset.state is AssetState.READY
    assert asset.source == before.source
    assert await system.store.keys() == all_keys(asset)


async def test_an_unchanged_file_keeps_its_version_before_and_after_conversion(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    first = await system.register(path)
    assert (await system.register(path)).version == first.version
    await system.pipeline.converter.convert(ID)
    again = await system.register(path)
    assert (again.version, again.state) == (first.version, AssetState.READY)


async def test_a_changed_file_gets_a_new_version_at_once_and_the_old_objects_are_removed(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    first = await system.register(path)
    await system.pipeline.converter.convert(ID)
    pictures.jpeg(path, 150, 150, seed=1)
    second = await system.register(path)
    assert second.version > first.version
    assert (second.state, second.dimensions) == (AssetState.REGISTERED, (150, 150))
    assert await system.store.keys() == set()
    await system.pipeline.converter.convert(ID)
    assert {max(size) for size in (await system.asset()).thumbnails.open} == {150, 100, 50}


async def test_a_file_that_cannot_be_read_leaves_the_version_before(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.register(path)
    await system.pipeline.converter.convert(ID)
    before, stored = await system.asset(), await system.store.keys()
    path.write_bytes(b"\xff\xd8\xff\xe0 truncated")
    with pytest.raises(Unprocessable):
        await system.register(path)
    assert await system.asset() == before
    assert await system.store.keys() == stored


async def test_an_asset_is_converted_by_one_process_at_a_time(
    system: IngestSystem, imaging: ImagingPool
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))
    async with open_ingest_system(system.settings, imaging) as other:
        async with system.catalog.exclusive(f"conversion {ID}") as is_locked:
            assert is_locked
            converting = asyncio.create_task(other.pipeline.converter.convert(ID))
            await asyncio.sleep(0.2)
            assert not converting.done()
            assert (await system.asset()).state is AssetState.REGISTERED
        assert await converting is not None
    assert await system.pipeline.converter.convert(ID) is None


async def test_an_ingest_that_waits_for_another_process_occupies_no_slot(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    async with system.catalog.exclusive(f"conversion {ID}"):
        slots = system.settings.ingest.workers
        waiting = [
            asyncio.ensure_future(system.ingest(Request(ID, str(path)))) for _ in range(slots)
        ]
        await asyncio.sleep(0.1)  # until each has tried the lock
        async with asyncio.timeout(10 * patience()):
            await system.ingest(Request(AssetId(1, 1, "other"), str(path)))
        assert not any(task.done() for task in waiting)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    done = [each for each in outcomes if isinstance(each, Outcome)]
    # Which of them was accepted last is not known.
    assert [each.asset.id for each in done] == [ID]
    assert [type(each) for each in outcomes if each not in done] == [Superseded] * (slots - 1)


async def test_a_conversion_that_was_overtaken_removes_its_objects(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.register(path)

    async def overtake(key: str) -> None:
        if key.endswith("s.json"):
            system.store.before_put = None
            pictures.jpeg(path, 150, 150, seed=1)
            await system.register(path)

    system.store.before_put = overtake
    assert await system.pipeline.converter.convert(ID) is None
    assert (await system.asset()).dimensions == (150, 150)
    assert await system.store.keys() == set()


async def test_a_file_replaced_during_its_conversion_is_not_published(
    system: IngestSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures.fractal(system.pictures / "a.png", 1600, 1200)
    await system.register(path)
    convert = system.imaging.convert_with_thumbnails

    async def replace_meanwhile(*args: Any) -> Any:
        made = await convert(*args)
        os.utime(path, (1, 1))
        return made

    monkeypatch.setattr(system.imaging, "convert_with_thumbnails", replace_meanwhile)
    with pytest.raises(SourceChanged):
        await system.pipeline.converter.convert(ID)
    assert (await system.asset()).state is AssetState.REGISTERED
    assert await system.store.keys() == set()
    assert system.scratch() == []


@pytest.mark.parametrize("failing", ["source.tif", "open/100.jpg", "s.json"])
async def test_a_store_that_fails_during_a_conversion_leaves_no_objects_and_the_asset_registered(
    system: IngestSystem, failing: str
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))

    async def fail(key: str) -> None:
        if key.endswith(failing):
            raise StorageUnavailable("away")

    system.store.before_put = fail
    with pytest.raises(StorageUnavailable):
        await system.pipeline.converter.convert(ID)
    assert await system.store.keys() == set()
    assert (await system.asset()).state is AssetState.REGISTERED
    system.store.before_put = None
    assert await system.pipeline.converter.convert(ID) is not None


@pytest.mark.parametrize("policy", ["fastest", "fast-lossy"])
@pytest.mark.parametrize("dimensions", [(2000, 1500), (513, 40), (256, 256), (1, 1)])
async def test_tiles_and_levels_are_the_same_before_and_after_conversion(
    system: IngestSystem, policy: str, dimensions: tuple[int, int]
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", *dimensions)
    seen: list[Asset] = []

    async def record(key: str) -> None:
        if "/source." in key:
            seen.append(await system.asset())

    system.store.before_put = record
    policies = system.pipeline.policies
    recipes = Recipes(await policies.optimisation(1, policy), await policies.thumbnails(1, ""))
    await system.pipeline.registrar.register_file(ID, path, recipes, None)
    await system.pipeline.converter.convert(ID)
    after = await system.asset()
    for asset in seen:
        source = asset.source
        assert source is not None
        assert after.source is not None
        assert (source.tile_width, source.tile_height, source.levels) == (
            after.source.tile_width,
            after.source.tile_height,
            after.source.levels,
        )
    assert len(seen) == 1


async def test_a_profile_that_is_ignored_is_logged_when_the_picture_is_registered(
    system: IngestSystem, caplog: pytest.LogCaptureFixture
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 30, 20, icc_profile=icc.gray(1.8))
    policies = system.pipeline.policies
    recipes = Recipes(await policies.optimisation(1, ""), await policies.thumbnails(1, ""))
    await system.pipeline.registrar.register_file(ID, path, recipes, None)
    notes = [record for record in caplog.records if record.message == "original noted"]
    assert [record.asset for record in notes] == [str(ID)]  # type: ignore[attr-defined]
    assert "GRAY" in notes[0].note  # type: ignore[attr-defined]


# --- ingested from an origin -------------------------------------------------------------------


async def test_an_ingested_file_is_copied_converted_and_published(system: IngestSystem) -> None:
    path = pictures.png(system.pictures / "a.png", 300, 200)
    outcome = await system.ingest(Request(ID, str(path), tags=("first",)))
    asset = await system.asset()
    assert outcome.asset == asset
    assert outcome.changed
    assert asset.state is AssetState.READY
    assert (asset.media_type, asset.tags, asset.origin) == ("image/png", ("first",), str(path))
    path.unlink()
    assert await system.store.keys() == all_keys(asset)
    assert system.scratch() == []


async def test_a_first_ingest_is_served_from_its_original_during_the_conversion(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    seen: list[Asset] = []

    async def record(key: str) -> None:
        if key.endswith("source.tif"):
            seen.append(await system.asset())

    system.store.before_put = record
    await system.ingest(Request(ID, str(path)))
    [during] = seen
    assert during.state is AssetState.INGESTING
    assert during.servable
    assert during.dimensions == (300, 200)
    assert during.source is not None
    assert during.source.location == f"store:{keys.original_key(ID, during.version)}"
    assert await system.store.keys() == all_keys(await system.asset())  # the original was removed


async def test_a_failed_first_ingest_is_not_served_from_its_original(system: IngestSystem) -> None:
    whole = pictures.png(system.pictures / "a.png", 300, 200)
    torn = pictures.truncated(system.pictures / "torn.png", whole, 0.5)
    written: list[str] = []

    async def record(key: str) -> None:
        written.append(key)

    system.store.before_put = record
    with pytest.raises(Unprocessable):
        await system.ingest(Request(ID, str(torn)))
    assert any("original" in key for key in written)
    asset = await system.asset()
    assert asset.state is AssetState.FAILED
    assert not asset.servable
    assert asset.source is None
    assert await system.store.keys() == set()


async def test_a_tile_ready_origin_is_its_own_source(system: IngestSystem) -> None:
    path = pictures.pyramid_tiff(system.pictures / "a.tif", 300, 200)
    await system.ingest(Request(ID, str(path), "fast-lossy"))
    asset = await system.asset()
    assert asset.source is not None
    assert asset.source.location == f"store:{keys.original_key(ID, asset.version)}"
    assert asset.source.kind is SourceKind.PYRAMID_TIFF
    body = await read(system.store, keys.original_key(ID, asset.version), max_bytes=10**7)
    assert body == path.read_bytes()
    assert await system.store.keys() == all_keys(asset)


async def test_unchanged_bytes_are_not_converted_again_unless_forced(
    system: IngestSystem, origin: OriginServer
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    origin.files["/a.jpg"] = path.read_bytes()
    for where in (str(path), origin.url("/a.jpg")):
        first = await system.ingest(Request(ID, where))
        system.store.log.clear()
        again = await system.ingest(Request(ID, where))
        assert not again.changed
        assert again.asset == replace(
            first.asset,
            finished=again.asset.finished,
            declared=again.asset.declared,
            generation=again.asset.generation,
            ingest_generation=again.asset.generation,
        )
        assert system.store.log == []
    forced = await system.ingest(Request(ID, where, force=True))
    assert forced.asset.version > first.asset.version


async def test_a_reingest_serves_the_old_version_until_the_new_one_is_complete(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path)))
    old = await system.asset()
    pictures.jpeg(path, 90, 60, seed=1)
    seen: list[Asset] = []

    async def record(key: str) -> None:
        seen.append(await system.asset())
        assert all_keys(old) <= await system.store.keys()

    system.store.before_put = record
    await system.ingest(Request(ID, str(path)))
    assert {asset.version for asset in seen} == {old.version}
    new = await system.asset()
    assert (new.dimensions, new.thumbnails.open) == ((90, 60), ((90, 60), (50, 33)))
    assert all(key.startswith(keys.prefix(ID, new.version)) for key in await system.store.keys())


async def test_a_failed_ingest_leaves_the_version_before(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path)))
    before, stored = await system.asset(), await system.store.keys()
    pictures.truncated(path, pictures.jpeg(system.pictures / "b.jpg", 600, 500), 0.4)
    with pytest.raises(Unprocessable):
        await system.ingest(Request(ID, str(path)))
    path.unlink()
    with pytest.raises(OriginUnavailable) as gone:
        await system.ingest(Request(ID, str(path)))
    after = await system.asset()
    assert after.generation > before.generation
    assert after == replace(
        before,
        generation=after.generation,
        ingest_generation=after.generation,
        requested=after.requested,
        error=gone.value.public,
        error_code=gone.value.code,
        finished=after.finished,
        declared=after.declared,
    )
    outcomes = [attempt.outcome for attempt in await system.catalog.attempts.of(ID)]
    assert outcomes == ["failed", "failed", "completed"]
    assert await system.store.keys() == stored
    assert system.scratch() == []


async def test_a_first_ingest_that_cannot_be_converted_records_the_reason(
    system: IngestSystem,
) -> None:
    whole = pictures.jpeg(system.pictures / "b.jpg", 600, 500)
    path = pictures.truncated(system.pictures / "a.jpg", whole, 0.4)
    with pytest.raises(Unprocessable):
        await system.ingest(Request(ID, str(path)))
    asset = await system.asset()
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert asset.error
    assert asset.finished is not None
    [attempt] = await system.catalog.attempts.of(ID)
    assert attempt.fault is not None
    assert (attempt.outcome, attempt.fault.stage) == ("failed", "probe")
    assert attempt.fault.detail == asset.error
    assert await system.store.keys() == set()
    shutil.copy(whole, path)
    again = (await system.ingest(Request(ID, str(path)))).asset
    assert (again.state, again.error) == (AssetState.READY, "")
    assert await system.store.keys() == all_keys(again)


async def test_an_origin_over_http_is_ingested(system: IngestSystem, origin: OriginServer) -> None:
    origin.files["/a.jpg"] = pictures.jpeg(system.pictures / "a.jpg", 300, 200).read_bytes()
    origin.redirects["/moved"] = "/a.jpg"
    outcome = await system.ingest(Request(ID, origin.url("/moved")))
    assert outcome.asset.dimensions == (300, 200)
    assert outcome.bytes == len(origin.files["/a.jpg"])


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/status/404", OriginUnavailable),
        ("/truncated", OriginUnavailable),
        ("/html", Unprocessable),
        ("/huge-announced", TooLarge),
        ("/nonsense", Unprocessable),
    ],
)
async def test_an_origin_without_a_picture_leaves_no_objects(
    system: IngestSystem, origin: OriginServer, path: str, error: type[Exception]
) -> None:
    origin.files["/nonsense"] = b"not a picture at all"
    with pytest.raises(error):
        await system.ingest(Request(ID, origin.url(path)))
    asset = await system.asset()
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert asset.error
    assert await system.store.keys() == set()
    assert system.scratch() == []


@pytest.mark.parametrize(
    "request_",
    [
        Request(ID, "/tmp/a.jpg", optimisation_policy="best"),
        Request(ID, "/tmp/a.jpg", thumbnail_policy="museum"),
        Request(ID, "gopher://host/a.jpg"),
        Request(ID, "a.jpg"),
    ],
)
async def test_an_invalid_request_is_refused_and_the_asset_records_the_reason(
    system: IngestSystem, request_: Request
) -> None:
    with pytest.raises(OrchestratorError):
        await system.ingest(request_)
    asset = await system.asset()
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    [attempt] = await system.catalog.attempts.of(ID)
    assert attempt.fault is not None
    assert not attempt.fault.retryable
    assert attempt.fault.stage in {"request", "fetch"}


# --- rights ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "limit", "open_", "auth"),
    [
        (None, None, SIZES, ()),
        (("reader",), None, (), SIZES),
        (("reader",), 0, (), SIZES),
        (("reader",), 100, SIZES[1:], SIZES[:1]),
        ((), 199, SIZES[1:], SIZES[:1]),
        ((), 200, SIZES, ()),
    ],
    ids=["public", "roles alone", "nothing", "as large as", "limit alone", "equal is open"],
)
async def test_thumbnails_are_stored_as_open_or_auth_by_rights(
    system: IngestSystem,
    roles: tuple[str, ...] | None,
    limit: int | None,
    open_: object,
    auth: object,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path), roles=roles, max_unauthorised=limit))
    asset = await system.asset()
    assert (asset.thumbnails.open, asset.thumbnails.auth) == (open_, auth)
    for access, sizes in (("open", asset.thumbnails.open), ("auth", asset.thumbnails.auth)):
        for size in sizes:
            await system.store.head(keys.thumbnail_key(ID, asset.version, access, max(size)))


async def test_a_reingest_of_a_restricted_image_does_not_open_it(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.ingest(Request(ID, str(path), roles=("reader",)))
    pictures.jpeg(path, 300, 200, seed=1)
    await system.ingest(Request(ID, str(path)))
    asset = await system.asset()
    assert asset.roles == ("reader",)
    assert asset.thumbnails == ThumbnailSizes(auth=SIZES)
    assert await system.store.keys() == all_keys(asset, "auth")


async def test_changed_rights_move_the_thumbnails_and_change_the_version(
    system: IngestSystem,
) -> None:
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 300, 200))))
    before = await system.asset()
    closed = await system.pipeline.editor.set_access(ID, roles=("reader",))
    assert closed.version > before.version
    assert closed.source == before.source
    assert await system.store.keys() == all_keys(closed, "auth")
    assert closed.thumbnails_version > before.thumbnails_version
    listed = await system.store.sizes(keys.sizes_key(ID, closed.thumbnails_version))
    assert listed == {"o": [], "a": [list(size) for size in SIZES]}

    await system.pipeline.editor.set_access(ID, max_unauthorised=100)
    half = await system.asset()
    assert half.thumbnails == ThumbnailSizes(open=SIZES[1:], auth=SIZES[:1])

    await system.pipeline.editor.set_access(ID, roles=(), max_unauthorised=-1)
    opened = await system.asset()
    assert not opened.restricted
    assert await system.store.keys() == all_keys(opened)
    await system.pipeline.editor.delete(ID)
    assert await system.store.keys() == set()


async def test_rights_changed_before_the_conversion_decide_where_its_thumbnails_are_stored(
    system: IngestSystem,
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))
    await system.pipeline.editor.set_access(ID, roles=("reader",))
    await system.pipeline.converter.convert(ID)
    asset = await system.asset()
    assert asset.thumbnails == ThumbnailSizes(auth=SIZES)
    assert await system.store.keys() == all_keys(asset, "auth")


@pytest.mark.parametrize("moment", ["open/200.jpg", "s.json"])
async def test_rights_changed_during_conversion_win(system: IngestSystem, moment: str) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 300, 200))

    async def restrict(key: str) -> None:
        if key.endswith(moment):
            system.store.before_put = None
            await system.pipeline.editor.set_access(ID, roles=("reader",))

    system.store.before_put = restrict
    assert await system.pipeline.converter.convert(ID) is None
    assert await system.store.keys() == set()
    assert await system.pipeline.converter.convert(ID) is not None
    assert (await system.asset()).thumbnails == ThumbnailSizes(auth=SIZES)


# --- afterwards --------------------------------------------------------------------------------


async def test_a_deleted_asset_leaves_only_its_file_in_place(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.register(path)
    await system.pipeline.converter.convert(ID)
    await system.pipeline.editor.delete(ID)
    assert await system.catalog.assets.get(ID) is None
    assert await system.store.keys() == set()
    assert path.exists()
    with pytest.raises(AssetNotFound):
        await system.pipeline.editor.delete(ID)
    with pytest.raises(AssetNotFound):
        await system.pipeline.editor.set_access(ID, roles=())
    with pytest.raises(AssetNotFound):
        await system.pipeline.reingester.reingest(ID)


async def test_a_file_replaced_in_place_is_registered_again_by_a_refresh(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    before = await system.register(path)
    pictures.jpeg(path, 150, 150, seed=1)
    now = await system.pipeline.reingester.refresh_source(before)
    assert now.version > before.version
    assert now.dimensions == (150, 150)
    assert await system.pipeline.reingester.refresh_source(before) == now


async def test_a_refresh_reports_a_deleted_file(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    asset = await system.register(path)
    path.unlink()
    with pytest.raises(OriginUnavailable, match="no such file"):
        await system.pipeline.reingester.refresh_source(asset)


async def test_a_source_lost_from_the_store_is_replaced_by_its_local_original(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    await system.register(path)
    await system.pipeline.converter.convert(ID)
    asset = await system.asset()
    assert await system.pipeline.reingester.refresh_source(asset) == asset
    await system.store.delete([keys.source_key(ID, asset.thumbnails_version, "tif")])
    now = await system.pipeline.reingester.refresh_source(asset)
    assert (now.state, now.version > asset.version) == (AssetState.REGISTERED, True)
    assert now.source is not None
    assert now.source.location == f"file://{path}"


async def test_a_source_lost_from_the_store_with_a_remote_origin_says_what_to_do(
    system: IngestSystem, origin: OriginServer
) -> None:
    origin.files["/a.jpg"] = pictures.jpeg(system.pictures / "a.jpg", 300, 200).read_bytes()
    asset = (await system.ingest(Request(ID, origin.url("/a.jpg")))).asset
    await system.store.delete([keys.source_key(ID, asset.thumbnails_version, "tif")])
    with pytest.raises(SourceChanged, match="Ingest the asset again"):
        await system.pipeline.reingester.refresh_source(asset)
    assert (await system.asset()).state is AssetState.FAILED
    assert (await system.pipeline.reingester.reingest(ID)).asset.state is AssetState.READY
    assert await system.store.keys() == all_keys(await system.asset())


async def test_a_reingest_makes_all_objects_again(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 300, 200)
    first = (await system.ingest(Request(ID, str(path)))).asset
    second = (await system.pipeline.reingester.reingest(ID)).asset
    assert second.version > first.version
    assert await system.store.keys() == all_keys(second)


async def test_a_reingest_of_a_file_in_place_leaves_it_in_place(system: IngestSystem) -> None:
    path = pictures.jp2_tiled(system.pictures / "a.jp2", 300, 200)
    await system.register(path)
    await system.pipeline.converter.convert(ID)
    system.store.log.clear()
    asset = (await system.pipeline.reingester.reingest(ID)).asset
    assert asset.source is not None
    assert asset.source.location == f"file://{path}"
    assert asset.state is AssetState.READY
    assert len(system.store.written) == 4
    assert await system.store.keys() == all_keys(asset)


async def test_concurrent_ingests_of_one_asset_end_in_one_version(system: IngestSystem) -> None:
    paths = [pictures.jpeg(system.pictures / f"{n}.jpg", 100 + n, 80, seed=n) for n in range(4)]
    outcomes = await asyncio.gather(
        *(system.ingest(Request(ID, str(path))) for path in paths), return_exceptions=True
    )
    asset = await system.asset()
    [published] = [outcome for outcome in outcomes if not isinstance(outcome, Superseded)]
    assert published == Outcome(asset, changed=True, bytes=published.bytes)
    assert asset.state is AssetState.READY
    assert all(key.startswith(keys.prefix(ID, asset.version)) for key in await system.store.keys())
    assert system.scratch() == []
