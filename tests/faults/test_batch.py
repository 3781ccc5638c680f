"""A batch from four kinds of origin, with workers killed by kill -9 all the time and the database
once: every good image is served correctly, every bad one has a recorded fault, the counts are
exact, and nothing is left over.

The short form runs with the other tests, the form with 500 images in `make soak`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from PIL import Image

from orchestrator.catalog.embedded.database import embedded
from tests.support import pictures
from tests.support.four_origins import KINDS, FourOrigins, four_origins
from tests.support.patience import PATIENT_DATABASE, patience
from tests.support.serve_process import (
    COMMAND,
    Reply,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.weed import BUCKET, s3_objects, s3_settings, weed

CODES = {
    "broken": {"damaged"},
    "html": {"not_an_image"},
    "text": {"not_an_image"},
    "empty": {"not_an_image", "origin_unavailable"},
    "missing": {"origin_not_found"},
}
"""The permitted fault codes, by kind of bad file."""
GOOD: tuple[Callable[..., Path], ...] = (
    pictures.jpeg,
    pictures.png,
    pictures.tiff,
    pictures.gray_jpeg,
    pictures.progressive_jpeg,
    pictures.palette_png,
)
PACE = {
    "ORCHESTRATOR_JOBS__HEARTBEAT_S": "0.5",
    "ORCHESTRATOR_JOBS__LEASE_S": "4",
    "ORCHESTRATOR_JOBS__RETRY_FIRST_S": "0.5",
    "ORCHESTRATOR_JOBS__WORKERS": "2",
    "ORCHESTRATOR_INGEST__SWEEP_EVERY_S": "2",
    "ORCHESTRATOR_INGEST__STUCK_AFTER_S": "5",
    "ORCHESTRATOR_INGEST__REMOVE_AFTER_S": "2",
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
}


@dataclass
class Collection:
    """The files of a batch: the good ones, and the bad ones with their kind of fault."""

    folder: Path
    good: dict[str, str] = field(default_factory=dict)
    """File names of good images, by asset name."""
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    """File names of bad images and their kind of fault, by asset name."""

    def files(self) -> dict[str, str]:
        return {**self.good, **{name: file for name, (file, _) in self.bad.items()}}


def make_collection(folder: Path, count: int) -> Collection:
    """Write `count` files; one in ten is bad, with the kinds of fault in turn."""
    folder.mkdir()
    collection = Collection(folder)
    kinds_of_fault = list(CODES)
    for number in range(count):
        name = f"picture-{number:03}"
        if number % 10 == 7:
            fault = kinds_of_fault[number // 10 % len(kinds_of_fault)]
            collection.bad[name] = (_write_bad_file(folder, name, fault), fault)
        else:
            kind = GOOD[number % len(GOOD)]
            size = 450 + number * 37 % 500, 400 + number * 53 % 450
            path = kind(folder / f"{name}.{kind.__name__}", *size, number)
            collection.good[name] = path.name
    return collection


def _write_bad_file(folder: Path, name: str, fault: str) -> str:
    path = folder / f"{name}.jpg"
    if fault == "broken":
        whole = pictures.png(path, 300, 300).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif fault == "html":
        path.write_text("<!DOCTYPE html><html><body>Please log in.</body></html>")
    elif fault == "text":
        path.write_text("nothing to see here\n" * 20)
    elif fault == "empty":
        path.write_bytes(b"")
    return path.name


class Api:
    """A client of the management API with a key."""

    def __init__(self, server: ServeProcess) -> None:
        self._base = server.private
        created = subprocess.run(
            [str(COMMAND), "keys", "create", "1", "--data", str(server.data), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        self._key = json.loads(created.stdout)["token"]

    def __call__(self, method: str, path: str, body: Any = None) -> Reply:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            self._base + path, data=data, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def post_batch(self, origins: FourOrigins, files: Mapping[str, str]) -> int:
        """Post one batch of all files, with the kinds of origin in turn; returns its number."""
        for strategy in origins.strategies():
            created = self("POST", "/customers/1/originStrategies", strategy)
            assert created.status == 201, created.body
        member = [
            {"id": name, "space": 1, "origin": origins.origin(KINDS[position % len(KINDS)], file)}
            for position, (name, file) in enumerate(files.items())
        ]
        posted = self("POST", "/customers/1/queue", {"member": member})
        assert posted.status == 201, posted.body
        return int(posted.json["id"])

    def batch(self, number: int) -> dict[str, Any]:
        """The batch; {} while the database is unavailable."""
        with suppress(OSError):
            shown = self("GET", f"/customers/1/queue/batches/{number}")
            if shown.status == 200:
                return dict(shown.json)
            assert shown.status == 503, shown.body
        return {}


class Workers:
    """Worker processes beside `serve`, which the test kills and starts again."""

    def __init__(self, server: ServeProcess, env: Mapping[str, str], count: int) -> None:
        self._server, self._env = server, env
        self._log = server.log_path.with_suffix(".workers.log")
        self.processes = [self._start() for _ in range(count)]
        self.started, self.killed = count, 0

    def _start(self) -> subprocess.Popen[bytes]:
        words = [str(COMMAND), "worker", "--data", str(self._server.data)]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **PATIENT_DATABASE,
                    **self._env,
                    "STARTED_BY_TEST": self._server.mark,
                },
            )

    def are_started(self) -> bool:
        """True if every process that was ever started has logged that it works."""
        return self.log().count('"worker started"') == self.started

    def kill_one(self, random_numbers: random.Random) -> None:
        """Kill one worker with SIGKILL and start another."""
        victim = self.processes.pop(random_numbers.randrange(len(self.processes)))
        victim.kill()
        victim.wait(10)
        self.killed += 1
        self.processes.append(self._start())
        self.started += 1

    def stop(self) -> None:
        """Send SIGTERM; every worker must exit with status 0."""
        for process in self.processes:
            process.terminate()
        statuses = [process.wait(60) for process in self.processes]
        assert set(statuses) == {0}, f"{statuses}\n{self.log()[-3000:]}"

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def workers(server: ServeProcess, env: Mapping[str, str], count: int) -> Iterator[Workers]:
    team = Workers(server, env, count)
    try:
        wait_until(team.are_started, "every worker is started", 60)
        yield team
        # SIGTERM drains a started worker; one that is still starting would just end.
        wait_until(team.are_started, "every worker is started", 60)
        team.stop()
    finally:
        for process in team.processes:
            process.kill()
            process.wait(10)


def kill_database(server: ServeProcess) -> None:
    """Kill every process of PostgreSQL with SIGKILL; `serve` starts it again."""
    for pid, command in server.processes().items():
        if "postgres" in command:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def run_batch_with_kills(
    folder: Path, *, count: int, kill_every_s: float, database_at: float, timeout_s: float
) -> None:
    """Post a batch of `count` images and check its outcome. The database is killed when the share
    `database_at` of the jobs has ended.
    """
    collection = make_collection(folder / "originals", count)
    with weed(folder / "s3") as endpoint, four_origins(collection.folder, endpoint) as origins:
        env = {**PACE, **s3_settings(endpoint)}
        with run_server(data=folder / "data", env=env) as server:
            api = Api(server)
            random_numbers = random.Random(5)
            with workers(server, env, 2) as team:
                batch = api.post_batch(origins, collection.files())
                _wait_until_finished(
                    api, batch, server, team, random_numbers, kill_every_s, database_at, timeout_s
                )
            _check_batch(api, batch, collection)
            _check_images(server, collection)
            _check_leftovers(server, endpoint, timeout_s=60)
            assert team.killed >= 2
            assert_log_clean(server.log())


def _wait_until_finished(
    api: Api,
    batch: int,
    server: ServeProcess,
    team: Workers,
    random_numbers: random.Random,
    kill_every_s: float,
    database_at: float,
    timeout_s: float,
) -> None:
    deadline = time.monotonic() + timeout_s
    next_kill, is_killed = time.monotonic() + kill_every_s, False
    while True:
        state = api.batch(batch)
        if state.get("finished"):
            assert is_killed, "the batch was done before the database was killed"
            return
        ended = sum(state.get(name, 0) for name in ("completed", "errors"))
        if not is_killed and state and ended >= database_at * state["count"]:
            kill_database(server)
            is_killed = True
        if time.monotonic() >= next_kill and team.are_started():
            team.kill_one(random_numbers)
            next_kill = time.monotonic() + kill_every_s * patience()
        server.check_alive()
        assert time.monotonic() < deadline, f"{state}\n{server.log_tail()}\n{team.log()[-3000:]}"
        time.sleep(0.2)


def _check_batch(api: Api, batch: int, collection: Collection) -> None:
    state = api.batch(batch)
    counts = {name: state[name] for name in ("count", "completed", "errors", "cancelled")}
    assert counts == {
        "count": len(collection.good) + len(collection.bad),
        "completed": len(collection.good),
        "errors": len(collection.bad),
        "cancelled": 0,
    }
    faults = {failure["image"]: failure["fault"] for failure in state["failures"]}
    assert set(faults) == {f"1/1/{name}" for name in collection.bad}
    for name, (_, kind) in collection.bad.items():
        fault = faults[f"1/1/{name}"]
        assert fault["code"] in CODES[kind], (name, kind, fault)
        assert fault["detail"]


def _check_images(server: ServeProcess, collection: Collection) -> None:
    for name, file in collection.good.items():
        base = f"{server.public}/iiif/3/1%2F1%2F{name}"
        original = Image.open(collection.folder / file).convert("RGB")
        info = fetch(f"{base}/info.json")
        assert info.status == 200, (name, info.body)
        assert (info.json["width"], info.json["height"]) == original.size
        reply = fetch(f"{base}/full/max/0/default.jpg")
        assert reply.status == 200, (name, reply.body)
        served = Image.open(io.BytesIO(reply.body)).convert("RGB")
        difference = np.abs(np.asarray(served, np.int16) - np.asarray(original, np.int16)).mean()
        assert difference < 12, (name, difference)
    for name in collection.bad:
        assert fetch(f"{server.public}/iiif/3/1%2F1%2F{name}/info.json").status == 404


def _check_leftovers(server: ServeProcess, endpoint: str, timeout_s: float) -> None:
    """Wait until the store has exactly the objects that the ledger has as live, and scratch is
    empty.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        ledger = asyncio.run(_ledger(server.data))
        stored = set(s3_objects(endpoint, BUCKET))
        scratch = [path for path in (server.data / "scratch").rglob("*") if path.is_file()]
        leftovers = [path for path in scratch if path.suffix != ".lock"]
        live = {key for key, state in ledger.items() if state == "live"}
        if stored == live == set(ledger) and not leftovers:
            assert live
            return
        assert time.monotonic() < deadline, (
            f"orphans {sorted(stored - live)[:5]}, lost {sorted(live - stored)[:5]}, "
            f"not live {sorted(set(ledger) - live)[:5]}, scratch {leftovers[:5]}"
        )
        time.sleep(0.5)


async def _ledger(data: Path) -> dict[str, str]:
    with embedded(data) as database:
        connection = await asyncpg.connect(database.dsn)
        try:
            rows = await connection.fetch("SELECT key, state FROM stored_objects")
        finally:
            await connection.close()
    return {row["key"]: row["state"] for row in rows}


@pytest.mark.timeout(900)
def test_a_batch_survives_kills_of_its_workers_and_of_the_database(tmp_path):
    run_batch_with_kills(tmp_path, count=40, kill_every_s=3, database_at=0.4, timeout_s=700)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_batch_of_500_images_survives_kills_of_its_workers_and_of_the_database(tmp_path):
    run_batch_with_kills(tmp_path, count=500, kill_every_s=10, database_at=0.4, timeout_s=1500)
