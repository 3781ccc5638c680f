"""An origin that is used as the source is the same file that the thumbnails were made of."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from orchestrator.catalog.asset_transaction import lock_asset
from orchestrator.errors import PreconditionFailed, SourceChanged
from orchestrator.ingest.register import Request
from orchestrator.model import FILE, Asset, AssetId, AssetState
from orchestrator.origins.strategy_input import StrategyInput
from tests.support import pictures
from tests.support.ingesting import IngestSystem
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")


async def an_optimised_file(system: IngestSystem) -> Path:
    await system.catalog.customers.ensure(1, "main")
    await system.origins.strategies.create(1, StrategyInput("a.jpg", "file", optimised=True))
    return pictures.jpeg(system.pictures / "a.jpg", 90, 60)


async def test_an_optimised_file_is_served_in_place(system: IngestSystem) -> None:
    path = await an_optimised_file(system)
    asset = (await system.ingest(Request(ID, str(path)))).asset
    assert asset.source is not None
    assert asset.source.location == f"{FILE}{path}"
    assert asset.source.fingerprint == asset.origin_fingerprint


async def test_a_file_replaced_during_its_ingest_by_one_of_the_same_length_is_not_published(
    system: IngestSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await an_optimised_file(system)
    imaging = system.imaging
    make = imaging.thumbnails

    async def replace_meanwhile(*args: object) -> object:
        made = await make(*args)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        os.utime(path, (1, 1))
        return made

    monkeypatch.setattr(imaging, "thumbnails", replace_meanwhile)
    with pytest.raises(SourceChanged):
        await system.ingest(Request(ID, str(path)))
    assert (await system.asset()).state is AssetState.FAILED
    assert await system.store.keys() == set()


@pytest.mark.parametrize("is_replaced", [False, True], ids=["same", "replaced"])
async def test_a_reingest_of_a_file_is_accepted_only_while_its_condition_holds(
    system: IngestSystem, is_replaced: bool
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    before = await system.register(path)
    if is_replaced:
        pictures.jpeg(path, 100, 60)

    def check(asset: Asset | None) -> None:
        if asset is None or asset.version != before.version:
            raise PreconditionFailed("The asset was changed.")

    async with asyncio.timeout(60 * patience()):
        async with system.catalog.transaction() as connection:
            await lock_asset(connection, ID)
            reingest = asyncio.create_task(system.pipeline.reingester.reingest(ID, check))
            # It has passed the check on arrival, and waits to be accepted.
            while not await system.count_waiting():
                assert not reingest.done() or reingest.result()
                await asyncio.sleep(0.01)
            await connection.execute(
                "UPDATE assets SET version = nextval('asset_versions'), roles = '{secret}'"
            )
        with pytest.raises(PreconditionFailed):
            await reingest
    after = await system.asset()
    assert (after.roles, after.width, after.state) == (("secret",), 90, AssetState.REGISTERED)
