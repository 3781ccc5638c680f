"""The client has its answer before the disk cache has it. A kill in between leaves nothing that is
trusted, and nothing that is counted twice.
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.serve_process import ServeProcess, fetch, run_server, start_server, wait_until

IMAGE = "13,17,500,400/500,400/0/default.jpg"
INDEX_WAIT_MS = 5000
"""As long as a writer waits for a held index (`cache/locks.py`)."""
ENV = {"ORCHESTRATOR_CACHE__MEMORY": "0"}


@contextmanager
def index_held(data: Path) -> Iterator[None]:
    """Hold the lock of the cache's index, so that nothing can be published."""
    with (data / "cache" / "derivatives.index" / "index.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def published(data: Path) -> list[Path]:
    return list(data.glob("cache/derivatives/??/*/*.jpg"))


def ask(server: ServeProcess) -> tuple[str, bytes]:
    """Tier and body of an answer that took less time than a writer waits for the index."""
    answer = fetch(f"{server.public}/iiif/3/1%2F1%2Fpicture/{IMAGE}")
    assert answer.status == 200, answer.body
    assert Image.open(io.BytesIO(answer.body)).size == (500, 400)
    milliseconds = float(answer.headers["server-timing"].rpartition("dur=")[2])
    assert milliseconds < INDEX_WAIT_MS
    return answer.headers["x-served-from"], answer.body


def test_a_kill_between_answer_and_publish_leaves_nothing_that_is_trusted(tmp_path) -> None:
    folder, data = tmp_path / "pictures", tmp_path / "data"
    folder.mkdir()
    pictures.jpeg(folder / "picture.jpg", 1500, 1000)
    server = start_server(folder, workers=1, data=data, env=ENV)
    try:
        server.wait_converted()
        with index_held(data):
            tier, body = ask(server)
            assert tier == "imageserver"
            assert not published(data), "the answer did not wait for the disk cache"
            assert ask(server) == (tier, body), "nor did that to the next caller"
            for pid in server.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    finally:
        server.stop(graceful=False)
    assert not published(data)
    with run_server(folder, workers=1, data=data, env=ENV) as server:
        assert ask(server) == ("imageserver", body), "made again, with the same bytes"
        wait_until(lambda: published(data), "it is published")
        assert [path.read_bytes() for path in published(data)] == [body]
        assert ask(server) == ("disk", body)
        wait_until(lambda: not list(data.glob("cache/derivatives/.temp/*")), "nothing is left over")
        assert run_command("cache", "verify", "--data", data).status == 0
