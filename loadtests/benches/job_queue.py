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
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from loadtests.benches.batch_client import BatchClient
from loadtests.benches.context import Context
from loadtests.collection import small_jpegs
from loadtests.harness import Measured, Row, alternate
from orchestrator.iiif.thumbnail_sizes import sizes_by_edge
from orchestrator.imaging import FAST_LOSSY
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.source_writer import ThumbnailRequest
from orchestrator.settings import Imaging, Ingest
from tests.support.serve_process import ServeProcess, run_server

FILES = int(os.environ.get("P13_FILES", "200"))
_QUALITY = 90


def p13(context: Context) -> list[Row]:
    """Images per second of both sides."""
    originals = small_jpegs()
    files = [originals[number % len(originals)] for number in range(FILES)]
    env = {"ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps([str(originals[0].parent)])}
    with run_server(data=context.scratch / "p13", env=env) as server:
        client = BatchClient(server)
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


def _run_batch(server: ServeProcess, client: BatchClient, files: list[Path], name: str) -> Measured:
    before = _service_s(server)
    took_s = client.run_batch(files, name)
    processor_s = _service_s(server) - before
    return {"images/s": len(files) / took_s, "processor": 1000 * processor_s / len(files)}


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
