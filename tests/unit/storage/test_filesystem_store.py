"""The store in a folder: files read in place, leftovers of killed writers, damaged files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.errors import ObjectNotFound, StorageUnavailable
from orchestrator.storage.filesystem_store import FilesystemStore
from orchestrator.storage.object_folder import ObjectFolder
from orchestrator.storage.object_records import Condition
from orchestrator.storage.object_writer import ObjectWriter
from orchestrator.storage.store import LocalFiles, ObjectStore, read

KILLED_WRITER = """
import os, sys
from pathlib import Path
from orchestrator.storage.object_folder import ObjectFolder
from orchestrator.storage.object_records import Condition
from orchestrator.storage.object_writer import ObjectWriter

root, at, action = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
calls = 0

def kill_before(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), 9)
        return real(*arguments, **named)
    setattr(os, name, call)

for name in ("rename", "unlink", "fsync", "mkdir", "rmdir", "open"):
    kill_before(name)
writer = ObjectWriter(ObjectFolder(root))
if action == "delete":
    writer.delete("a/b.tif")
else:
    writer.put("a/b.tif", b"new" * 100, media_type="x/y", metadata={}, condition=Condition())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    opened = FilesystemStore(tmp_path / "objects")
    yield opened
    await opened.close()


def files_below(root: Path) -> list[str]:
    return sorted(
        path.name for path in root.rglob("*") if path.is_file() and path.parent.name != "=locks"
    )


async def test_the_local_file_has_exactly_the_objects_bytes_and_its_extension(
    store: FilesystemStore,
) -> None:
    await store.put("1/1/a/5/source.tif", b"pixels", metadata={"n": "1"})
    path = await store.local_path("1/1/a/5/source.tif")
    assert path is not None
    assert (path.read_bytes(), path.suffix) == (b"pixels", ".tif")
    assert await store.local_path("1/1/a/5/other.tif") is None


def test_the_store_provides_local_files(tmp_path: Path) -> None:
    store: ObjectStore = FilesystemStore(tmp_path)
    assert isinstance(store, LocalFiles)


async def test_a_file_read_in_place_stays_whole_while_its_object_is_replaced(
    store: FilesystemStore,
) -> None:
    await store.put("a", b"old")
    path = await store.local_path("a")
    assert path is not None
    with path.open("rb") as file:
        await store.put("a", b"newer")
        assert file.read() == b"old"
    assert not path.exists()


async def test_a_stream_opened_before_a_replacement_or_deletion_reads_the_old_bytes(
    store: FilesystemStore,
) -> None:
    body = os.urandom(3 * 1024**2)
    await store.put("a", body)
    async with store.open("a") as replaced, store.open("a") as deleted:
        await store.put("a", b"other")
        assert await replaced.read() == body
        await store.delete(["a"])
        assert await deleted.read() == body


async def test_deleting_every_object_removes_the_folders(
    store: FilesystemStore, tmp_path: Path
) -> None:
    keys = ["a/b/c", "a/b", "a/x/y/z", "q"]
    for key in keys:
        await store.put(key, b"x")
    await store.delete(keys)
    left = {path.name for path in (tmp_path / "objects").iterdir()}
    assert left == {"=tmp", "=locks"}
    assert files_below(tmp_path / "objects") == []


def test_concurrent_writes_and_deletions_in_one_folder_succeed(
    tmp_path: Path,
) -> None:
    stop = time.monotonic() + 1.5
    errors: list[BaseException] = []

    def work(number: int) -> None:
        writer = ObjectWriter(ObjectFolder(tmp_path / "objects"))
        key = f"shared/deep/{number}"
        try:
            while time.monotonic() < stop:
                writer.put(key, b"x", media_type="", metadata={}, condition=Condition())
                writer.delete(key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files_below(tmp_path / "objects") == []


@pytest.mark.parametrize("action", ["put over nothing", "put over another", "delete"])
async def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_object_and_is_swept(
    tmp_path: Path, action: str
) -> None:
    """The writer is killed before each system call that changes files, one call per round."""
    finished = False
    step = 0
    while not finished:
        step += 1
        root = tmp_path / f"{step}"
        store = FilesystemStore(root)
        if action != "put over nothing":
            await store.put("a/b.tif", b"old", metadata={"n": "old"})
        run = subprocess.run([sys.executable, "-c", KILLED_WRITER, root, str(step), action])
        finished = run.returncode == 0
        assert run.returncode in (0, -9)
        body = await _read_or_none(store)
        if action == "put over nothing":
            assert body in (None, b"new" * 100)
        else:
            assert body in (b"old", None if action == "delete" else b"new" * 100)
        await store.sweep_temporary(older_than_s=-1)
        assert await _read_or_none(store) == body
        objects = [name for name in files_below(root) if not name.endswith("=.json")]
        assert len(objects) == (0 if body is None else 1), (step, objects)
        assert not list((root / "=tmp").glob("*")) if (root / "=tmp").exists() else True
        await store.close()
    assert step > 4


async def test_the_sweep_leaves_files_of_running_writers(
    store: FilesystemStore, tmp_path: Path
) -> None:
    await store.put("a", b"x")
    left = tmp_path / "objects" / "=tmp" / "0123.data"
    left.write_bytes(b"half")
    assert await store.sweep_temporary() == 0
    os.utime(left, (time.time() - 7200,) * 2)
    assert await store.sweep_temporary() == 1
    assert await read(store, "a", max_bytes=1) == b"x"


async def test_a_truncated_file_or_record_is_unavailable_and_not_missing(
    store: FilesystemStore, tmp_path: Path
) -> None:
    await store.put("a", b"whole")
    path = await store.local_path("a")
    assert path is not None
    path.write_bytes(b"who")
    with pytest.raises(StorageUnavailable):
        await read(store, "a", max_bytes=9)
    (tmp_path / "objects" / "a=.json").write_bytes(b'{"key": "a", "fi')
    with pytest.raises(StorageUnavailable):
        await store.head("a")


async def test_an_object_whose_file_was_removed_is_not_found(store: FilesystemStore) -> None:
    await store.put("a", b"whole")
    path = await store.local_path("a")
    assert path is not None
    path.unlink()
    with pytest.raises(ObjectNotFound):
        await read(store, "a", max_bytes=9)


async def test_a_store_whose_folder_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file, not a folder")
    store = FilesystemStore(tmp_path / "objects")
    with pytest.raises(StorageUnavailable):
        await store.put("a", b"x")
    with pytest.raises(ObjectNotFound):
        await store.head("a")
    await store.close()


async def _read_or_none(store: FilesystemStore) -> bytes | None:
    try:
        return await read(store, "a/b.tif", max_bytes=1000)
    except ObjectNotFound:
        return None
