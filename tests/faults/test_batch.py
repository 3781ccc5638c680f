"""A batch from four kinds of origin, its workers killed with -9 over and over, the database once:
every good picture is served right, every bad one tells why, counts are exact, nothing is left over.

The short form runs with the other tests, the one of 500 pictures in `make soak`.
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
    "broken": {"unprocessable"},
    "html": {"not_an_image"},
    "text": {"unprocessable", "not_an_image"},
    "empty": {"unprocessable", "not_an_image", "origin_unavailable"},
    "missing": {"origin_not_found"},
}
"""What each sort of bad file is to be told as."""
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
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
}


@dataclass
class Collection:
    """The files of a batch: which are good, and what is wrong with the others."""

    folder: Path
    good: dict[str, str] = field(default_factory=dict)
    """From a picture's name to its file's."""
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    """From a picture's name to its file's and the sort of fault."""

    def files(self) -> dict[str, str]:
        return {**self.good, **{name: file for name, (file, _) in self.bad.items()}}


def collection(folder: Path, count: int) -> Collection:
    """One in twenty is bad, each in another way."""
    folder.mkdir()
    made = Collection(folder)
    sorts = list(CODES)
    for number in range(count):
        name = f"picture-{number:03}"
        if number % 20 == 7:
            sort = sorts[number // 20 % len(sorts)]
            made.bad[name] = (_bad(folder, name, sort), sort)
        else:
            kind = GOOD[number % len(GOOD)]
            size = 700 + number * 37 % 900, 600 + number * 53 % 800
            path = kind(folder / f"{name}.{kind.__name__}", *size, number)
            made.good[name] = path.name
    return made


def _bad(folder: Path, name: str, sort: str) -> str:
    path = folder / f"{name}.jpg"
    if sort == "broken":
        whole = pictures.png(path, 300, 300).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif sort == "html":
        path.write_text("<!DOCTYPE html><html><body>Please log in.</body></html>")
    elif sort == "text":
        path.write_text("nothing to see here\n" * 20)
    elif sort == "empty":
        path.write_bytes(b"")
    return path.name


class Api:
    """The private port, with a key."""

    def __init__(self, server: ServeProcess) -> None:
        self._base = server.private
        made = subprocess.run(
            [str(COMMAND), "keys", "create", "1", "--data", str(server.data), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        self._key = json.loads(made.stdout)["token"]

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
        """One batch of all files, in turn from each kind of origin."""
        for strategy in origins.strategies():
            made = self("POST", "/customers/1/originStrategies", strategy)
            assert made.status == 201, made.body
        member = [
            {"id": name, "space": 1, "origin": origins.origin(KINDS[at % len(KINDS)], file)}
            for at, (name, file) in enumerate(files.items())
        ]
        posted = self("POST", "/customers/1/queue", {"member": member})
        assert posted.status == 201, posted.body
        return int(posted.json["id"])

    def batch(self, number: int) -> dict[str, Any]:
        """The batch; {} while the database is away."""
        with suppress(OSError):
            shown = self("GET", f"/customers/1/queue/batches/{number}")
            if shown.status == 200:
                return dict(shown.json)
            assert shown.status == 503, shown.body
        return {}


class Workers:
    """Worker processes beside `serve`, killed and started again."""

    def __init__(self, server: ServeProcess, env: Mapping[str, str], count: int) -> None:
        self._server, self._env = server, env
        self._log = server.log_path.with_suffix(".workers.log")
        self.running = [self._start() for _ in range(count)]
        self.started, self.killed = count, 0

    def _start(self) -> subprocess.Popen[bytes]:
        words = [str(COMMAND), "worker", "--data", str(self._server.data)]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env, "STARTED_BY_TEST": self._server.mark},
            )

    def are_at_work(self) -> bool:
        """True once all that were ever started have said that they work."""
        return self.log().count('"worker started"') == self.started

    def kill_one(self, dice: random.Random) -> None:
        """kill -9 of a worker, and a new one."""
        victim = self.running.pop(dice.randrange(len(self.running)))
        victim.kill()
        victim.wait(10)
        self.killed += 1
        self.running.append(self._start())
        self.started += 1

    def stop(self) -> None:
        """SIGTERM; each ends with 0."""
        for process in self.running:
            process.terminate()
        ended = [process.wait(60) for process in self.running]
        assert set(ended) == {0}, f"{ended}\n{self.log()[-3000:]}"

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def workers(server: ServeProcess, env: Mapping[str, str], count: int) -> Iterator[Workers]:
    team = Workers(server, env, count)
    try:
        wait_until(team.are_at_work, "every worker is at work", 60)
        yield team
        # SIGTERM drains who works; who still starts just ends.
        wait_until(team.are_at_work, "every worker is at work", 60)
        team.stop()
    finally:
        for process in team.running:
            process.kill()
            process.wait(10)


def kill_database(server: ServeProcess) -> None:
    """kill -9 of every process of PostgreSQL; `serve` starts it again."""
    for pid, command in server.processes().items():
        if "postgres" in command:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def survive(
    place: Path, *, count: int, kill_every_s: float, database_at: float, patience_s: float
) -> None:
    """The whole story, with `count` pictures; the database is killed once that part of them has
    ended.
    """
    made = collection(place / "originals", count)
    with weed(place / "s3") as endpoint, four_origins(made.folder, endpoint) as origins:
        env = {**PACE, **s3_settings(endpoint)}
        with run_server(data=place / "data", env=env) as server:
            api = Api(server)
            dice = random.Random(5)
            with workers(server, env, 2) as team:
                batch = api.post_batch(origins, made.files())
                _until_finished(
                    api, batch, server, team, dice, kill_every_s, database_at, patience_s
                )
            _check_batch(api, batch, made)
            _check_pictures(server, made)
            _check_leftovers(server, endpoint, patience_s=60)
            assert team.killed >= 2
            assert_log_clean(server.log())


def _until_finished(
    api: Api,
    batch: int,
    server: ServeProcess,
    team: Workers,
    dice: random.Random,
    kill_every_s: float,
    database_at: float,
    patience_s: float,
) -> None:
    deadline = time.monotonic() + patience_s
    next_kill, is_killed = time.monotonic() + kill_every_s, False
    while True:
        seen = api.batch(batch)
        if seen.get("finished"):
            assert is_killed, "the batch was done before the database was killed"
            return
        ended = sum(seen.get(name, 0) for name in ("completed", "errors"))
        if not is_killed and seen and ended >= database_at * seen["count"]:
            kill_database(server)
            is_killed = True
        if time.monotonic() >= next_kill and team.are_at_work():
            team.kill_one(dice)
            next_kill = time.monotonic() + kill_every_s
        server.check_alive()
        assert time.monotonic() < deadline, f"{seen}\n{server.log_tail()}\n{team.log()[-3000:]}"
        time.sleep(0.2)


def _check_batch(api: Api, batch: int, made: Collection) -> None:
    seen = api.batch(batch)
    counts = {name: seen[name] for name in ("count", "completed", "errors", "cancelled")}
    assert counts == {
        "count": len(made.good) + len(made.bad),
        "completed": len(made.good),
        "errors": len(made.bad),
        "cancelled": 0,
    }
    told = {failure["image"]: failure["fault"] for failure in seen["failures"]}
    assert set(told) == {f"1/1/{name}" for name in made.bad}
    for name, (_, sort) in made.bad.items():
        fault = told[f"1/1/{name}"]
        assert fault["code"] in CODES[sort], (name, sort, fault)
        assert fault["detail"]


def _check_pictures(server: ServeProcess, made: Collection) -> None:
    for name, file in made.good.items():
        base = f"{server.public}/iiif/3/1%2F1%2F{name}"
        truth = Image.open(made.folder / file).convert("RGB")
        info = fetch(f"{base}/info.json")
        assert info.status == 200, (name, info.body)
        assert (info.json["width"], info.json["height"]) == truth.size
        reply = fetch(f"{base}/full/max/0/default.jpg")
        assert reply.status == 200, (name, reply.body)
        shown = Image.open(io.BytesIO(reply.body)).convert("RGB")
        difference = np.abs(np.asarray(shown, np.int16) - np.asarray(truth, np.int16)).mean()
        assert difference < 12, (name, difference)
    for name in made.bad:
        assert fetch(f"{server.public}/iiif/3/1%2F1%2F{name}/info.json").status == 404


def _check_leftovers(server: ServeProcess, endpoint: str, patience_s: float) -> None:
    """The store holds exactly what the ledger knows as live, and scratch is empty."""
    deadline = time.monotonic() + patience_s
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


def test_a_batch_survives_its_workers_and_the_database(tmp_path):
    survive(tmp_path, count=60, kill_every_s=4, database_at=0.4, patience_s=200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_hundred_pictures_survive_their_workers_and_the_database(tmp_path):
    survive(tmp_path, count=500, kill_every_s=10, database_at=0.4, patience_s=1500)
