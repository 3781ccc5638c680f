"""What cannot become a pyramid, and the notes in the process bucket."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrator.catalog.jobs import LANES
from orchestrator.ingest.events.event_acceptance import KINDS
from orchestrator.ingest.events.pyramid_scan import ScanItem, Selection
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId
from orchestrator.processes.pyramid_run import require_pyramids
from tests.integration.events.conftest import PyramidSystem, jpeg, png
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def import_notes(system: PyramidSystem) -> list[ScanItem]:
    scan = require_pyramids(system.house.services).scan
    return [item async for item in scan.import_notes()]


async def rerun(system: PyramidSystem, prefix: str, *, force: bool = False) -> list[ScanItem]:
    scan = require_pyramids(system.house.services).scan
    selection = Selection((prefix,), force=force)
    return [item async for item in scan.rerun(selection, dry_run=False)]


def notes(system: PyramidSystem) -> list[dict[str, str]]:
    bucket = system.buckets.process
    return [
        json.loads(system.buckets.read(bucket, key) or b"")
        for key in system.buckets.list_keys(bucket)
    ]


def clear_notes(system: PyramidSystem) -> None:
    for key in system.buckets.list_keys(system.buckets.process):
        system.buckets.delete(key, system.buckets.process)


async def test_a_bad_image_fails_with_its_reason_and_delays_no_other(
    system: PyramidSystem,
) -> None:
    await system.put("bad/junk.jpg", b"this is not a picture")
    await system.put("bad/cut.jpg", jpeg(900, 700)[:4000])
    await system.put("bad/missing.jpg", jpeg())
    system.buckets.delete("bad/missing.jpg")
    await system.put("bad/good.jpg", jpeg())
    report = await system.run()
    assert (report.attempted, report.done) == (4, 1)
    assert report.failed.keys() == {"convert", "fetch"}
    reasons = {each["key"]: each["code"] for each in report.failures}
    assert reasons.pop("bad/cut.jpg") == "damaged"
    assert reasons == {"bad/junk.jpg": "not_an_image", "bad/missing.jpg": "origin_not_found"}
    for key in ("bad/junk.jpg", "bad/cut.jpg", "bad/missing.jpg"):
        source = await system.source(key)
        assert source.state == "failed"
        assert source.fault is not None
        assert source.fault.detail.endswith(".")
        job = await system.house.services.catalog.jobs.get(source.job)
        assert job is not None
        assert (job.state, job.kind, job.fault) == ("failed", "pyramid", source.fault)
    assert system.buckets.list_keys(prefix="bad/") == ["bad/good.tif"]
    clear_notes(system)


async def test_a_note_is_written_for_an_event_and_deleted_with_its_pyramid(
    system: PyramidSystem,
) -> None:
    etag = await system.put("noted/in/1.jpg", jpeg())
    await system.put("noted/bad.jpg", b"junk, not a picture")
    wanted = {"key": "noted/in/1.jpg", "eTag": etag, "path": "noted/in/"}
    assert wanted in notes(system)
    assert len(notes(system)) == 2
    await system.run()
    assert [note["key"] for note in notes(system)] == ["noted/bad.jpg"], "kept: it failed"
    items = await import_notes(system)
    assert [item.outcome for item in items] == ["failed"]
    assert "not an image" in items[0].reason.lower() or items[0].reason.endswith(".")
    clear_notes(system)


async def test_notes_of_the_replaced_system_are_imported(system: PyramidSystem) -> None:
    etag = system.buckets.put("old/a/1.jpg", jpeg())
    system.buckets.put("old/b/1.jpg", png())
    system.buckets.put("old/c.jpg", jpeg(300, 200))
    process = system.buckets.process
    written = {
        "rbsc/1.json": {"key": "old/a/1.jpg", "path": "old/a/", "eTag": etag},
        "rbsc/1b.json": {"key": "old/b/1.jpg", "path": "old/b/"},
        "rbsc/c.json": {"key": "old/c.jpg", "path": "old/", "copyrightStatus": "Copyright"},
        "rbsc/none.json": {"key": "old/none.jpg", "path": "old/"},
    }
    for key, note in written.items():
        system.buckets.put(key, json.dumps(note).encode(), process)
    system.buckets.put("rbsc/broken.json", b"{ key: 'a' }", process)
    items = {item.key: item.outcome for item in await import_notes(system)}
    assert items == {
        "rbsc/1.json": "queued",
        "rbsc/1b.json": "queued",
        "rbsc/c.json": "queued",
        "rbsc/none.json": "failed",
        "rbsc/broken.json": "failed",
    }
    again = {item.key: item.outcome for item in await import_notes(system)}
    assert again["rbsc/1.json"] == "waiting"
    assert (await system.run()).done == 3
    assert system.buckets.list_keys(process) == ["rbsc/broken.json", "rbsc/none.json"]
    assert system.buckets.list_keys(prefix="old/") == ["old/a/1.tif", "old/b/1.tif", "old/c.tif"]
    limited = await system.asset("old/c")
    assert limited is not None
    assert (limited.width, limited.height) == (120, 80), "under copyright"
    system.buckets.put("rbsc/1.json", json.dumps(written["rbsc/1.json"]).encode(), process)
    [done] = [item for item in await import_notes(system) if item.key == "rbsc/1.json"]
    assert done.outcome == "done"
    assert "rbsc/1.json" not in system.buckets.list_keys(process)
    clear_notes(system)


async def test_what_is_known_to_be_under_copyright_stays_so(system: PyramidSystem) -> None:
    system.buckets.put("right/1.jpg", jpeg(300, 200))
    note = {"key": "right/1.jpg", "copyrightStatus": "copyright"}
    system.buckets.put("rbsc/r.json", json.dumps(note).encode(), system.buckets.process)
    await import_notes(system)
    await system.run()
    await system.put("right/1.jpg", jpeg(600, 400))
    await system.run()
    asset = await system.asset("right/1")
    assert asset is not None
    assert (asset.width, asset.height) == (120, 80)
    clear_notes(system)


async def test_a_rerun_queues_what_is_new_and_what_failed(system: PyramidSystem) -> None:
    await system.put("again/done.jpg", jpeg())
    await system.put("again/failed.jpg", b"junk, not a picture")
    await system.run()
    system.buckets.put("again/failed.jpg", jpeg())
    system.buckets.put("again/unknown.PNG", png())
    system.buckets.put("again/text.txt", b"text")
    items = {item.key: item.outcome for item in await rerun(system, "again/")}
    assert items == {
        "again/done.jpg": "done",
        "again/failed.jpg": "queued",
        "again/unknown.PNG": "queued",
    }
    assert (await system.run()).done == 2
    forced = await rerun(system, "again/", force=True)
    assert {item.outcome for item in forced} == {"queued"}
    assert (await system.run()).done == 3
    clear_notes(system)


async def test_sources_are_listed_in_pages_by_key_and_state(system: PyramidSystem) -> None:
    keys = [f"page/{number}.jpg" for number in range(5)]
    for key in keys:
        await system.put(key, b"junk, not a picture")
    await system.run()
    pyramids, listed = system.house.services.catalog.pyramids, []
    after = None
    while page := await pyramids.page(2, after=after, prefix="page/", states=["failed"]):
        listed += [each.source.key for each in page]
        after = page[-1].source
    assert listed == keys
    assert await pyramids.page(9, prefix="page/", states=["done"]) == []
    clear_notes(system)


async def test_a_retried_failure_waits_again(system: PyramidSystem) -> None:
    await system.put("retry/1.jpg", b"junk, not a picture")
    await system.run()
    source = await system.source("retry/1.jpg")
    system.buckets.put("retry/1.jpg", jpeg())
    await system.house.services.catalog.retries.retry_job(source.job)
    assert (await system.source("retry/1.jpg")).state == "queued"
    assert (await system.run()).done == 1
    after = await system.source("retry/1.jpg")
    assert (after.state, after.fault, after.pyramids) == ("done", None, 1)
    clear_notes(system)


async def test_a_cancelled_job_counts_as_failed_and_can_be_run_again(
    system: PyramidSystem,
) -> None:
    await system.put("cancel/1.jpg", jpeg())
    catalog = system.house.services.catalog
    await catalog.cancellations.cancel_job((await system.source("cancel/1.jpg")).job)
    source = await system.source("cancel/1.jpg")
    assert source.state == "failed"
    assert source.fault is not None
    assert source.fault.code == "cancelled"
    await catalog.retries.retry_job(source.job)
    assert (await system.source("cancel/1.jpg")).state == "queued"
    assert (await system.run()).done == 1
    clear_notes(system)


async def test_an_asset_of_another_origin_is_not_replaced(system: PyramidSystem) -> None:
    runner = system.house.services.pipeline.runner
    await runner.ingest(Request(AssetId(1, 1, "taken/1"), system.house.picture()))
    await system.put("taken/1.jpg", jpeg())
    report = await system.run()
    assert [each["code"] for each in report.failures] == ["conflict"]
    assert system.buckets.list_keys(prefix="taken/") == []
    await system.house.services.pipeline.editor.delete(AssetId(1, 1, "taken/1"))
    await rerun(system, "taken/")
    assert (await system.run()).done == 1
    clear_notes(system)


async def test_a_picture_that_waits_for_a_dead_process_is_made(system: PyramidSystem) -> None:
    """A process of another data directory was killed while it made the pyramid of the first
    version, and its lease ends during the run. The second version waits for it.
    """
    await system.put("dead/1.jpg", jpeg())
    catalog, lease_s = system.house.services.catalog, system.house.services.settings.jobs.lease_s
    job = await catalog.claims.claim("killed:1:name/1", KINDS, LANES, 9)
    assert job is not None
    await catalog.claims.heartbeat([job])
    async with catalog.transaction() as connection:
        await connection.execute(
            "UPDATE jobs SET heartbeat = heartbeat - make_interval(secs => $1) WHERE id = $2",
            lease_s - 2,
            job.id,
        )
    await system.put("dead/1.jpg", jpeg(210, 100))
    async with asyncio.timeout(40 * patience()):
        report = await system.run()
    assert (report.attempted, report.done) == (1, 1)
    asset = await system.asset("dead/1")
    assert asset is not None
    assert asset.dimensions == (210, 100)
    clear_notes(system)
