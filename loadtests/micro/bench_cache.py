"""Benchmarks of the caches alone: hot-tier look-ups, disk reads and writes, and the cost of many
rows.

    python -m loadtests.micro.bench_cache [--rounds 5] [--rows 10000 100000 1000000] [--seconds 3]

Prints medians and spread. The rows are synthetic: index entries without files, so the figures for
opening, insertion, eviction and a pass of the scavenger are of the index, not of the file system.
Writers: 1 and 4 processes, 12 KB bodies, a full 50 MB cache.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache, DiskOptions, Product
from orchestrator.cache.disk.index import Index, this_boot, transaction
from orchestrator.cache.hot.tier import HotTier
from orchestrator.scavenger.scavenger import Scavenger

BODY = bytes(range(256)) * 48
TERA = 10**12


@dataclass(frozen=True, slots=True)
class Hot:
    asset: str
    size: int


def print_row(name: str, values: list[float], unit: str) -> None:
    spread = f"{min(values):,.1f} .. {max(values):,.1f}"
    print(f"{name:<52} {statistics.median(values):>12,.1f} {unit:<8} ({spread})", flush=True)


def product(number: int) -> Product:
    name = f"open/0,0,512,512/256,256/0/{number}"
    return Product(f"1/1/picture-{number // 100}", 1, name, "jpg")


def measure_hot_tier(rounds: int) -> None:
    tier = HotTier[Hot](10**9, 10**6)
    keys = [
        ("127.0.0.1:8080", f"/iiif/3/1%2F1%2Fp/{n},0,512,512/512,/0/d.jpg") for n in range(9999)
    ]
    for key in keys:
        tier.put(key, Hot("1/1/p", 12_000), tier.token())

    def lookups() -> None:
        for key in keys:
            tier.get(key)

    times = timeit.repeat(lookups, number=10, repeat=rounds)
    print_row("hot tier: get", [t / 10 / len(keys) * 1e9 for t in times], "ns")


async def measure_rate(rounds: int, count: int, work: Callable[[], object]) -> list[float]:
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        await work()  # type: ignore[misc]
        rates.append((time.perf_counter() - start) / count)
    return rates


async def measure_reads(folder: Path, rounds: int) -> None:
    inline = await DiskCache.open(folder, DiskOptions(quota=TERA))
    for number in range(500):
        await inline.put(product(number), BODY)

    async def read() -> None:
        for number in range(500):
            assert await inline.get(product(number)) is not None

    print_row(
        "disk: get, page cache warm", [t * 1e6 for t in await measure_rate(rounds, 500, read)], "us"
    )
    await inline.close()
    threads = await DiskCache.open(folder, DiskOptions(quota=TERA, inline_read=0))
    inline = threads
    print_row(
        "disk: get through a thread", [t * 1e6 for t in await measure_rate(rounds, 500, read)], "us"
    )
    await threads.close()


async def write_bodies(folder: Path, seconds: float, seed: int) -> None:
    """Put eight bodies at a time; print the number stored."""
    cache = await DiskCache.open(folder, DiskOptions(quota=50_000_000))
    number, until = seed * 10**7, time.monotonic() + seconds
    start = number
    while time.monotonic() < until:
        kept = await asyncio.gather(*(cache.put(product(number + i), BODY) for i in range(8)))
        number += sum(kept)
    await cache.close()
    print(number - start)


def measure_writers(folder: Path, processes: int, rounds: int, seconds: float) -> None:
    rates = []
    for _ in range(rounds):
        command = [sys.executable, "-m", "loadtests.micro.bench_cache", "--write"]
        running = [
            subprocess.Popen(
                [*command, str(folder), str(seconds), str(seed)], stdout=subprocess.PIPE
            )
            for seed in range(processes)
        ]
        rates.append(sum(int(one.communicate()[0]) for one in running) / seconds)
    print_row(f"disk: puts with {processes} writer(s), cache full", rates, "/s")


def create_index(folder: Path, rows: int) -> None:
    """Create an index of `rows` entries without files."""
    index = Index(
        folder.with_name(folder.name + ".index"),
        nothing_cached=lambda: True,
        now=time.time,
        boot=this_boot(),
    )

    def fill(db: object) -> None:
        entries = ((f"{n // 100:030x}", f"1-{n:024x}.jpg", 12288, float(n)) for n in range(rows))
        with transaction(db):  # type: ignore[arg-type]
            db.executemany(  # type: ignore[attr-defined]
                "INSERT INTO entries (asset, name, bytes, last_used) VALUES (?, ?, ?, ?)", entries
            )

    index.run(fill)
    index.close()


async def measure_index(base: Path, rows: int, rounds: int) -> None:
    folder = base / f"rows-{rows}"
    create_index(folder, rows)
    quota = rows * 12288 + 8_000_000
    opening, inserting, passes = [], [], []
    evicting = []
    for turn in range(rounds):
        start = time.perf_counter()
        cache = await DiskCache.open(folder, DiskOptions(quota=quota))
        opening.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        for number in range(200):
            assert await cache.put(product(10**8 + turn * 1000 + number), BODY)
        inserting.append((time.perf_counter() - start) / 200 * 1e6)
        start = time.perf_counter()
        files, _ = await cache.maintenance.evict(await cache.maintenance.candidates(200))
        evicting.append((time.perf_counter() - start) / max(files, 1) * 1e6)
        scavenger = Scavenger([cache], low_water=1.0)
        start = time.process_time()
        for _ in range(20):
            await scavenger.once()
            await cache.maintenance.run_periodic_work()
        passes.append((time.process_time() - start) / 20 * 1e3)
        await cache.close()
    print_row(f"{rows:,} rows: open, ready to serve", opening, "ms")
    print_row(f"{rows:,} rows: put", inserting, "us")
    print_row(f"{rows:,} rows: evict, each of 200", evicting, "us")
    print_row(f"{rows:,} rows: idle housekeeping pass, cpu", passes, "ms")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'resident memory so far, at most':<52} {rss:>12,.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--write", nargs=3, metavar=("FOLDER", "SECONDS", "SEED"))
    chosen = parser.parse_args()
    if chosen.write:
        asyncio.run(
            write_bodies(Path(chosen.write[0]), float(chosen.write[1]), int(chosen.write[2]))
        )
        return
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as base:
        measure_hot_tier(chosen.rounds)
        asyncio.run(measure_reads(Path(base) / "reads", chosen.rounds))
        for processes in (1, 4):
            measure_writers(Path(base) / f"w{processes}", processes, chosen.rounds, chosen.seconds)
        for rows in chosen.rows:
            asyncio.run(measure_index(Path(base), rows, chosen.rounds))


if __name__ == "__main__":
    main()
