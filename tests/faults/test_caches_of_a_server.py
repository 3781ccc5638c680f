"""Faults of the caches of a running server: housekeeping killed, disk full or read-only, files
deleted externally, no room for a source. The right bytes are served throughout, the caches recover,
and the log has the fault.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.caches import du
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.small_disks import mounted
from tests.support.weed import s3_settings, weed

TILES = [
    f"{x},{y},256,256/256,256/0/default.jpg"
    for y in range(0, 1800, 200)
    for x in range(0, 2700, 150)
]
QUOTA = 600_000
"""Less than all of `TILES` need."""
SMALL = {
    "ORCHESTRATOR_CACHE__MEMORY": "0",
    "ORCHESTRATOR_CACHE__MAX_ENTRY": "500000",
    "ORCHESTRATOR_CACHE__DERIVATIVES_QUOTA": str(QUOTA),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 3000, 2000)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[dict[str, str]]:
    with weed(tmp_path_factory.mktemp("weed")) as endpoint:
        yield s3_settings(endpoint)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A separate file system of 40 MiB for the caches of `tmp_path/data`."""
    with mounted(tmp_path / "data" / "cache", "size=40m") as at:
        yield at


class Checker:
    """Compares every answer with the first one for its tile."""

    def __init__(self, server: ServeProcess, name: str = "large") -> None:
        self._base = f"{server.public}/iiif/3/1%2F1%2F{name}"
        self._known: dict[str, str] = {}
        self.wrong: list[str] = []
        self.statuses: dict[int, int] = {}

    def ask(self, tile: str) -> None:
        answer = fetch(f"{self._base}/{tile}")
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        digest = hashlib.sha256(answer.body).hexdigest()
        if answer.status == 200 and self._known.setdefault(tile, digest) != digest:
            self.wrong.append(tile)

    def ask_all(self, tiles: list[str], threads: int = 4) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self.ask, tiles))
        assert not self.wrong
        assert set(self.statuses) == {200}, self.statuses


def events(server: ServeProcess, name: str) -> list[dict[str, Any]]:
    entries = []
    for line in server.log().splitlines():
        if f'"{name}"' in line:
            entry = json.loads(line)
            if entry["event"] == name:
                entries.append(entry)
    return entries


def housekeepers(server: ServeProcess) -> list[dict[str, Any]]:
    return [e for e in events(server, "process started") if e["role"] == "housekeeping"]


def is_restarted(server: ServeProcess, before: int) -> bool:
    return len(housekeepers(server)) > before


def has_evictions(server: ServeProcess) -> bool:
    """False while housekeeping, which serves the private port, is starting."""
    with suppress(OSError):
        return server.metric("cache_evictions_total", reason="quota") > 0
    return False


def set_read_only(folder: Path, *, is_read_only: bool) -> None:
    """Files can be neither created nor removed in the folders of a cache, not even by root."""
    folders = [str(folder), *(str(path) for path in folder.glob("**/")), str(folder / ".temp")]
    done = subprocess.run(
        ["chattr", "+i" if is_read_only else "-i", *dict.fromkeys(folders)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip(f"folders cannot be made read-only here: {done.stderr.decode().strip()}")


def is_verified(data: Path) -> bool:
    """True if `cache verify` finds no difference."""
    done = run_command("cache", "verify", "--data", data)
    print(done.out, done.err)
    return done.status == 0


def test_while_housekeeping_is_down_serving_continues_and_the_quota_holds(tmp_path, folder):
    with run_server(folder, workers=2, data=tmp_path / "data", env=SMALL) as server:
        server.wait_converted()
        cache = server.data / "cache" / "derivatives"
        samples: list[int] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                samples.append(du(cache))
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        checker = Checker(server)
        try:
            checker.ask_all(TILES, threads=8)
            for _ in range(3):
                started = housekeepers(server)
                os.kill(started[-1]["child"], signal.SIGKILL)
                checker.ask_all(random.Random(3).sample(TILES, 90), threads=8)
                wait_until(
                    partial(is_restarted, server, len(started)), "housekeeping is started again"
                )
        finally:
            over.set()
            watcher.join()
        assert max(samples) <= QUOTA
        assert max(samples) > QUOTA * 0.8, "the cache was full"
        assert len(events(server, "process died, restarting it")) == 3
        wait_until(
            partial(has_evictions, server), "the writers' evictions are counted", timeout_s=60
        )
        assert_log_clean(server.log(), allowed=("process died, restarting it",))
    assert is_verified(tmp_path / "data")


def test_on_a_full_disk_answers_are_right_and_the_cache_recovers(tmp_path, folder, disk):
    env = {**SMALL, "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0"}
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        server.wait_converted()
        checker = Checker(server)
        checker.ask_all(TILES[:40])
        status = os.statvfs(disk)
        with suppress(OSError):  # the server may store a tile at the same moment
            (disk / "others").write_bytes(bytes(status.f_bavail * status.f_frsize))
        checker.ask_all(TILES[40:100])
        wait_until(
            lambda: events(server, "cache has no room") or events(server, "cache not writable"),
            "the full disk is logged",
        )
        (disk / "others").unlink()
        checker.ask_all(TILES[120:150])
        renders = server.metric("renders_total")
        checker.ask_all(TILES[120:150])
        assert server.metric("renders_total") == renders, "stored again"
        assert_log_clean(server.log())
    assert is_verified(tmp_path / "data")


@pytest.fixture(scope="module")
def server(tmp_path_factory, s3) -> Iterator[ServeProcess]:
    """A server for tests that do not fill its caches. Each has a picture of its own."""
    home = tmp_path_factory.mktemp("caches")
    (home / "pictures").mkdir()
    pictures.jpeg(home / "pictures" / "read-only.jpg", 3000, 2000)
    pictures.jpeg(home / "pictures" / "deleted.jpg", 3000, 2000, seed=2)
    with run_server(
        home / "pictures", workers=2, data=home / "data", env={**SMALL, **s3}
    ) as server:
        server.wait_converted(expected=2)
        yield server
        assert_log_clean(server.log())
    assert is_verified(home / "data")


def test_a_cache_made_read_only_is_still_read_and_later_written_again(server):
    cache = server.data / "cache" / "derivatives"
    checker = Checker(server, "read-only")
    checker.ask_all(TILES[:20])
    set_read_only(cache, is_read_only=True)
    try:
        checker.ask_all(TILES[:35])
        wait_until(lambda: events(server, "cache not writable"), "the failure is logged")
    finally:
        set_read_only(cache, is_read_only=False)
    checker.ask_all(TILES[35:50])
    wait_until(lambda: events(server, "cache writable again"), "the recovery is logged")
    renders = server.metric("renders_total")
    checker.ask_all(TILES[35:50])
    assert server.metric("renders_total") == renders, "stored again"


def test_files_deleted_externally_are_made_again(server):
    checker = Checker(server, "deleted")
    others = {*server.data.glob("cache/*/??/*/*")}
    checker.ask_all(TILES[:20])
    for path in {*server.data.glob("cache/*/??/*/*")} - others:
        path.unlink()
    checker.ask_all(TILES[:25])
    wait_until(
        lambda: events(server, "cached files deleted externally"), "the missing files are logged"
    )


def test_killing_all_processes_during_writes_leaves_a_sound_cache(tmp_path, folder):
    data = tmp_path / "data"
    with run_server(folder, workers=2, data=data, env=SMALL) as server:
        server.wait_converted()
        checker = Checker(server)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(checker.ask, tile) for tile in TILES]
            time.sleep(1.5)
            for pid in server.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for one in asked:
                one.cancel()
        server.stop(graceful=False)
        assert not checker.wrong
    with run_server(folder, workers=2, data=data, env=SMALL) as server:
        # All that the killed ones stored: the row of a file that did not get its name any more is
        # deleted when a request misses the file. The periodic work enters files without a row.
        Checker(server).ask_all(TILES)
        assert du(data / "cache" / "derivatives") <= QUOTA
        wait_until(lambda: is_verified(data), "the index knows every file")
        assert_log_clean(server.log())
    assert is_verified(data)
    assert not list(data.glob("cache/*/.temp/*"))


def colour(body: bytes) -> Any:
    return Image.open(io.BytesIO(body)).convert("RGB").getpixel((9, 9))


def test_a_source_without_room_is_read_in_ranges_or_refused_with_retry_after(tmp_path, folder, s3):
    env = {**SMALL, **s3, "ORCHESTRATOR_CACHE__SOURCES_QUOTA": "100000"}
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        server.wait_converted()
        checker = Checker(server)
        checker.ask_all(TILES[:12])
        assert server.metric("sources_not_copied_total", why="no_room", how="range") == 12
        assert server.metric("source_copies_total") == 0
        assert not list(server.data.glob("cache/sources/??/*/*"))
        assert events(server, "cache has no room")
        assert_log_clean(server.log())
    env |= {"ORCHESTRATOR_DELIVERY__MEMORY_SOURCES": "1000"}
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        for tile in TILES[:3]:
            assert fetch(f"{base}/{tile}").headers["x-served-from"] == "disk"
        refused = fetch(f"{base}/{TILES[30]}")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "5"
        assert fetch(f"{base}/full/200,/0/default.jpg").status == 200, "thumbnails need no source"
        assert events(server, "source not orchestrated")
        assert server.metric("sources_not_copied_total", how="refused") >= 1
        assert_log_clean(server.log())


def test_a_running_server_obeys_pins_and_never_orchestrate_that_are_set_by_command(
    tmp_path, folder, s3
):
    data = tmp_path / "data"
    rule = '[{"asset_id": "^1/1/rule", "orchestrate": false}]'
    pictures.jpeg(folder / "rule.jpg", 1500, 1000)
    pictures.jpeg(folder / "other.jpg", 3000, 2000, seed=2)
    env = {**SMALL, **s3, "ORCHESTRATOR_CACHE__RULES": rule}
    with run_server(folder, workers=2, data=data, env=env) as server:
        server.wait_converted(expected=3)
        dsn = run_command("config", "show", "--data", data)
        assert dsn.status == 0

        def set_image(*words: str) -> None:
            done = run_command("images", "set", *words, "--data", data, env=s3)
            assert done.status == 0, done.err

        set_image("1/1/large", "--pin", "--no-orchestrate")
        shown = run_command("images", "show", "1/1/large", "--json", "--data", data, env=s3).json
        assert (shown["pinned"], shown["orchestrate"]) == (True, False)
        Checker(server).ask_all(TILES[:10])
        Checker(server, "rule").ask_all(TILES[:4])
        assert server.metric("source_copies_total") == 0
        assert server.metric("sources_not_copied_total", why="never", how="range") == 10
        assert server.metric("sources_not_copied_total", why="never", how="memory") == 4, "small"
        wait_until(lambda: len(list(data.glob("cache/derivatives/??/*/*"))) == 14, "all are stored")
        kept = sorted(data.glob("cache/derivatives/??/*/*"))
        Checker(server, "other").ask_all(TILES)
        pinned = [path for path in kept if path.exists()]
        assert len(pinned) == 10, "the pinned image's tiles stay, the others are evicted"
        set_image("1/1/large", "--no-pin", "--orchestrate")
        time.sleep(1)
        Checker(server, "other").ask_all(TILES[::-1])
        assert not [path for path in kept if path.exists()]
        assert server.metric("source_copies_total") == 1
        assert_log_clean(server.log())
