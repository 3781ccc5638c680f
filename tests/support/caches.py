"""Disk caches for tests: products, a manual clock, `du`, and child processes that write or lead and
are killed.

Run as a module, it is such a process: `python -m tests.support.caches write|hang|hold|lead ...`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache, DiskOptions, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import StorageUnavailable

ROOT = Path(__file__).resolve().parents[2]
BODY = bytes(range(256)) * 47  # 12 KB, as a tile


class ManualClock:
    """A clock that only `advance` moves."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


def a_product(number: int = 0, asset: str = "1/1/a", version: int = 1) -> Product:
    return Product(asset, version, f"open/0,0,512,512/256,256/0/{number}", "jpg")


def du(folder: Path) -> int:
    """Allocated bytes of the tree, with folders. Files may be removed while it runs."""
    total, folders = 0, [folder]
    while folders:
        at = folders.pop()
        try:
            total += at.stat().st_blocks * 512
            with os.scandir(at) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                        continue
                    total += entry.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def child(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a process that runs this module."""
    command = [sys.executable, "-m", "tests.support.caches", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def read_line(process: subprocess.Popen[bytes]) -> str:
    """The next line the process printed."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def _print(text: object) -> None:
    print(text, flush=True)


async def _write(folder: str, quota: str, seconds: str, seed: str) -> None:
    """Put, read and drop at full speed; print the puts kept and refused and the wrong reads."""
    options = DiskOptions(quota=int(quota), use_flush_s=0.2)
    cache = await DiskCache.open(Path(folder), options)
    until = time.monotonic() + float(seconds)
    kept = refused = wrong = number = 0

    async def one(number: int) -> None:
        nonlocal kept, refused, wrong
        size = 1000 + (number * 7919) % 60_000
        product = a_product(number, asset=f"1/1/{seed}-{number // 40}")
        body = number.to_bytes(8, "big") * (size // 8)
        if await cache.put(product, body):
            kept += 1
        else:
            refused += 1
        read = await cache.get(product)
        wrong += read is not None and read != body

    while time.monotonic() < until:
        await asyncio.gather(*(one(number + i) for i in range(8)))
        number += 8
        if number % 800 == 0:
            await cache.assets.drop(f"1/1/{seed}-{(number - 400) // 40}")
    await cache.close()
    _print(f"{kept} {refused} {wrong}")


async def _hang(folder: str, quota: str, stage: str) -> None:
    """Get to a stage of a write, print a line, and wait to be killed."""
    cache = await DiskCache.open(Path(folder), DiskOptions(quota=int(quota)))
    async with cache.open_writer(a_product(1), 3_000_000) as writing:
        writing.path.write_bytes(b"half" * 250_000)
        if stage == "temp":
            _print("hanging")
            await asyncio.sleep(60)
        tree = cache._thread.writer.ledger.tree
        tree.publish = lambda *_: (_print("hanging"), time.sleep(60))  # type: ignore[assignment]
        await writing.publish()


async def _hold(folder: str, quota: str, lease_s: str) -> None:
    """Put a source, read it, print a line, and wait to be killed."""
    options = DiskOptions(quota=int(quota), use_flush_s=0.05, lease_s=float(lease_s))
    cache = await DiskCache.open(Path(folder), options)
    assert await cache.put(a_product(0, asset="1/1/source"), BODY)
    async with cache.hold(a_product(0, asset="1/1/source")) as path:
        assert path is not None
        _print("holding")
        await asyncio.sleep(60)


async def _lead(folder: str, callers: str, produces: str, mode: str) -> None:
    """Request one key many times; each production appends a line to `produces`."""
    flights = SingleFlight(Path(folder), remember=lambda _: 30.0, jitter=lambda: 0.5)
    result = Path(produces + ".result")
    _print("ready")
    await asyncio.to_thread(sys.stdin.readline)

    async def find() -> str | None:
        return result.read_text() if result.exists() else None

    async def produce() -> str:
        with Path(produces).open("a") as lines:
            lines.write("produced\n")
        _print("producing")
        await asyncio.sleep(60 if mode == "hang" else 0.3)
        if mode == "fail":
            raise StorageUnavailable("The store is away.")
        partial = result.with_name(f"{result.name}.{os.getpid()}")
        partial.write_text("made")
        partial.replace(result)
        return "made"

    calls = [flights.run("key", produce, find=find) for _ in range(int(callers))]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    await flights.close()
    _print(sorted({f"{type(a).__name__}:{a}" for a in answers}))


if __name__ == "__main__":
    _COMMANDS = {"write": _write, "hang": _hang, "hold": _hold, "lead": _lead}
    asyncio.run(_COMMANDS[sys.argv[1]](*sys.argv[2:]))
