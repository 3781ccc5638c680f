"""Registration of the pictures of a folder in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.ingest.folder import FolderRegistrar, FolderReport
from orchestrator.ingest.folder_listing import HIDDEN, NOT_A_PICTURE
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem

pytestmark = pytest.mark.asyncio(loop_scope="session")


def a_registrar(system: IngestSystem) -> FolderRegistrar:
    return FolderRegistrar(
        system.catalog.assets, system.pipeline.registrar, system.pipeline.policies
    )


async def register(
    system: IngestSystem, reports: list[tuple[int, int]] | None = None
) -> FolderReport:
    progress = None if reports is None else lambda done, total: reports.append((done, total))
    return await a_registrar(system).register(system.pictures, progress)


async def names(system: IngestSystem) -> list[str]:
    return [str(asset.id) for asset in await system.catalog.assets.page(None, 100)]


async def test_every_picture_is_registered_under_its_name_and_can_be_served(
    system: IngestSystem,
) -> None:
    (system.pictures / "sub").mkdir()
    for path in ("b.jpg", "a.jpg", "a.png", "sub/c.tif"):
        {"jpg": pictures.jpeg, "png": pictures.png, "tif": pictures.tiff}[path[-3:]](
            system.pictures / path, 60, 40
        )
    (system.pictures / "notes.txt").write_text("no picture")
    (system.pictures / ".DS_Store").write_text("hidden")
    reports: list[tuple[int, int]] = []
    report = await register(system, reports)
    assert await names(system) == ["1/1/a.jpg", "1/1/a.png", "1/1/b", "1/1/sub%2Fc"]
    assert (report.pictures, report.registered, report.failed) == (4, 4, {})
    assert report.skipped == {HIDDEN: 1, NOT_A_PICTURE: 1}
    assert reports[-1] == (4, 4)
    for asset in await system.catalog.assets.page(None, 100):
        assert (asset.state, asset.dimensions) == (AssetState.REGISTERED, (60, 40))
        assert asset.optimisation_policy == "fastest"


async def test_a_second_registration_registers_new_and_changed_files_and_reports_deleted_ones(
    system: IngestSystem,
) -> None:
    for name in ("kept", "changed", "gone"):
        pictures.jpeg(system.pictures / f"{name}.jpg", 60, 40)
    await register(system)
    await system.pipeline.converter.convert(AssetId(1, 1, "kept"))
    before = {asset.id.name: asset for asset in await system.catalog.assets.page(None, 100)}
    pictures.jpeg(system.pictures / "changed.jpg", 90, 50)
    pictures.jpeg(system.pictures / "new.jpg", 60, 40)
    (system.pictures / "gone.jpg").unlink()

    report = await register(system)

    after = {asset.id.name: asset for asset in await system.catalog.assets.page(None, 100)}
    assert (report.registered, report.unchanged) == (2, 1)
    assert report.vanished == [AssetId(1, 1, "gone")]
    assert after["kept"] == before["kept"]
    assert after["gone"] == before["gone"]
    assert after["changed"].version > before["changed"].version
    assert after["changed"].dimensions == (90, 50)


async def test_a_broken_picture_is_reported_and_the_others_are_registered(
    system: IngestSystem,
) -> None:
    for n in range(20):
        pictures.jpeg(system.pictures / f"{n}.jpg", 60, 40, seed=n)
    pictures.png_bomb(system.pictures / "bomb.png")
    (system.pictures / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    report = await register(system)
    assert report.registered == 20
    assert set(report.failed) == {AssetId(1, 1, "bomb"), AssetId(1, 1, "torn")}
    assert "pixels" in report.failed[AssetId(1, 1, "bomb")]


async def test_names_with_percent_signs_and_other_alphabets_stay_different(
    system: IngestSystem,
) -> None:
    for name in ("100%", "a%2Fb", "übermaß", "日本 語", "a+b&c=d"):
        pictures.png(system.pictures / f"{name}.png", 30, 20)
    (system.pictures / "a").mkdir()
    pictures.png(system.pictures / "a" / "b.png", 30, 20)
    report = await register(system)
    assert report.registered == 6
    for asset in await system.catalog.assets.page(None, 100):
        assert AssetId.parse(str(asset.id)) == asset.id
        converted = await system.pipeline.converter.convert(asset.id)
        assert converted is not None
        assert converted.state is AssetState.READY


async def test_a_path_that_is_not_a_folder_is_refused(system: IngestSystem) -> None:
    folder = a_registrar(system)
    with pytest.raises(InvalidInput):
        await folder.register(Path("/no/such/folder"))
    pictures.png(system.pictures / "a.png", 30, 20)
    with pytest.raises(InvalidInput):
        await folder.register(system.pictures / "a.png")
