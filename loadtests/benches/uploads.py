"""P14U: uploads of JPEGs of 1 to 2 megapixels by 1, 8 and 64 clients, with the default versions and
folders as stores, compared with making the same versions alone on all cores; and the memory of all
processes while 64 clients send.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import psutil

from loadtests.benches.context import Context
from loadtests.collection import small_jpegs
from loadtests.harness import Measured, Row, alternate
from loadtests.processor_time import cpu_seconds
from loadtests.wrk import LoadError
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging, Uploads
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.version_maker import VersionMaker
from tests.support.serve_process import ServeProcess, run_server

CLIENTS = (1, 8, 64)
UPLOADS = int(os.environ.get("P14U_UPLOADS", "64"))
"""Uploads of one round."""
_KEY = PictureKey("1_2", "", "jpg")
_SAMPLE_S = 0.1
_REFERENCE = "versions alone"


def p14_uploads(context: Context) -> list[Row]:
    """Uploads per second of both sides, for each number of clients."""
    originals = small_jpegs()
    files = [originals[number % len(originals)] for number in range(UPLOADS)]
    env = _settings(context.scratch / "p14u")
    rows = []
    with run_server(data=context.scratch / "p14u" / "data", env=env) as server:
        asyncio.run(_upload(server, files[:4], 2))  # starts the decode workers
        for clients in CLIENTS:
            context.print_progress(f"P14U {clients} clients")
            comparison = alternate(
                context.rounds,
                lambda _, clients=clients: _measure(server, files, clients),
                lambda _: asyncio.run(_make_versions(files)),
            )
            what = f"upload, {clients} client{'s' if clients > 1 else ''}"
            note = f"{UPLOADS} uploads a round, three versions each"
            for figure, unit, part in (
                ("uploads/s", "/s", ""),
                ("cpu ms", "ms", ", processor"),
                ("memory", "MB", ", memory"),
            ):
                rows.append(
                    comparison.row(
                        "P14U", figure, unit, reference=_REFERENCE, what=what + part, note=note
                    )
                )
                note = ""
    return rows


def _settings(folder: Path) -> dict[str, str]:
    for name in ("incoming", "active"):
        (folder / name).mkdir(parents=True)
    uploads = {
        "backend": "local",
        "secrets": json.dumps(["a-secret-for-publishing"]),
        "incoming_folder": str(folder / "incoming"),
        "active_folder": str(folder / "active"),
        "max_uploads": "64",
    }
    return {f"ORCHESTRATOR_UPLOADS__{name.upper()}": value for name, value in uploads.items()}


def _measure(server: ServeProcess, files: list[Path], clients: int) -> Measured:
    pid = server.process.pid
    before, began = cpu_seconds(pid), time.perf_counter()
    with _peak_memory(pid) as peak:
        asyncio.run(_upload(server, files, clients))
    took = time.perf_counter() - began
    return {
        "uploads/s": len(files) / took,
        "cpu ms": 1000 * (cpu_seconds(pid) - before) / len(files),
        "memory": max(peak) / 1e6,
    }


async def _upload(server: ServeProcess, files: list[Path], clients: int) -> None:
    waiting = iter(files)

    async def client() -> None:
        async with aiohttp.ClientSession() as session:
            for path in waiting:
                form = aiohttp.FormData()
                form.add_field("file", path.read_bytes(), filename="photo.jpg")
                async with session.post(f"{server.public}/upload", data=form) as answer:
                    if answer.status != 200:
                        raise LoadError(f"an upload was answered {answer.status}")
                    await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def _make_versions(files: list[Path]) -> Measured:
    """Make the versions with as many tasks as there are cores."""
    pool = ImagingPool(Imaging())
    maker = VersionMaker(pool, Uploads())

    async def make(waiting: Iterator[Path]) -> None:
        for path in waiting:
            await maker.make(_KEY, path, await maker.probe(path), None)

    async def make_all(paths: list[Path]) -> None:
        waiting = iter(paths)
        async with asyncio.TaskGroup() as group:
            for _ in range(os.cpu_count() or 1):
                group.create_task(make(waiting))

    try:
        await make_all(files[:8])  # starts all workers, which takes a second of each
        before, began = _processor_s(pool), time.perf_counter()
        await make_all(files)
        took = time.perf_counter() - began
        return {
            "uploads/s": len(files) / took,
            "cpu ms": 1000 * (_processor_s(pool) - before) / len(files),
            "memory": sum(_bytes_of(psutil.Process(pid)) for pid in pool.pids) / 1e6,
        }
    finally:
        await pool.close()


def _processor_s(pool: ImagingPool) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pool.pids]
    return sum(each.user + each.system for each in times)


@contextmanager
def _peak_memory(pid: int) -> Iterator[list[int]]:
    """Samples of the memory of all processes of the service; the last one is taken at the end."""
    samples: list[int] = []
    end = threading.Event()

    def sample() -> None:
        while True:
            parent = psutil.Process(pid)
            processes = [parent, *parent.children(recursive=True)]
            samples.append(sum(_bytes_of(each) for each in processes))
            if end.wait(_SAMPLE_S):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        end.set()
        thread.join()


def _bytes_of(process: psutil.Process) -> int:
    """Memory that the process alone uses; 0 if it has ended, and for the database's processes."""
    with suppress(psutil.Error):
        if process.name() != "postgres":
            return int(process.memory_full_info().uss)
    return 0
