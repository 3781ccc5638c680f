"""An image server that hangs or is killed: what is cached is answered, the rest is 503, and it is
asked again when it is back.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.pausing import paused
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    free_port,
    run_server,
    wait_until,
)

HUNG_S = 1.0


@contextmanager
def iipsrv_on(folder: Path, port: int) -> Iterator[list[int]]:
    """iipsrv on this port; yields its processes, those of nginx included."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with iipsrv(folder, port=port):
        children = psutil.Process().children(recursive=True)
        yield [child.pid for child in children if child.pid not in before]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[ServeProcess]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 2000, 1500)
    prefix = "ORCHESTRATOR_IMAGE_SERVER__"
    env = {
        f"{prefix}KIND": "iipimage",
        f"{prefix}ADDRESSES": f"http://127.0.0.1:{port}/iiif/2",
        f"{prefix}PATH_TEMPLATE": "/{path}/{image}",
        f"{prefix}SOURCES_ROOT": str(tmp_path / "data"),
        f"{prefix}FIRST_BYTE_TIMEOUT_S": str(HUNG_S),
    }
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def test_a_hung_or_killed_image_server_costs_only_what_is_in_no_cache(
    server: ServeProcess, port: int
) -> None:
    base = f"{server.public}/iiif/3/1%2F1%2Flarge"
    numbers = iter(range(0, 1400, 7))

    def is_answered() -> bool:
        """True if a tile that was never requested before is answered."""
        answer = fetch(f"{base}/{next(numbers)},100,256,256/256,256/0/default.jpg")
        if answer.status == 200:
            assert answer.headers["x-served-from"] == "imageserver"
            assert Image.open(io.BytesIO(answer.body)).size == (256, 256)
            return True
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        return False

    def assert_known_is_answered() -> None:
        """What is cached or has a thumbnail needs no image server."""
        assert fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").status == 200
        assert fetch(f"{base}/full/!200,200/0/default.jpg").status == 200
        assert fetch(f"{base}/info.json").status == 200

    with iipsrv_on(server.data, port) as pids:
        assert fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").status == 200
        with paused(*pids):
            started = time.monotonic()
            assert not is_answered()
            assert HUNG_S <= time.monotonic() - started < 10 * HUNG_S
            assert_known_is_answered()
        wait_until(is_answered, "it is asked again after the pause")
        processes = [psutil.Process(pid) for pid in pids]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=30)
        assert not is_answered()
        assert_known_is_answered()
        assert fetch(f"{server.public}/health/ready").status == 200
    with iipsrv_on(server.data, port):
        wait_until(is_answered, "it is used again when it is back")
