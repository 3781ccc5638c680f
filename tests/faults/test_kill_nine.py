"""kill -9 of any process at any moment: no torn byte is served, nothing partial is trusted after
a restart.
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


def seen_whole(body: bytes) -> bool:
    """True if the picture decodes to its last row."""
    with suppress(OSError, SyntaxError):
        picture = Image.open(io.BytesIO(body))
        picture.load()
        return body.endswith(b"\xff\xd9")
    return False


def victims(server: ServeProcess) -> list[int]:
    """Every process of the run but the supervisor and the database."""
    return [
        pid
        for pid, command in server.processes().items()
        if pid != server.process.pid
        and "postgres" not in command
        and "resource_tracker" not in command
    ]


def published(data: Path) -> list[Path]:
    """The tiles that lie in the cache under their final names."""
    return list((data / "cache" / "derivatives").glob("??/*/*.jpg"))


class Reader:
    """Asks for tiles all the time; a refused connection is an outage, a torn picture a fault."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.bodies: dict[str, set[str]] = {}
        self.torn: list[str] = []
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
        dice = random.Random(seed)
        while not self._stop.is_set():
            tile = dice.choice(TILES)
            with suppress(
                OSError
            ):  # a process died while answering: the client sees it and asks again
                answer = fetch(f"{self.base}/{tile}", timeout_s=30)
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                if answer.status == 200:
                    self.answered += 1
                    self.bodies.setdefault(tile, set()).add(hashlib.sha256(answer.body).hexdigest())
                    if not seen_whole(answer.body):
                        self.torn.append(f"{tile}: {len(answer.body)} bytes")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[str]:
    with counted_s3_server(tmp_path_factory.mktemp("weed")) as tally:
        yield tally.address


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 3000, 2000)
    return folder


def test_processes_killed_one_after_another_tear_nothing(tmp_path, folder, store):
    """During copies (S3), renders and publishes; caches are emptied between, so that there are
    some.
    """
    dice = random.Random(5)
    with run_server(folder, workers=2, data=tmp_path / "data", env=s3_settings(store)) as server:
        server.wait_converted()
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        with Reader(base) as reader:
            for _ in range(10):
                time.sleep(dice.uniform(0.1, 0.5))
                for cached in (server.data / "cache").glob("*/??/*/*"):
                    with suppress(OSError):
                        cached.unlink()
                with suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(victims(server)), signal.SIGKILL)
            deadline = time.monotonic() + 30
            before = reader.answered
            while reader.answered < before + 100 and time.monotonic() < deadline:
                time.sleep(0.1)
        assert not reader.torn
        assert reader.answered >= before + 100, reader.statuses
        assert set(reader.statuses) <= {200, 503}, reader.statuses
        different = {tile: len(found) for tile, found in reader.bodies.items() if len(found) > 1}
        assert not different, different
        assert_log_clean(server.log(), allowed=RESTARTED)


def test_everything_killed_at_once_leaves_nothing_that_is_trusted(tmp_path, folder, store):
    """Thrice: kill all in the middle of cold work, look at what lies on disk, start again,
    compare.
    """
    data, env = tmp_path / "data", s3_settings(store)
    right: dict[str, str] = {}
    for turn in range(3):
        server = start_server(folder, workers=2, data=data, env=env)
        try:
            server.wait_converted()
            base = f"{server.public}/iiif/3/1%2F1%2Flarge"
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(fetch, f"{base}/{tile}", timeout_s=20) for tile in TILES]
                kept_before = turn and 2 * turn  # first before any work is done, then in its middle
                deadline = time.monotonic() + 10
                while len(published(data)) < kept_before and time.monotonic() < deadline:
                    time.sleep(0.01)
                for pid in server.processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for one in asked:
                    with suppress(OSError):
                        answer = one.result()
                        assert answer.status == 503 or seen_whole(answer.body)
        finally:
            server.stop(graceful=False)
        assert len(published(data)) >= kept_before
        for path in published(data):
            assert seen_whole(path.read_bytes()), f"torn file under its final name: {path}"
    with run_server(folder, workers=2, data=data, env=env) as server:
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        for tile in TILES:
            answer = fetch(f"{base}/{tile}")
            assert answer.status == 200
            assert seen_whole(answer.body)
            right.setdefault(tile, hashlib.sha256(answer.body).hexdigest())
        leftovers = list((data / "scratch").glob("*/*")) if (data / "scratch").exists() else []
        owned = [p for p in leftovers if any(str(pid) in str(p) for pid in server.processes())]
        assert leftovers == owned, leftovers
