"""P7: conversion of originals of 12 to 50 megapixels to JPEG2000 and thumbnails on all cores,
compared with a shell loop of `vips jp2ksave` and `vips thumbnail` on the same files.

The loop is the fastest that we can write: one process per core, sequential reads, the same quality,
and each smaller thumbnail made from the largest. It runs with the nice value of our workers, so
that a busy machine treats both sides alike.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

from loadtests.benches.context import Context
from loadtests.collection import originals
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from orchestrator.app import Services, open_services
from orchestrator.catalog.embedded.database import database
from orchestrator.imaging import FAST_LOSSY
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId
from orchestrator.settings import Cache, Ingest, Jobs, Server, Settings
from tests.support.reference_servers import ServerMissingError
from tests.support.scenes import write_jpeg

_LOOP = f"""
base="$2/$(basename "$1")"
vips jp2ksave "$1[access=sequential]" "$base.jp2" --Q {FAST_LOSSY.psnr:.0f} --strip
vips thumbnail "$1" "$base-1000.jpg[Q=90,strip]" 1000
for edge in 400 200 100; do
    vips thumbnail "$base-1000.jpg" "$base-$edge.jpg[Q=90,strip]" $edge
done
"""


def p7(context: Context) -> list[Row]:
    """Images per minute of both sides."""
    if shutil.which("vips") is None:
        raise ServerMissingError("vips is not installed: apt-get install libvips-tools")
    files = originals()
    cores = os.cpu_count() or 1
    settings = Settings(
        server=Server(data_dir=context.scratch / "p7"),
        cache=Cache(free_space_floor=0),
        ingest=Ingest(optimisation_policy=FAST_LOSSY.name),
        jobs=Jobs(workers=cores + 1),  # one fetches and stores while the others encode
    )
    loop = context.scratch / "p7-loop"
    with database(settings) as reachable, asyncio.Runner() as runner:
        opening = open_services(reachable)
        services = runner.run(opening.__aenter__())
        try:
            warm = write_jpeg(context.scratch / "warm.jpg", 600, 400)
            for _ in range(2):
                runner.run(_run_ingest(services, [warm] * cores, cores))
            comparison = alternate(
                context.rounds,
                lambda _: runner.run(_run_ingest(services, files, cores + 1)),
                lambda _: _run_shell_loop(files, loop, cores),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))
    note = f"{len(files)} originals (JPEG, TIFF) per round, {FAST_LOSSY.name}, four thumbnails each"
    return [
        comparison.row(
            "P7",
            "images/min",
            "/min",
            reference="vips loop",
            at_least=0.9,
            what="ingest to JPEG2000",
            note=note,
        )
    ]


async def _run_ingest(services: Services, files: list[Path], concurrency: int) -> Measured:
    """Ingest every file with the pipeline that commands, API and queue use."""
    requests = iter(
        [
            Request(AssetId(1, 1, f"{number}"), str(path), force=True)
            for number, path in enumerate(files)
        ]
    )

    async def work() -> None:
        for request in requests:
            await services.pipeline.runner.ingest(request)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return {"images/min": 60 * len(files) / (time.perf_counter() - began)}


def _run_shell_loop(files: list[Path], folder: Path, cores: int) -> Measured:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = "\0".join(str(path) for path in files)
    command = ["nice", "-n", "10", "xargs", "-0", "-P", str(cores), "-I{}"]
    command += ["sh", "-ec", _LOOP, "sh", "{}", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(command, input=names, text=True, capture_output=True)
    took = time.perf_counter() - began
    if done.returncode or len(list(folder.iterdir())) != 5 * len(files):
        raise LoadError(f"the shell loop failed: {done.stderr[-300:]}")
    return {"images/min": 60 * len(files) / took}
