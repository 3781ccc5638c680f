"""A folder of ordinary files as a store of pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import (
    InvalidInput,
    ObjectNotFound,
    PreconditionFailed,
    StorageUnavailable,
)
from orchestrator.storage.picture_folder import PictureFolder


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    return PictureFolder(tmp_path)


async def keys(folder: PictureFolder, prefix: str = "") -> list[str]:
    return sorted([info.key async for info in folder.list(prefix)])


async def read(folder: PictureFolder, key: str, **options: str) -> bytes:
    async with folder.open(key, **options) as stream:
        return await stream.read()


async def test_a_file_that_a_person_puts_there_is_an_object(
    folder: PictureFolder, tmp_path: Path
) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ä.jpg").write_bytes(b"bytes")
    info = await folder.head("a b/ä.jpg")
    assert (info.bytes, info.metadata) == (5, {})
    assert await read(folder, "a b/ä.jpg") == b"bytes"
    assert await folder.local_path("a b/ä.jpg") == tmp_path / "a b" / "ä.jpg"


async def test_what_is_stored_is_a_plain_file_with_its_metadata(
    folder: PictureFolder, tmp_path: Path
) -> None:
    await folder.put("d/a.jpg", b"one", media_type="image/jpeg", metadata={"etag": '"x"'})
    assert (tmp_path / "d" / "a.jpg").read_bytes() == b"one"
    info = await folder.head("d/a.jpg")
    assert (info.media_type, info.metadata) == ("image/jpeg", {"etag": '"x"'})
    assert await keys(folder) == ["d/a.jpg"]


async def test_metadata_is_not_that_of_another_version_of_the_file(
    folder: PictureFolder, tmp_path: Path
) -> None:
    await folder.put("a.jpg", b"one", metadata={"etag": '"x"'})
    (tmp_path / "a.jpg").write_bytes(b"other bytes")
    assert (await folder.head("a.jpg")).metadata == {}


async def test_the_etag_changes_with_the_file(folder: PictureFolder, tmp_path: Path) -> None:
    before = (await folder.put("a.jpg", b"one")).etag
    (tmp_path / "a.jpg").write_bytes(b"two!")
    after = (await folder.head("a.jpg")).etag
    assert before != after
    assert await read(folder, "a.jpg", if_match=after) == b"two!"
    with pytest.raises(PreconditionFailed):
        await read(folder, "a.jpg", if_match=before)


@pytest.mark.parametrize("key", ["a/../b", "/etc/passwd", "", "a//b", "a\0", "a/", "x" * 1025])
async def test_a_key_cannot_leave_the_folder(folder: PictureFolder, key: str) -> None:
    with pytest.raises(InvalidInput):
        await folder.head(key)


@pytest.mark.parametrize("key", [".env", ".git/config", "a/.b.json"])
async def test_names_that_begin_with_a_dot_are_no_objects(
    folder: PictureFolder, tmp_path: Path, key: str
) -> None:
    path = tmp_path / key
    path.parent.mkdir(exist_ok=True)
    path.write_text("secret")
    with pytest.raises(ObjectNotFound):
        await folder.head(key)
    assert await keys(folder) == []


async def test_only_regular_files_are_objects(folder: PictureFolder, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for key in ("folder", "pipe", "missing", "missing/a"):
        with pytest.raises(ObjectNotFound):
            await folder.head(key)
        with pytest.raises(ObjectNotFound):
            await read(folder, key)


async def test_a_folder_that_does_not_exist_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        await PictureFolder(tmp_path / "not-mounted").head("a.jpg")


async def test_deleting_removes_the_file_its_record_and_an_empty_folder(
    folder: PictureFolder, tmp_path: Path
) -> None:
    await folder.put("d/width=5/a.jpg", b"one", metadata={"etag": '"x"'})
    await folder.put("d/b.jpg", b"two")
    await folder.delete(["d/width=5/a.jpg", "d/missing.jpg", "e/missing.jpg"])
    assert not (tmp_path / "d" / "width=5").exists()
    assert await keys(folder) == ["d/b.jpg"]


async def test_a_listing_has_the_keys_with_the_prefix(folder: PictureFolder) -> None:
    for key in ("a.jpg", "d/a.jpg", "d/e/a.jpg", "da.jpg"):
        await folder.put(key, b"x")
    assert await keys(folder, "d/") == ["d/a.jpg", "d/e/a.jpg"]
    assert await keys(folder, "d") == ["d/a.jpg", "d/e/a.jpg", "da.jpg"]
    assert await keys(folder, "missing/") == []


async def test_a_file_in_place_of_a_folder_is_an_error_of_the_store(
    folder: PictureFolder,
) -> None:
    await folder.put("a.jpg", b"x")
    with pytest.raises((StorageUnavailable, ObjectNotFound)):
        await folder.put("a.jpg/b.jpg", b"x")
