"""A bulk job that is interrupted at any moment: it goes on behind its last change, counts each
asset once, and changes nothing after its claim is lost or after a later request.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.catalog.asset_edits import AssetChange, AssetEdits
from orchestrator.catalog.asset_selection import Selection
from orchestrator.catalog.asset_transaction import next_generation
from orchestrator.catalog.bulk_jobs import BULK
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.errors import AssetNotFound, Superseded
from orchestrator.ingest.bulk_changes import BulkProgress, BulkWork
from orchestrator.ingest.bulk_handler import BulkHandler
from orchestrator.ingest.payload.fields import Metadata
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import Asset, AssetId
from tests.integration.catalog.test_assets import a_draft

NUMBER = 12


class Editor:
    """Changes assets by the repository alone: there is nothing in a store. Ends like a killed
    process in the change of the asset `dies_at`, before or after its commit.
    """

    def __init__(self, edits: AssetEdits, dies_at: str = "", *, has_committed: bool = False):
        self.edits = edits
        self.dies_at = dies_at
        self.has_committed = has_committed

    async def change(self, asset_id, change_of, check=None, record=None) -> Asset:
        if asset_id.name == self.dies_at and not self.has_committed:
            raise KeyboardInterrupt
        changed = await self.edits.change(
            asset_id, AssetChange(tags=("new",)), check=check, record=record
        )
        if asset_id.name == self.dies_at:
            raise KeyboardInterrupt
        return changed

    async def delete(self, asset_id, check=None, record=None) -> None:
        if await self.edits.delete(asset_id, check, record) is None:
            raise AssetNotFound("gone")


async def submit(catalog: Catalog, action: str = "patch") -> int:
    await catalog.customers.ensure(1, "main")
    for n in range(NUMBER):
        await catalog.versions.register(a_draft(f"p{n:02d}"))
    change = Metadata(tags="new") if action == "patch" else None
    work = BulkWork(action, Selection(customer=1), change)  # type: ignore[arg-type]
    async with catalog.transaction() as connection:
        draft = JobDraft(BULK, work.encode(), 1, generation=await next_generation(connection))
        return (await catalog.jobs.record(connection, [draft])).ids[0]


async def claim(catalog: Catalog, worker: str = "w/1") -> Job:
    job = await catalog.claims.claim(worker, [BULK], ["normal"], 1)
    assert job is not None
    return job


def handler(catalog: Catalog, editor: Editor) -> BulkHandler:
    return BulkHandler(
        selections=catalog.selections,
        bulk_jobs=catalog.bulk_jobs,
        editor=editor,  # type: ignore[arg-type]
        submitter=Submitter(catalog),
        notify_batches=False,
    )


async def progress_of(catalog: Catalog, number: int) -> BulkProgress:
    job = await catalog.jobs.get(number)
    assert job is not None
    assert job.progress is not None
    return BulkProgress.decode(job.progress)


@pytest.mark.parametrize("has_committed", [False, True])
async def test_a_job_whose_worker_was_killed_goes_on_and_counts_each_asset_once(
    catalog: Catalog, has_committed: bool
):
    number = await submit(catalog)
    editor = Editor(catalog.edits, "p05", has_committed=has_committed)
    with pytest.raises(KeyboardInterrupt):
        await handler(catalog, editor)(await claim(catalog))
    assert (await progress_of(catalog, number)).changed == 5 + has_committed
    [requeued] = (await catalog.claims.recover_from(["w"], 5)).requeued
    assert requeued == number
    generations = {a.id: a.generation for a in await catalog.assets.page(limit=NUMBER)}

    await handler(catalog, Editor(catalog.edits))(await claim(catalog, "v/1"))
    progress = await progress_of(catalog, number)
    assert (progress.total, progress.changed, progress.done) == (NUMBER, NUMBER, NUMBER)
    for asset in await catalog.assets.page(limit=NUMBER):
        assert asset.tags == ("new",)
        again = asset.generation != generations[asset.id]
        assert again is (int(asset.id.name[1:]) >= 5 + has_committed)


async def test_a_later_request_for_an_asset_is_not_undone(catalog: Catalog):
    number = await submit(catalog)
    later = AssetId(1, 1, "p03")
    await catalog.edits.change(later, AssetChange(tags=("later",)))
    await catalog.edits.delete(AssetId(1, 1, "p04"))
    await catalog.versions.register(a_draft("p04"))
    await catalog.versions.register(a_draft("p99"))
    await handler(catalog, Editor(catalog.edits))(await claim(catalog))
    progress = await progress_of(catalog, number)
    assert (progress.changed, progress.superseded) == (NUMBER - 2, 3)
    known = await catalog.assets.get_many([later, AssetId(1, 1, "p04"), AssetId(1, 1, "p99")])
    assert known[later].tags == ("later",)
    assert {asset.tags for each, asset in known.items() if each != later} == {()}


@pytest.mark.parametrize("action", ["patch", "delete", "reingest"])
async def test_a_cancelled_job_changes_nothing_more(catalog: Catalog, action: str):
    number = await submit(catalog, action)
    job = await claim(catalog)
    await catalog.bulk_jobs.record_progress(job, BulkProgress(NUMBER).encode())
    await catalog.cancellations.cancel_job(number)
    before = await catalog.assets.page(limit=NUMBER + 1)
    with pytest.raises(Superseded):
        await handler(catalog, Editor(catalog.edits))(
            replace(job, progress=BulkProgress(NUMBER).encode())
        )
    assert await catalog.assets.page(limit=NUMBER + 1) == before
    assert (await progress_of(catalog, number)).done == 0
    again = await catalog.retries.retry_job(number)
    assert again.state == "queued"
    await handler(catalog, Editor(catalog.edits))(await claim(catalog))
    assert (await progress_of(catalog, number)).changed == NUMBER
