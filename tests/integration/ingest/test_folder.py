"""Registration of the pictures of a folder in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.ingest.folder import FolderRegistrar, FolderReport
from orchestrator.ingest.folder_listing import HIDDEN, NOT_A_PICTURE
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


def a_registrar(house: House) -> FolderRegistrar:
    return FolderRegistrar(house.catalog.assets, house.pipeline.registrar, house.pipeline.policies)


async def register(house: House, reports: list[tuple[int, int]] | None = None) -> FolderReport:
    progress = None if reports is None else lambda done, total: reports.append((done, total))
    return await a_registrar(house).register(house.pictures, progress)


async def names(house: House) -> list[str]:
    return [str(asset.id) for asset in await house.catalog.assets.page(None, 100)]


async def test_every_picture_is_registered_under_its_name_and_can_be_served(house: House) -> None:
    (house.pictures / "sub").mkdir()
    for path in ("b.jpg", "a.jpg", "a.png", "sub/c.tif"):
        {"jpg": pictures.jpeg, "png": pictures.png, "tif": pictures.tiff}[path[-3:]](
            house.pictures / path, 60, 40
        )
    (house.pictures / "notes.txt").write_text("no picture")
    (house.pictures / ".DS_Store").write_text("hidden")
    reports: list[tuple[int, int]] = []
    report = await register(house, reports)
    assert await names(house) == ["1/1/a.jpg", "1/1/a.png", "1/1/b", "1/1/sub%2Fc"]
    assert (report.pictures, report.registered, report.failed) == (4, 4, {})
    assert report.skipped == {HIDDEN: 1, NOT_A_PICTURE: 1}
    assert reports[-1] == (4, 4)
    for asset in await house.catalog.assets.page(None, 100):
        assert (asset.state, asset.dimensions) == (AssetState.REGISTERED, (60, 40))
        assert asset.optimisation_policy == "fastest"


async def test_a_second_registration_registers_new_and_changed_files_and_reports_deleted_ones(
    house: House,
) -> None:
    for name in ("kept", "changed", "gone"):
        pictures.jpeg(house.pictures / f"{name}.jpg", 60, 40)
    await register(house)
    await house.pipeline.converter.convert(AssetId(1, 1, "kept"))
    before = {asset.id.name: asset for asset in await house.catalog.assets.page(None, 100)}
    pictures.jpeg(house.pictures / "changed.jpg", 90, 50)
    pictures.jpeg(house.pictures / "new.jpg", 60, 40)
    (house.pictures / "gone.jpg").unlink()

    report = await register(house)

    after = {asset.id.name: asset for asset in await house.catalog.assets.page(None, 100)}
    assert (report.registered, report.unchanged) == (2, 1)
    assert report.vanished == [AssetId(1, 1, "gone")]
    assert after["kept"] == before["kept"]
    assert after["gone"] == before["gone"]
    assert after["changed"].version > before["changed"].version
    assert after["changed"].dimensions == (90, 50)


async def test_a_broken_picture_is_reported_and_the_others_are_registered(house: House) -> None:
    for n in range(20):
        pictures.jpeg(house.pictures / f"{n}.jpg", 60, 40, seed=n)
    pictures.png_bomb(house.pictures / "bomb.png")
    (house.pictures / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    report = await register(house)
    assert report.registered == 20
    assert set(report.failed) == {AssetId(1, 1, "bomb"), AssetId(1, 1, "torn")}
    assert "pixels" in report.failed[AssetId(1, 1, "bomb")]


async def test_names_with_percent_signs_and_other_alphabets_stay_different(
    house: House,
) -> None:
    for name in ("100%", "a%2Fb", "übermaß", "日本 語", "a+b&c=d"):
        pictures.png(house.pictures / f"{name}.png", 30, 20)
    (house.pictures / "a").mkdir()
    pictures.png(house.pictures / "a" / "b.png", 30, 20)
    report = await register(house)
    assert report.registered == 6
    for asset in await house.catalog.assets.page(None, 100):
        assert AssetId.parse(str(asset.id)) == asset.id
        converted = await house.pipeline.converter.convert(asset.id)
        assert converted is not None
        assert converted.state is AssetState.READY


async def test_a_path_that_is_not_a_folder_is_refused(house: House) -> None:
    folder = a_registrar(house)
    with pytest.raises(InvalidInput):
        await folder.register(Path("/no/such/folder"))
    pictures.png(house.pictures / "a.png", 30, 20)
    with pytest.raises(InvalidInput):
        await folder.register(house.pictures / "a.png")
