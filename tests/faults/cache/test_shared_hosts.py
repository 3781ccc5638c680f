"""Two hosts, one source folder: one quota, one owner, and right bytes throughout its death."""

from __future__ import annotations

import io
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.catalog.embedded.database import embedded
from tests.e2e.conftest import run_command
from tests.support.caches import du
from tests.support.running import Running, assert_log_clean, fetch, running, start
from tests.support.weed import s3_settings, weed

QUOTA = 12_000_000  # of which 1 MB is for folders
PICTURES = 8
TAKEN_OVER = '"shared folder taken over"'


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        server = stack.enter_context(embedded(tmp_path_factory.mktemp("postgres")))
        endpoint = stack.enter_context(weed(tmp_path_factory.mktemp("weed")))
        yield {
            "ORCHESTRATOR_DATABASE__DSN": server.dsn,
            **s3_settings(endpoint),
            "ORCHESTRATOR_CACHE__SOURCES_SHARED": "true",
            "ORCHESTRATOR_CACHE__SOURCES_QUOTA": str(QUOTA),
            "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
            "ORCHESTRATOR_CACHE__LEASE_S": "1",
            "ORCHESTRATOR_CACHE__MEMORY": "0",
        }


def noisy(path: Path, is_red: bool, seed: int) -> Path:
    """A picture that does not compress, more red than blue or the other way round."""
    pixels = np.random.default_rng(seed).integers(0, 120, (1000, 1400, 3), dtype=np.uint8)
    pixels[..., 0 if is_red else 2] += 120
    Image.fromarray(pixels).save(path, quality=90)
    return path


def is_red(body: bytes) -> bool:
    red, _, blue = Image.open(io.BytesIO(body)).convert("RGB").resize((1, 1)).getpixel((0, 0))
    return bool(red > blue)


def ingest(host: Running, env: dict[str, str], folder: Path) -> None:
    words = ("ingest", folder, "--id", "1/1", "--policy", "fastest")
    done = run_command(*words, "--data", host.data, env=env)
    assert done.status == 0, done.out + done.err


def tile(host: Running, number: int, x: int, y: int) -> str:
    return f"{host.public}/iiif/3/1%2F1%2Fp{number}/{x},{y},128,128/128,/0/default.jpg"


class Visitors:
    """Threads that ask hosts for tiles they have not asked for, and note whatever is not right."""

    def __init__(self, hosts: list[Running]) -> None:
        self.hosts = hosts
        self.wrong: list[str] = []
        self.served = 0
        self._stop = threading.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            host, number = dice.choice(self.hosts), dice.randrange(PICTURES)
            url = tile(host, number, dice.randrange(1200), dice.randrange(800))
            try:
                answer = fetch(url)
            except OSError:
                if host in self.hosts:  # else it was killed meanwhile
                    self.wrong.append(f"no answer of {url}")
                continue
            if answer.status != 200 or is_red(answer.body) != (number % 2 == 0):
                self.wrong.append(f"{answer.status} {url} {answer.body[:200]!r}")
            self.served += 1


@contextmanager
def sampled(root: Path) -> Iterator[list[int]]:
    """What `du` finds in the meantime."""
    samples: list[int] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.01):
            samples.append(du(root))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def until_logged(host: Running, text: str, times: int, timeout_s: float) -> float:
    began = time.monotonic()
    while host.log().count(text) < times:
        assert time.monotonic() - began < timeout_s, f"{text}\n{host.log_tail()}"
        time.sleep(0.02)
    return time.monotonic() - began


def test_one_quota_one_owner_and_right_bytes_when_the_owner_is_killed(
    tmp_path: Path, env: dict[str, str]
) -> None:
    root = tmp_path / "nas" / "sources"
    folder = tmp_path / "pictures"
    folder.mkdir()
    env = {**env, "ORCHESTRATOR_CACHE__SOURCES_FOLDER": str(root)}
    owner = start(None, workers=2, data=tmp_path / "owner", env=env)
    try:
        until_logged(owner, TAKEN_OVER, 1, 10)
        with running(workers=1, data=tmp_path / "other", env=env) as other:
            for number in range(PICTURES):
                noisy(folder / f"p{number}.jpg", number % 2 == 0, number)
            ingest(other, env, folder)
            with sampled(root) as samples:
                visitors = Visitors([owner, other])
                with visitors.asking():
                    time.sleep(6)
                    visitors.hosts = [other]
                    for pid in owner.processes():
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    took_s = until_logged(other, TAKEN_OVER, 1, 10)
                    time.sleep(5)
            assert visitors.wrong == []
            assert visitors.served > 50
            assert took_s < 6
            assert max(samples) <= QUOTA
            assert max(samples) > QUOTA / 2
            assert owner.log().count(TAKEN_OVER) == other.log().count(TAKEN_OVER) == 1
            done = run_command("cache", "verify", "--data", other.data, "--json", env=env)
            assert done.status == 0, done.out
            sources = next(each for each in done.json if each["name"] == "sources")
            assert sources["files"] > 0
            deadline = time.monotonic() + 5
            while list((root / ".temp").iterdir()) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert list((root / ".temp").iterdir()) == [], "what the dead were writing is gone"
            assert_log_clean(other.log())
    finally:
        owner.stop(graceful=False)


def test_each_source_is_copied_once_for_both_and_a_reingest_is_seen_within_a_second(
    tmp_path: Path, env: dict[str, str]
) -> None:
    root = tmp_path / "nas" / "sources"
    folder = tmp_path / "pictures"
    folder.mkdir()
    env = {**env, "ORCHESTRATOR_CACHE__SOURCES_FOLDER": str(root)}
    env["ORCHESTRATOR_CACHE__SOURCES_QUOTA"] = "100MB"
    with ExitStack() as stack:
        hosts = [stack.enter_context(running(data=tmp_path / name, env=env)) for name in ("a", "b")]
        for number in range(4):
            noisy(folder / f"p{number}.jpg", True, number)
        ingest(hosts[0], env, folder)
        for number, (x, host) in itertools.product(range(4), enumerate(hosts * 3)):
            assert is_red(fetch(tile(host, number, x * 128, 0)).body)
        assert sum(host.metric("source_copies_total") for host in hosts) == 4
        assert [host.metric("source_copy_failures_total") for host in hosts] == [0, 0]

        noisy(folder / "p0.jpg", False, 99)
        ingest(hosts[0], env, folder)
        time.sleep(1.0)  # the promise itself
        for x, host in enumerate(hosts * 2):
            assert not is_red(fetch(tile(host, 0, x * 128, 0)).body)
        assert sum(host.metric("source_copies_total") for host in hosts) == 5
        deadline = time.monotonic() + 10
        while len(sources := list(root.glob("??/*/*"))) > 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(sources) == 4, "the old version is gone"
        owners = [host.log().count(TAKEN_OVER) for host in hosts]
        assert sorted(owners) == [0, 1]
        for host in hosts:
            assert_log_clean(host.log())
