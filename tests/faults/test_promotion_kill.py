"""A promotion from the first tile to the last: one visit makes none, kill -9 in the middle leaves
nothing, and after it the tiles of the image cost a fraction.
"""

from __future__ import annotations

import io
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from loadtests.processor_time import cpu_seconds
from tests.support import pictures
from tests.support.promotion import hurry, prompt
from tests.support.serve_process import Reply, ServeProcess, fetch, start_server, wait_until

SIZE = (2048, 1536)
TILE = 512
ONE_VISIT, MORE, LATER = [(0, 0), (1, 0), (2, 0)], [(3, 0), (0, 1), (1, 1)], [(2, 1)]
REST = [(3, 1), (0, 2), (1, 2), (2, 2), (3, 2)]
ENV = {
    "ORCHESTRATOR_CACHE__MEMORY": "0",
    "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
    "ORCHESTRATOR_PROMOTION__FROM_PIXELS": str(TILE * TILE * (len(ONE_VISIT) + 1)),
    "ORCHESTRATOR_PROMOTION__IDLE_CORES": "0",
}
PROMOTION_S = 120.0
"""On a quiet machine it takes a second. Its worker gets only the time that nothing else wants."""


def draw(server: ServeProcess, tiles: list[tuple[int, int]], **headers: str) -> list[Reply]:
    replies = []
    for column, row in tiles:
        region = f"{column * TILE},{row * TILE},{TILE},{TILE}"
        url = f"{server.public}/iiif/3/1%2F1%2Fpage/{region}/{TILE},{TILE}/0/default.jpg"
        replies.append(fetch(url, **headers))
    assert {reply.status for reply in replies} <= {200, 304}
    return replies


def milliseconds_per_tile(server: ServeProcess, tiles: list[tuple[int, int]], times: int) -> float:
    """Processor time of all processes of the server."""
    before = cpu_seconds(server.process.pid)
    for _ in range(times):
        draw(server, tiles)
    return 1e3 * (cpu_seconds(server.process.pid) - before) / (times * len(tiles))


def decodes(server: ServeProcess) -> float:
    return server.metric("decodes_total", kind="jpeg2000")


def idle_workers(server: ServeProcess) -> list[int]:
    found = []
    for pid in server.processes():
        with suppress(ProcessLookupError):
            if os.sched_getscheduler(pid) == os.SCHED_IDLE:
                found.append(pid)
    return found


def is_promoted(server: ServeProcess) -> bool:
    for pid in idle_workers(server):
        hurry(pid)
    return bool(promoted(server.data))


def written(data: Path) -> list[Path]:
    return list(data.glob("cache/sources/.temp/*.tif*"))


def promoted(data: Path) -> list[Path]:
    return list(data.glob("cache/sources/??/*/*.tif"))


def stop_while_it_writes(server: ServeProcess) -> None:
    """Stop the worker of the promotion when it has begun to write the pyramid."""

    def is_writing() -> bool:
        os.kill(pid, signal.SIGSTOP)
        if written(server.data):
            return True
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
        return False

    with prompt():
        wait_until(lambda: idle_workers(server), "a promotion has begun", PROMOTION_S)
        (pid,) = idle_workers(server)
        hurry(pid)
        wait_until(is_writing, "the pyramid is written", PROMOTION_S)


def pixels(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)), np.int16)


def test_a_promotion_that_was_killed_leaves_nothing_and_is_made_again(tmp_path) -> None:
    folder, data = tmp_path / "pictures", tmp_path / "data"
    folder.mkdir()
    pictures.jp2_untiled(folder / "page.jp2", *SIZE)
    server = start_server(folder, workers=1, data=data, env=ENV)
    try:
        server.wait_converted()
        draw(server, REST[:1])  # starts the decoders
        before_ms = milliseconds_per_tile(server, ONE_VISIT[:2], 1)
        assert not idle_workers(server)
        assert server.metric("promotions_total") == 0, "one visit makes none"
        old = draw(server, ONE_VISIT[:1])[0]
        draw(server, ONE_VISIT[2:] + MORE)
        stop_while_it_writes(server)
        assert draw(server, LATER)[0].status == 200, "tiles do not wait for it"
    finally:
        server.stop(graceful=False)
    assert written(data)
    assert not promoted(data)

    server = start_server(folder, workers=1, data=data, env=ENV)
    try:
        wait_until(lambda: not written(data), "what the killed process wrote is removed")
        wait_until(
            lambda: 0 < server.metric("cache_bytes", cache="sources") < 500_000,
            "the reserved room is given back",
        )
        draw(server, REST[1:2])
        wait_until(lambda: is_promoted(server), "it is made again", PROMOTION_S)
        wait_until(lambda: server.metric("promotions_total", outcome="made") == 1, "counted")
        assert len(server.log_events("source promoted")) == 1
        decoded = decodes(server)
        draw(server, REST[2:])
        assert milliseconds_per_tile(server, REST[2:], 10) < before_ms / 5
        assert decodes(server) == decoded
        new = draw(server, ONE_VISIT[:1])[0]
        assert np.abs(pixels(new.body) - pixels(old.body)).mean() <= 2
        assert (new.headers["etag"] == old.headers["etag"]) == (new.body == old.body)
        again = draw(server, ONE_VISIT[:1], If_None_Match=new.headers["etag"])[0]
        assert again.status == 304
        other = draw(server, ONE_VISIT[:1], If_None_Match=old.headers["etag"])[0]
        assert other.status == 304 if new.body == old.body else other.body == new.body
    finally:
        server.stop(graceful=True)
