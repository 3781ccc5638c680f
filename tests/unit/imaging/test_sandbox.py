"""A decode worker can open no socket and no file outside its folders, and starts no program."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import FASTEST
from orchestrator.imaging.workers import handed_files, sandbox
from orchestrator.imaging.workers.file_access import access_of, record_folder
from orchestrator.imaging.workers.sandbox import FileAccess
from orchestrator.settings import load
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures
from tests.unit.imaging.conftest import SMALL

TREE = Path(__file__).parents[3]
"""The workers import the functions of this module from here."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> FileAccess:
    readable, writable = tmp_path_factory.mktemp("readable"), tmp_path_factory.mktemp("writable")
    (readable / "file").write_text("content")
    return FileAccess((TREE, readable), (writable,), writable)


@pytest.fixture(scope="module")
def confined(folders: FileAccess) -> Iterator[Callable[..., Any]]:
    """`confined(function, *arguments)` is the result of a function in a confined worker."""
    with asyncio.Runner() as runner:
        pool = ImagingPool(SMALL, files=folders)

        def run(function: Callable[..., Any], *arguments: Any) -> Any:
            return runner.run(pool._tiles.run(function, *arguments, timeout_s=60))

        if gaps := run(sandbox.find_gaps, folders):
            runner.run(pool.close())
            pytest.skip(f"this system cannot refuse a process {', '.join(gaps)}")
        yield run
        runner.run(pool.close())


def test_a_worker_makes_no_socket(confined: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        for family, kind in (
            (socket.AF_INET, socket.SOCK_STREAM),
            (socket.AF_INET6, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
        ):
            assert confined(_connect, family, kind, address) == "PermissionError"
        assert confined(_send_by_the_socket_it_has) == "PermissionError"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/root", "/var/lib", "/proc/self/environ", "/proc/{parent}/environ"],
)
def test_a_worker_opens_no_other_file_of_the_system(
    confined: Callable[..., Any], path: str
) -> None:
    assert confined(_open, path.format(parent=os.getpid()), os.O_RDONLY) == "PermissionError"


def test_a_worker_reads_and_writes_only_in_its_folders(
    confined: Callable[..., Any], folders: FileAccess, tmp_path: Path
) -> None:
    [_, readable], [writable] = folders.readable, folders.writable
    assert confined(_open, str(readable / "file"), os.O_RDONLY) == "done"
    assert confined(_open, str(readable / "file"), os.O_WRONLY) == "PermissionError"
    assert confined(_open, str(readable / "new"), os.O_WRONLY | os.O_CREAT) == "PermissionError"
    assert confined(_open, str(writable / "new"), os.O_WRONLY | os.O_CREAT) == "done"
    assert confined(_open, str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT) == "PermissionError"
    (tmp_path / "secret").write_text("secret")
    (readable / "link").symlink_to(tmp_path / "secret")
    assert confined(_open, str(readable / "link"), os.O_RDONLY) == "PermissionError"
    assert confined(_remove, str(readable / "file")) == "PermissionError"


def test_a_worker_starts_no_program_and_no_process(confined: Callable[..., Any]) -> None:
    assert confined(_start_program) == "PermissionError"
    assert confined(_fork) == "PermissionError"
    assert confined(_start_thread) == "done"


async def test_a_program_that_a_worker_may_start_is_confined_as_the_worker(
    folders: FileAccess,
) -> None:
    """Grok, if it is used, is a program."""
    pool = ImagingPool(SMALL.model_copy(update={"grok": "auto"}), files=folders)
    try:
        for path, readable in ((folders.readable[1] / "file", True), ("/etc/passwd", False)):
            status = await pool._tiles.run(_show, str(path), timeout_s=60)
            assert (status == 0) is readable
        assert await pool._tiles.run(_open, "/etc/passwd", os.O_RDONLY, timeout_s=60) != "done"
    finally:
        await pool.close()


def test_a_worker_sends_no_signal_to_another_process(confined: Callable[..., Any]) -> None:
    assert confined(_signal, os.getpid()) == "PermissionError"


def test_a_worker_has_no_thread_when_it_is_confined(tmp_path: Path) -> None:
    """Landlock does not limit threads that already run."""
    code = (
        "import os; from orchestrator.imaging.workers import decode_worker;"
        "print(len(os.listdir('/proc/self/task')))"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.split() == ["1"]


async def test_a_confined_worker_decodes_and_encodes_as_one_that_is_not(
    pool: ImagingPool, tmp_path: Path
) -> None:
    """Text needs the fonts of the system, which are files, too."""
    drawing = tmp_path / "text.svg"
    drawing.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="60">'
        '<text x="5" y="40" font-size="36" font-family="sans-serif">Text</text></svg>'
    )
    originals = [drawing, pictures.pdf(tmp_path / "a.pdf", 300, 200)]
    originals.append(pictures.gif(tmp_path / "a.gif", 200, 100))
    originals.append(pictures.jp2_untiled(tmp_path / "a.jp2", 300, 200))
    writable = tmp_path / "writable"
    writable.mkdir()
    confined = ImagingPool(SMALL, files=FileAccess((tmp_path,), (writable,), writable))
    try:
        for original in originals:
            probe = await confined.probe(original)
            recipe = a_recipe(original, probe)
            assert len(set(decode(await confined.render(recipe)).ravel())) > 1
            assert await confined.render(recipe) == await pool.render(recipe), original
        for output in ("jpg", "png", "webp", "avif", "gif", "tif"):
            body = await confined.render(replace(recipe, format=output))
            assert decode(body).shape[:2] == (200, 300)
        made = writable / "made.tif"
        assert (await confined.convert(originals[-1], made, FASTEST)).width == 300
        assert list(writable.iterdir()) == [made]
    finally:
        await confined.close()


async def test_a_folder_that_is_made_again_is_read_by_a_new_worker(tmp_path: Path) -> None:
    folder, writable = tmp_path / "sources", tmp_path / "scratch"
    for each in (folder, writable):
        each.mkdir()
    pool = ImagingPool(SMALL, files=FileAccess((folder,), (writable,), writable))
    try:
        first = pictures.jpeg(folder / "a.jpg", 64, 48)
        before = await pool.probe(first)
        first.unlink()
        folder.rmdir()
        folder.mkdir()
        again = pictures.jpeg(folder / "a.jpg", 64, 48)
        assert (await pool.probe(again)).width == before.width
        outside = pictures.jpeg(tmp_path / "outside.jpg", 64, 48)
        pids = pool.pids
        with pytest.raises(PermissionError):
            await pool.probe(outside)
        assert pool.pids == pids
    finally:
        await pool.close()


async def test_a_file_in_memory_is_handed_to_the_worker(tmp_path: Path) -> None:
    sources, descriptors = [tmp_path / "a.jp2", tmp_path / "b.jp2"], []
    for n, source in enumerate(sources):
        pictures.jp2_untiled(source, 300, 200 + n)
        descriptors.append(os.memfd_create("source"))
        os.write(descriptors[n], source.read_bytes())
    pool = ImagingPool(SMALL, files=FileAccess((TREE,), (tmp_path,), tmp_path))
    try:
        recipes = [a_recipe(source, await pool.probe(source)) for source in sources]
        expected = [await pool.render(recipe) for recipe in recipes]
        handed = [
            replace(recipe, path=f"/proc/{os.getpid()}/fd/{descriptor}")
            for recipe, descriptor in zip(recipes, descriptors, strict=True)
        ]
        answers = await asyncio.gather(*(pool.render(handed[n % 2]) for n in range(6)))
        assert answers == expected * 3
        [number, _] = [await pool._tiles.run(_open_descriptors, timeout_s=60) for _ in range(2)]
        await asyncio.gather(*(pool.render(handed[n % 2]) for n in range(6)))
        assert await pool._tiles.run(_open_descriptors, timeout_s=60) == number
    finally:
        await pool.close()
        for descriptor in descriptors:
            os.close(descriptor)


async def test_what_the_system_cannot_refuse_is_logged_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A worker that nothing limits reports what it could do."""
    files = FileAccess((Path("/"),), (tmp_path,), tmp_path)
    pool = ImagingPool(SMALL.model_copy(update={"processes": 2}), files=files)
    try:
        await asyncio.gather(*(pool._tiles.run(os.getpid, timeout_s=60) for _ in range(4)))
    finally:
        await pool.close()
    events = [record for record in caplog.records if record.msg == "decode workers not confined"]
    assert [record.__dict__["open"] for record in events] == [["files"]]


def test_the_folders_of_an_installation_are_those_with_sources_and_originals(
    tmp_path: Path,
) -> None:
    data, originals, before = tmp_path / "data", tmp_path / "originals", tmp_path / "before"
    data.mkdir()
    record_folder(data, str(before))
    record_folder(data, str(before))
    record_folder(data, str(originals))
    settings = load(
        None,
        {},
        {
            "server.data_dir": data,
            "ingest.folder": str(originals),
            "ingest.file_roots": ["/srv/masters"],
            "imaging.readable_folders": ["/opt/fonts"],
            "uploads.temp_folder": str(tmp_path / "receiving"),
        },
    )
    access = access_of(settings)
    assert set(access.readable) == {
        data / "cache" / "sources",
        data / "objects",
        originals,
        before,
        Path("/srv/masters"),
        Path("/opt/fonts"),
    }
    promoted = data / "cache" / "sources" / ".temp"
    assert access.writable == (data / "scratch", promoted, tmp_path / "receiving")
    for secret in ("secrets/token", "postgres/pg_hba.conf", "served-folders", "run/x"):
        assert not access.covers(str(data / secret))
    assert access.covers(str(data / "objects" / "1"))


def _name_of_error(function: Callable[..., Any], *arguments: Any) -> str:
    """The name of the OSError that the call raises, "done" if none."""
    try:
        function(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"


def _connect(family: int, kind: int, address: tuple[str, int]) -> str:
    def connect() -> None:
        with socket.socket(family, kind) as made:
            made.connect(address)

    return _name_of_error(connect)


def _send_by_the_socket_it_has() -> str:
    return _name_of_error(handed_files._sockets[0].sendmsg, [b"x"])


def _open(path: str, flags: int) -> str:
    return _name_of_error(lambda: os.close(os.open(path, flags)))


def _remove(path: str) -> str:
    return _name_of_error(os.unlink, path)


def _start_program() -> str:
    return _name_of_error(lambda: subprocess.run([sys.executable, "-c", ""], check=True))


def _show(path: str) -> int:
    return subprocess.run(["/usr/bin/cat", path], check=False, capture_output=True).returncode


def _fork() -> str:
    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    return _name_of_error(fork)


def _start_thread() -> str:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return "done"


def _signal(pid: int) -> str:
    return _name_of_error(os.kill, pid, 0)


def _open_descriptors() -> int:
    """How many descriptors this worker has open: fcntl, as /proc is closed to it."""
    return sum(_name_of_error(os.fstat, number) == "done" for number in range(1024))
