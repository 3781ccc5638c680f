"""kill -9 of any process at any moment: no incomplete image is served, and no partial file is used
after a restart.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from loadtests.benches.s3_server import counted_s3_server, s3_settings
from tests.support import pictures
from tests.support.patience import patience
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    start_server,
)

TILES = [
    f"{x},{y},512,512/512,512/0/default.jpg" for y in (0, 512, 1024) for x in range(0, 2560, 512)
]
RESTARTED = ("process died, restarting it", "decode worker ended")


def is_complete(body: bytes) -> bool:
    """True if the image decodes to its last row."""
    with suppress(OSError, SyntaxError):
        picture = Image.open(io.BytesIO(body))
        picture.load()
        return body.endswith(b"\xff\xd9")
    return False


def killable_processes(server: ServeProcess) -> list[int]:
    """Every process of the run except the supervisor and the database."""
    return [
        pid
        for pid, command in server.processes().items()
        if pid != server.process.pid
        and "postgres" not in command
        and "resource_tracker" not in command
    ]


def published_tiles(data: Path) -> list[Path]:
    """The tiles in the cache that have their final names."""
    return list((data / "cache" / "derivatives").glob("??/*/*.jpg"))


class Reader:
    """Requests tiles without pause. A refused connection is no failure; an incomplete image is."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.bodies: dict[str, set[str]] = {}
        self.incomplete: list[str] = []
        self.answered = 0
        self.statuses: dict[int, int] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Reader:
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        random_numbers = random.Random(seed)
        while not self._stop.is_set():
            tile = random_numbers.choice(TILES)
            with suppress(OSError):  # a process was killed during the answer; the client repeats it
                answer = fetch(f"{self.base}/{tile}", timeout_s=30)
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                if answer.status == 200:
                    self.answered += 1
                    self.bodies.setdefault(tile, set()).add(hashlib.sha256(answer.body).hexdigest())
                    if not is_complete(answer.body):
                        self.incomplete.append(f"{tile}: {len(answer.body)} bytes")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[str]:
    with counted_s3_server(tmp_path_factory.mktemp("weed")) as counted:
        yield counted.address


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 3000, 2000)
    return folder


def test_no_image_is_incomplete_while_processes_are_killed_one_after_another(
    tmp_path, folder, store
):
    """The caches are emptied in between, so that copies (from S3), renders and publishes happen all
    the time.
    """
    random_numbers = random.Random(5)
    with run_server(folder, workers=2, data=tmp_path / "data", env=s3_settings(store)) as server:
        server.wait_converted()
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        with Reader(base) as reader:
            for _ in range(10):
                time.sleep(random_numbers.uniform(0.1, 0.5))
                for cached in (server.data / "cache").glob("*/??/*/*"):
                    with suppress(OSError):
                        cached.unlink()
                with suppress(ProcessLookupError, IndexError):
                    os.kill(random_numbers.choice(killable_processes(server)), signal.SIGKILL)
            deadline = time.monotonic() + 120 * patience()
            before = reader.answered
            while reader.answered < before + 100 and time.monotonic() < deadline:
                time.sleep(0.1)
        assert not reader.incomplete
        assert reader.answered >= before + 100, reader.statuses
        assert set(reader.statuses) <= {200, 503}, reader.statuses
        different = {tile: len(hashes) for tile, hashes in reader.bodies.items() if len(hashes) > 1}
        assert not different, different
        assert_log_clean(server.log(), allowed=RESTARTED)


def test_no_partial_file_is_used_after_all_processes_are_killed_at_once(tmp_path, folder, store):
    """Twice: kill all processes during cold requests and check the files on disk. Then start again
    and compare.
    """
    data, env = tmp_path / "data", s3_settings(store)
    for turn in range(2):
        server = start_server(folder, workers=2, data=data, env=env)
        try:
            server.wait_converted()
            base = f"{server.public}/iiif/3/1%2F1%2Flarge"
            with ThreadPoolExecutor(8) as pool:
                requests = [pool.submit(fetch, f"{base}/{tile}", timeout_s=20) for tile in TILES]
                tiles_before = (
                    4 * turn
                )  # in the first turn before any tile is published, then later
                deadline = time.monotonic() + 10 * patience()
                while len(published_tiles(data)) < tiles_before and time.monotonic() < deadline:
                    time.sleep(0.01)
                for pid in server.processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for request in requests:
                    with suppress(OSError):
                        answer = request.result()
                        assert answer.status == 503 or is_complete(answer.body)
        finally:
            server.stop(graceful=False)
        assert len(published_tiles(data)) >= tiles_before
        for path in published_tiles(data):
            assert is_complete(path.read_bytes()), f"incomplete file with its final name: {path}"
    with run_server(folder, workers=2, data=data, env=env) as server:
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        for tile in TILES:
            answer = fetch(f"{base}/{tile}")
            assert answer.status == 200
            assert is_complete(answer.body)
        leftovers = list((data / "scratch").glob("*/*")) if (data / "scratch").exists() else []
        owned = [p for p in leftovers if any(str(pid) in str(p) for pid in server.processes())]
        assert leftovers == owned, leftovers
