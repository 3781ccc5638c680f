"""P13: a batch of JPEGs of 1 to 2 megapixels through the queue of the installed command, with
default settings, compared with what the cores could do if they did nothing but convert.

The reference converts the same files with the product's own decode workers and counts their
processor seconds: that work, divided by the number of cores, is the shortest possible time.
P13_FILES is the number of files in a batch.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from loadtests.benches.context import Context
from loadtests.collection import small_jpegs
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from orchestrator.iiif.thumbnail_sizes import sizes_by_edge
from orchestrator.imaging import FAST_LOSSY
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.settings import Imaging, Ingest
from tests.support.serve_process import ServeProcess, run_server

FILES = int(os.environ.get("P13_FILES", "200"))
_LONGEST_S = 600
_QUALITY = 90


def p13(context: Context) -> list[Row]:
    """Images per second of both sides."""
    originals = small_jpegs()
    files = [originals[number % len(originals)] for number in range(FILES)]
    env = {"ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps([str(originals[0].parent)])}
    with run_server(data=context.scratch / "p13", env=env) as server:
        client = _Client(server)
        _run_batch(server, client, originals[:4], "warm")  # starts the decode workers
        comparison = alternate(
            context.rounds,
            lambda number: _run_batch(server, client, files, f"r{number}"),
            lambda _: asyncio.run(_convert(files, context.scratch / "p13-alone")),
        )
    cores = os.cpu_count() or 1
    note = f"{FILES} JPEGs, {FAST_LOSSY.name}, default settings, {cores} cores; from post to finish"
    reference = "conversion alone"
    return [
        comparison.row(
            "P13", "images/s", "/s", reference=reference, at_least=0.8, what="queue", note=note
        ),
        comparison.row(
            "P13",
            "processor",
            "ms/image",
            reference=reference,
            at_most=1 / 0.8,
            what="queue, processor",
            note="all processes of the service and its database; other load hardly disturbs it",
        ),
    ]


class _Client:
    """The management API of the server, with a key of customer 1."""

    def __init__(self, server: ServeProcess) -> None:
        command = Path(sys.executable).with_name("orchestrator")
        words = [command, "keys", "create", "1", "--data", server.data, "--json"]
        made = subprocess.run(words, capture_output=True, text=True, check=True)
        self._key = json.loads(made.stdout)["token"]
        self._address = server.private

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


def _run_batch(server: ServeProcess, client: _Client, files: list[Path], name: str) -> Measured:
    members = [
        {"id": f"{name}-{number}", "space": 1, "origin": str(path)}
        for number, path in enumerate(files)
    ]
    before, began = _service_s(server), time.perf_counter()
    batch = client.ask("POST", "/customers/1/queue", {"member": members})
    path = f"/customers/1/queue/batches/{batch['id']}"
    while (shown := client.ask("GET", path))["finished"] is None:
        if time.perf_counter() - began > _LONGEST_S:
            raise LoadError(f"the batch is not finished: {shown}")
        time.sleep(0.1)
    took = time.perf_counter() - began
    if shown["completed"] != len(files):
        raise LoadError(f"the batch has errors: {shown}")
    processor_s = _service_s(server) - before
    return {"images/s": len(files) / took, "processor": 1000 * processor_s / len(files)}


def _service_s(server: ServeProcess) -> float:
    """The processor seconds of all processes of the server until now."""
    parent = psutil.Process(server.process.pid)
    return _processor_s(each.pid for each in [parent, *parent.children(recursive=True)])


async def _convert(files: list[Path], folder: Path) -> Measured:
    """Convert the files one after the other; the rate of all cores, by processor time."""
    pool = ImagingPool(Imaging(processes=1))
    try:
        await pool.probe(files[0])  # starts the worker
        before = _processor_s(pool.pids)
        for path in files:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            probe = await pool.probe(path)
            sizes = tuple(sizes_by_edge(probe.dimensions, Ingest().thumbnail_policy))
            request = ThumbnailRequest(sizes, folder, _QUALITY)
            await pool.convert_with_thumbnails(path, folder / "source.jp2", FAST_LOSSY, request)
        processor_s = _processor_s(pool.pids) - before
    finally:
        await pool.close()
    cores = os.cpu_count() or 1
    return {
        "images/s": len(files) / processor_s * cores,
        "processor": 1000 * processor_s / len(files),
    }


def _processor_s(pids: Iterable[int]) -> float:
    seconds = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            seconds += times.user + times.system
    return seconds
