"""Image servers that hang, are slow or are killed: what is cached is answered, the rest is made by
the servers that are left or is 503, and a server is asked again when it is back.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from PIL import Image

from orchestrator.routing.image_servers.affinity import rank
from tests.support import pictures
from tests.support.image_nodes import ImageNode, image_nodes
from tests.support.patience import PATIENT_DATABASE, patience
from tests.support.pausing import paused
from tests.support.reference_servers import iipsrv, iipsrv_processes
from tests.support.serve_process import (
    COMMAND,
    ServeProcess,
    assert_log_clean,
    fetch,
    free_port,
    run_server,
    wait_until,
)

HUNG_S = 4.0
SLOW_S = 20.0
"""How late the slow node of a pool answers."""
CLIENTS = 200


@contextmanager
def iipsrv_on(folder: Path, port: int) -> Iterator[list[int]]:
    """iipsrv on this port; yields its processes, those of nginx included."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with iipsrv(folder, port=port):
        children = psutil.Process().children(recursive=True)
        yield [child.pid for child in children if child.pid not in before]


def wait_until_trusted(server: ServeProcess, port: int) -> None:
    """Wait until each of our processes sends requests to iipsrv. It was away before, so that their
    canaries may have failed.
    """
    node = f"http://127.0.0.1:{port}/iiif/2"
    wait_until(
        lambda: server.metric("image_server_breaker_open", node=node) == 0,
        "each process has seen that it is there",
    )


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[ImageNode]]:
    with image_nodes(4) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, port: int, nodes: list[ImageNode]
) -> Iterator[ServeProcess]:
    """A server with iipsrv, and with a pool of four nodes for the picture `pooled`."""
    home = tmp_path_factory.mktemp("image-server")
    folder, data, config = home / "pictures", home / "data", home / "config.toml"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 2000, 1500)
    pictures.jpeg(folder / "pooled.jpg", 2000, 1500)
    config.write_text(
        f"""
[image_server]
kind = "iipimage"
addresses = ["http://127.0.0.1:{port}/iiif/2"]
path_template = "/{{path}}/{{image}}"
sources_root = "{data}"
first_byte_timeout_s = {HUNG_S}

[image_server.pools.four]
kind = "cantaloupe"
addresses = {json.dumps([node.address for node in nodes])}
queue_timeout_s = 100
canary_s = {min(2 * patience(), SLOW_S / 2)}
decode_memory = "5MB"

[[image_server.rules]]
pool = "four"
asset_id = "/pooled$"
"""
    )
    arguments = ("--config", str(config))
    with run_server(folder, workers=2, data=data, arguments=arguments) as server:
        server.wait_converted(expected=2)
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
        wait_until_trusted(server, port)
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


def test_a_zoom_session_survives_the_death_of_an_image_server(
    server: ServeProcess, port: int
) -> None:
    """All tiles of all levels, in the form that viewers request, while one of the two processes
    behind nginx is killed and started again.
    """
    base = f"{server.public}/iiif/3/1%2F1%2Flarge"
    statuses: Counter[int] = Counter()
    tiers: Counter[str] = Counter()
    lock = threading.Lock()

    def request(path: str) -> None:
        answer = fetch(f"{base}/{path}")
        statuses[answer.status] += 1
        tiers[answer.headers.get("x-served-from", "")] += 1

    with iipsrv_processes(server.data, port=port) as processes, ThreadPoolExecutor(8) as clients:
        wait_until_trusted(server, port)
        document = fetch(f"{base}/info.json").json
        session = list(zoom_session(document, 0))
        list(clients.map(request, [*session, *session]))  # two viewers
        assert set(statuses) == {200}, statuses
        assert tiers["imageserver"] > 40
        assert tiers["memory"] + tiers["disk"] > 40, "the second viewer"
        assert tiers["thumb"] + tiers["resize"] > 0, "whole images come from thumbnails"
        sessions = itertools.chain.from_iterable(
            itertools.islice(zoom_session(document, shift), 12) for shift in itertools.count(1)
        )
        stop = threading.Event()

        def browse(_: int) -> None:
            while not stop.is_set():
                with lock:
                    path = next(sessions)
                request(path)

        def wait_for_more(what: str) -> None:
            answered = sum(statuses.values())
            wait_until(lambda: sum(statuses.values()) > answered + 40, what)

        viewers = [clients.submit(browse, each) for each in range(8)]
        try:
            for _ in range(3):
                wait_for_more("the viewers go on")
                processes.kill_one()
                wait_for_more("the other process answers")
                processes.start_one()
        finally:
            stop.set()
        for viewer in viewers:
            viewer.result()
    assert set(statuses) == {200}, (statuses, server.log_events("image server response rejected"))


def zoom_session(document: dict, shift: int) -> Iterator[str]:
    """What a viewer requests: the overviews, and the tiles of each level from the coarsest, in the
    form `w,h`. `shift` moves the grid, so that no two sessions request the same tiles.
    """
    width, height, (tiles,) = document["width"], document["height"], document["tiles"]
    for size in document["sizes"]:
        yield f"full/{size['width']},{size['height']}/0/default.jpg"
    for factor in reversed(tiles["scaleFactors"]):
        side = tiles["width"] * factor
        for y, x in itertools.product(range(shift, height, side), range(shift, width, side)):
            w, h = min(side, width - x), min(side, height - y)
            yield f"{x},{y},{w},{h}/{-(-w // factor)},{-(-h // factor)}/0/default.jpg"


def test_a_whole_image_that_never_fits_in_the_memory_of_a_pool_is_413(
    server: ServeProcess,
) -> None:
    base = f"{server.public}/iiif/3/1%2F1%2Fpooled"
    assert fetch(f"{base}/full/max/0/default.jpg").status == 413
    assert fetch(f"{base}/3,3,256,256/256,256/0/default.jpg").status == 200


class Load:
    """Many clients, each of which requests one tile after another, and one that requests what is
    in the cache.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self.statuses: Counter[int] = Counter()
        self.hits: list[float] = []
        """Seconds of each request for the cached tile since `measure_hits`."""
        self._numbers = itertools.count()
        self._broken: list[BaseException | None] = []

    async def run(self, script: Callable[[], object]) -> None:
        """Run the clients until `script`, which blocks, has returned in a thread."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            tasks = [asyncio.create_task(self._browse(session)) for _ in range(CLIENTS)]
            tasks.append(asyncio.create_task(self._hit(session)))
            for task in tasks:
                task.add_done_callback(self._on_end)
            try:
                await asyncio.to_thread(script)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        assert not self._broken, self._broken[:3]

    def wait_until(self, condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
        """As the function, but fails at once if a client does."""
        wait_until(lambda: self._broken or condition(), what, timeout_s)
        assert not self._broken, self._broken[:3]

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._broken.append(task.exception())

    def measure_hits(self, count: int = 100) -> float:
        """The p99 of the next requests for the cached tile, in seconds."""
        self.hits = []
        self.wait_until(lambda: len(self.hits) >= count, "cache hits are answered", timeout_s=60)
        return sorted(self.hits)[int(0.99 * len(self.hits)) - 1]

    async def _browse(self, session: aiohttp.ClientSession) -> None:
        while True:
            number = next(self._numbers)
            region = f"{number % 1700},{number // 1700 % 1200},256,256"
            async with session.get(f"{self._base}/{region}/256,256/0/default.jpg") as answer:
                await answer.read()
                self.statuses[answer.status] += 1

    async def _hit(self, session: aiohttp.ClientSession) -> None:
        while True:
            started = time.monotonic()
            async with session.get(f"{self._base}/1,1,256,256/256,256/0/default.jpg") as answer:
                await answer.read()
                assert answer.status == 200
                assert answer.headers["X-Served-From"] in ("memory", "disk")
            self.hits.append(time.monotonic() - started)
            await asyncio.sleep(0.002)


def test_a_slow_and_a_dead_node_cost_neither_cache_hits_nor_the_tiles_of_others(
    server: ServeProcess, nodes: list[ImageNode]
) -> None:
    base = f"{server.public}/iiif/3/1%2F1%2Fpooled"
    by_address = {node.address: node for node in nodes}
    # The two that this picture prefers.
    slow, dead, *others = (by_address[each] for each in rank("1/1/pooled", list(by_address)))
    known = f"{base}/1,1,256,256/256,256/0/default.jpg"
    wait_until(lambda: fetch(known).headers["x-served-from"] == "memory", "the tile is cached")
    load = Load(base)

    def requested(node: ImageNode) -> int:
        """The different images that it was asked for; the canary repeats one."""
        return len(set(node.targets))

    def script() -> None:
        load.wait_until(lambda: all(requested(node) for node in nodes), "all nodes are used")
        before_s = load.measure_hits()
        slow.delay_s = SLOW_S
        dead.stop()
        during_s = load.measure_hits()
        assert during_s < 3 * before_s + 0.3 * patience(), "cache hits are as fast as before"
        load.wait_until(
            lambda: (
                server.metric("image_server_slow", node=slow.address) == 2
                and server.metric("image_server_breaker_open", node=dead.address) == 2
            ),
            "both processes know of both nodes",
        )
        answered = sum(load.statuses.values())
        seen = [requested(node) for node in (slow, dead)]
        load.wait_until(lambda: sum(load.statuses.values()) > answered + 300, "tiles keep flowing")
        assert [requested(node) for node in (slow, dead)] == seen, "only the others are asked"
        assert_shown(server, slow, dead, others)
        slow.delay_s = 0
        dead.start()
        seen = [requested(node) for node in (slow, dead)]
        load.wait_until(
            lambda: all(
                requested(node) > count for node, count in zip((slow, dead), seen, strict=True)
            ),
            "both are used again",
            timeout_s=10,
        )

    asyncio.run(load.run(script))
    assert set(load.statuses) == {200}, load.statuses


def assert_shown(
    server: ServeProcess, slow: ImageNode, dead: ImageNode, others: list[ImageNode]
) -> None:
    """`/admin` and `doctor` show each node: state, load, latency, breaker, last error."""
    key = command(server, "keys", "create", "--admin", "--json")
    token = json.loads(key)["token"]
    overview = fetch(f"{server.private}/admin", Authorization=f"Bearer {token}", timeout_s=120).json
    shown = {each["node"]: each for each in overview["imageServers"] if each["pool"] == "four"}
    assert {node: each["state"] for node, each in shown.items()} == {
        slow.address: "slow",
        dead.address: "away",
        **{node.address: "answers" for node in others},
    }
    assert (shown[dead.address]["breaker"], shown[dead.address]["lastError"]) == (
        "open", "no connection",
    )  # fmt: skip
    assert shown[slow.address]["lastError"] == "canary timeout"
    assert all(shown[node.address]["latencyMs"] > 0 for node in others)
    assert sum(shown[node.address]["inFlight"] for node in others) > 0
    page = fetch(f"{server.private}/admin", Authorization=f"Bearer {token}", Accept="text/html")
    assert dead.address in page.body.decode()
    findings = json.loads(command(server, "doctor", "--json", is_checked=False))
    (finding,) = [each for each in findings if each["check"] == "image server"]
    assert finding["status"] == "broken"
    for text in (f"four: {dead.address} does not answer", "breaker open", "slow, ", "in flight"):
        assert text in finding["detail"]


def command(server: ServeProcess, *words: str, is_checked: bool = True) -> str:
    """The output of a command on the running installation."""
    config = server.data.parent / "config.toml"
    ports = {
        "ORCHESTRATOR_SERVER__PRIVATE_PORT": server.private.rpartition(":")[2],
        "ORCHESTRATOR_SERVER__PORT": server.public.rpartition(":")[2],
    }
    arguments = [str(COMMAND), *words, "--config", str(config), "--data", str(server.data)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(server.data), **PATIENT_DATABASE, **ports},
    )  # fmt: skip
    assert not is_checked or done.returncode == 0, done.stderr
    return done.stdout
