"""Versions made again by the workers of a running installation."""

from __future__ import annotations

import pytest

from orchestrator.uploads.picture_keys import PictureKey
from tests.integration.uploads.conftest import UploadSite, jpeg, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_makes_missing_versions_again(site: UploadSite) -> None:
    filename = await site.published(jpeg(), crop="200x100+10+20")
    version = filename.replace(".jpg", "MI.jpg")
    row = await site.row(filename)
    assert row is not None
    resizer = site.services.resizer
    assert await resizer.submit([filename]) == 1
    await site.services.stores.active.delete([version])
    assert await resizer.missing(PictureKey.parse_original(filename)) == [version]
    assert await resizer.submit([filename, "1_1.jpg"]) == 2  # one of them was deleted

    async def is_there() -> bool:
        return version in await site.keys("active", filename)

    await until(is_there)
    again = await site.row(filename)
    assert again is not None
    assert again.crop == row.crop == (10, 20, 200, 100)
    assert await until(lambda: resizer.is_current(filename))
    assert not await resizer.resize(filename)
    assert await resizer.resize(filename, force=True)
