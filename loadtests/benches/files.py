"""P9: the disk cache with 10k, 100k and a million real files: time to become ready after a restart,
time of a put and of an eviction, processor time while idle, memory, and the rebuild of a lost index
while the cache is in use.

The reference of 100k and of a million files is the cache with 10k files. `python -m
loadtests.benches.files` is the measured process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from loadtests.benches.context import Context
from loadtests.harness import Row, Spread
from loadtests.processor_time import cpu_seconds
from orchestrator.cache.disk.cache import DiskCache, DiskOptions, Product
from orchestrator.cache.disk.eviction_policies import Lru
from orchestrator.cache.disk.file_names import Place, asset_hash, place
from orchestrator.cache.disk.files import Tree
from orchestrator.cache.disk.index import Index, read_totals, this_boot, transaction
from orchestrator.cache.disk.index_rows import enter_file, enter_folder
from orchestrator.catalog.embedded.database import embedded
from tests.support.serve_process import run_server

SIZES = tuple(int(n) for n in os.environ.get("P9_FILES", "10000,100000,1000000").split(","))
_FILES_PER_ASSET = 100
_IDLE_S = float(os.environ.get("P9_IDLE_S", "20"))
_SETTLE_S = 8.0
_BODY = bytes(range(256)) * 48
_READY_S, _IDLE_PART, _RSS_MB = 2.0, 2.0, 300.0


def p9(context: Context) -> list[Row]:
    """All sizes, smallest first. The files of each size are removed before the next is created."""
    figures: dict[int, dict[str, list[float]]] = {}
    for files in SIZES:
        data = context.scratch / f"p9-{files}"
        context.print_progress(f"{files:,} files: creating them")
        seconds, used = _create_files(data / "cache" / "derivatives", files)
        context.print_progress(f"{files:,} files: created in {seconds:.0f} s; measuring")
        with embedded(context.scratch / f"postgres-{files}") as database:
            env = {"ORCHESTRATOR_DATABASE__DSN": database.dsn}
            with run_server(data=context.scratch / f"empty-{files}", env=env):
                pass  # migrates the database
            figures[files] = _measure_server(data, used, env, min(context.rounds, 3))
        figures[files] |= _measure_in_process(data, used, context.rounds)
        context.print_progress(f"{files:,} files: {json.dumps(figures[files])}")
        shutil.rmtree(data)
    smallest = figures[SIZES[0]]
    return [row for files in SIZES for row in _rows(files, figures[files], smallest)]


def _rows(
    files: int, ours: dict[str, list[float]], smallest: dict[str, list[float]]
) -> Iterator[Row]:
    bounds = {
        "ready after restart": ("s", _READY_S, "the whole command, including its imports"),
        "idle, cpu of a core": ("%", _IDLE_PART, ""),
        "resident, serve process": ("MB", _RSS_MB, ""),
        "open, ready to read": ("ms", 1000 * _READY_S, "the cache alone"),
        "put into the full cache": ("us", 0.0, "including the evictions that it needs"),
        "evict, each of 200": ("us", 0.0, ""),
        "index rebuilt": ("s", 0.0, "in the background"),
        "get during the rebuild, p99": ("ms", 0.0, ""),
    }
    for name, (unit, bound, note) in bounds.items():
        reference, theirs = f"{SIZES[0]:,}", smallest[name]
        if name == "ready after restart":
            reference, theirs = "empty cache", ours["ready, empty"]
        spread, other = Spread.of(ours[name]), Spread.of(theirs)
        grown = spread.median / other.median if other.median else 1.0
        goal, met = "", None
        if bound:
            goal, met = f"<= {bound:g} {unit}", spread.median <= bound
        elif unit == "us":
            goal, met = "<= 2x (flat)", grown <= 2.0
        ratio = Spread(grown, grown, grown)
        what = f"{files:,} files: {name}"
        yield Row("P9", what, unit, spread, other, reference, ratio, goal, met, note)


# --- creating the files ---------------------------------------------------------------------------


def _product(number: int) -> Product:
    name = f"open/0,0,512,512/256,256/0/{number}"
    return Product(f"1/1/picture-{number // _FILES_PER_ASSET}", 1, name, "jpg")


def _create_files(folder: Path, files: int) -> tuple[float, int]:
    """Create the files and an index of them; returns the seconds taken and the bytes used."""
    began = time.perf_counter()
    parts = [range(start, min(start + 10_000, files)) for start in range(0, files, 10_000)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_write_part, [str(folder)] * len(parts), parts))
    index = Index(
        folder.with_name(folder.name + ".index"),
        nothing_cached=lambda: True,
        now=time.time,
        boot=this_boot(),
    )
    tree = Tree(folder, index.holder)
    tree.prepare()

    def enter(db: Any) -> int:
        now = time.time() - files
        with transaction(db):
            for number in range(files):
                enter_file(db, Lru(), place(_product(number)), 4096, now + number)
            seen = {""}
            for number in range(0, files, _FILES_PER_ASSET):
                asset = f"1/1/picture-{number // _FILES_PER_ASSET}"
                digest = asset_hash(asset)
                if digest[:2] not in seen:
                    seen.add(digest[:2])
                    enter_folder(db, tree, digest[:2])
                enter_folder(db, tree, Place(digest, "").folder, asset)
            for name in ("", ".temp"):
                enter_folder(db, tree, name)
        return read_totals(db).bytes

    used = index.run(enter)
    index.close()
    return time.perf_counter() - began, used


def _write_part(folder: str, numbers: range) -> None:
    for number in numbers:
        path = f"{folder}/{place(_product(number)).path}"
        if number % _FILES_PER_ASSET == 0:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, b"x")
        os.close(descriptor)


# --- measuring ------------------------------------------------------------------------------------


def _measure_server(
    data: Path, used: int, env: dict[str, str], rounds: int
) -> dict[str, list[float]]:
    """Run `orchestrator serve` on the cache: seconds to ready, idle processor time, memory."""
    settings = {
        **env,
        "ORCHESTRATOR_CACHE__DERIVATIVES_QUOTA": str(int(used / 0.8)),
        "ORCHESTRATOR_CACHE__MAX_ENTRY": "1000000",
    }
    ready, empty, idle, resident = [], [], [], []
    for turn in range(rounds):
        with run_server(data=data.with_name(f"empty-{data.name}"), env=env) as server:
            empty.append(server.ready_s)
        with run_server(data=data, env=settings) as server:
            ready.append(server.ready_s)
            if turn == 0:  # wait for the work of the first start to end
                time.sleep(_SETTLE_S)
                before, began = cpu_seconds(server.process.pid), time.monotonic()
                time.sleep(_IDLE_S)
                spent = cpu_seconds(server.process.pid) - before
                idle.append(100 * spent / (time.monotonic() - began))
                resident.append(psutil.Process(server.process.pid).memory_info().rss / 1e6)
    return {
        "ready after restart": ready,
        "ready, empty": empty,
        "idle, cpu of a core": idle,
        "resident, serve process": resident,
    }


def _measure_in_process(data: Path, used: int, rounds: int) -> dict[str, list[float]]:
    folder = data / "cache" / "derivatives"
    command = [sys.executable, "-m", "loadtests.benches.files"]
    done = subprocess.run(
        [*command, str(folder), str(used), str(rounds)], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, list[float]] = json.loads(done.stdout)
    return figures


async def _measure(folder: Path, used: int, rounds: int) -> dict[str, list[float]]:
    options = DiskOptions(quota=used + 8_000_000)
    opening, putting, evicting = [], [], []
    for turn in range(rounds):
        with _record_time(opening, 1e3):
            cache = await DiskCache.open(folder, options)
        with _record_time(putting, 1e6 / 200):
            for number in range(200):
                assert await cache.put(_product(10**8 + turn * 1000 + number), _BODY)
        chosen = await cache.maintenance.candidates(200)
        with _record_time(evicting, 1e6 / 200):
            await cache.maintenance.evict(chosen)
        await cache.close()
    shutil.rmtree(folder.with_name(folder.name + ".index"))
    rebuilt_s, gets = await _rebuild(folder, options)
    gets.sort()
    return {
        "open, ready to read": opening,
        "put into the full cache": putting,
        "evict, each of 200": evicting,
        "index rebuilt": [rebuilt_s],
        "get during the rebuild, p99": [gets[int(len(gets) * 0.99)] * 1e3],
    }


async def _rebuild(folder: Path, options: DiskOptions) -> tuple[float, list[float]]:
    """Seconds until a lost index is rebuilt, and the seconds of each look-up during that time."""
    began = time.perf_counter()
    cache = await DiskCache.open(folder, options)
    number, gets = 10**8, []
    while (await cache.maintenance.totals()).walking:
        for _ in range(50):
            started = time.perf_counter()
            await cache.get(_product(number))
            gets.append(time.perf_counter() - started)
            number = 10**8 + (number + 1) % 200
            await asyncio.sleep(0.002)
    took_s = time.perf_counter() - began
    await cache.close()
    return took_s, gets


@contextmanager
def _record_time(into: list[float], factor: float) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into.append((time.perf_counter() - began) * factor)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
