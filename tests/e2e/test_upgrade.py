"""An installation of version 0.1 is started by this version and loses nothing.

`installation_0_1/` is what a real one left behind when it was killed: its database (`pg_dump
--inserts`; `@FOLDER@` and `@ORIGIN@` stand for the folder it served and the origin of its jobs) and
its object store with the served folder. One batch is done. Of the second batch, two jobs were
claimed by workers that died and two are queued. Two pictures of the folder were registered and not
yet converted.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orchestrator.catalog.embedded.database import embedded
from tests.support.http_server import respond, run_http_server
from tests.support.serve_process import (
    COMMAND,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

LEFT_BEHIND = Path(__file__).parent / "installation_0_1"
ENVIRONMENT = {
    "ORCHESTRATOR_INGEST__ALLOW_PRIVATE_ADDRESSES": "true",
    "ORCHESTRATOR_JOBS__HEARTBEAT_S": "1",
    "ORCHESTRATOR_JOBS__LEASE_S": "5",
}
FOLDER_PICTURES = ("first", "second", "third", "fourth")
WAITING = tuple(f"waiting-{number}" for number in range(4))


def restore_files(place: Path) -> None:
    """Unpack object store and pictures, the pictures with the times that the catalogue knows."""
    subprocess.run(["tar", "-xzf", LEFT_BEHIND / "files.tar.gz", "-C", place], check=True)
    dump = (LEFT_BEHIND / "catalogue.sql").read_text()
    for name, mtime_ns in re.findall(r"'@FOLDER@/([\w.]+)', '(\d+)-\d+'", dump):
        os.utime(place / "pictures" / name, ns=(int(mtime_ns), int(mtime_ns)))


def run_sql(data: Path, statement: str) -> list[asyncpg.Record]:
    """Run SQL in the embedded database of a data directory."""

    async def run(dsn: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn)
        try:
            if statement.startswith("SELECT"):
                return list(await connection.fetch(statement))
            await connection.execute(statement)
            return []
        finally:
            await connection.close()

    with embedded(data) as server:
        return asyncio.run(run(server.dsn))


def restore_database(data: Path, folder: Path, origin: str) -> None:
    dump = (LEFT_BEHIND / "catalogue.sql").read_text()
    dump = dump.replace("@FOLDER@", str(folder)).replace("@ORIGIN@", origin)
    # Lines that begin with a backslash are for psql, not SQL.
    run_sql(data, "\n".join(line for line in dump.split("\n") if not line.startswith("\\")))


def run_command(data: Path, *words: str) -> Any:
    finished = subprocess.run(
        [COMMAND, *words, "--json", "--data", str(data)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(finished.stdout)


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[ServeProcess]:
    """The old installation, started by this version."""
    data, folder = tmp_path / "data", tmp_path / "pictures"
    restore_files(tmp_path)
    data.mkdir()
    (tmp_path / "objects").rename(data / "objects")
    picture = (folder / "first.jpg").read_bytes()
    with run_http_server(lambda request: respond(request, "image/jpeg", picture)) as port:
        restore_database(data, folder, f"http://127.0.0.1:{port}")
        with run_server(folder, data=data, env=ENVIRONMENT) as server:
            yield server


def batch(server: ServeProcess, key: str, number: int) -> dict[str, Any]:
    address = f"{server.private}/customers/1/queue/batches/{number}"
    answer: dict[str, Any] = fetch(address, Authorization=f"Bearer {key}").json
    return answer


def test_an_installation_of_the_version_before_starts_and_loses_nothing(
    upgraded: ServeProcess,
) -> None:
    key = run_command(upgraded.data, "keys", "create", "1")["token"]

    wait_until(lambda: batch(upgraded, key, 2)["finished"], "the waiting jobs done", timeout_s=120)
    waited_for = batch(upgraded, key, 2)
    assert (waited_for["completed"], waited_for["errors"]) == (4, 0)
    assert batch(upgraded, key, 1)["completed"] == 1

    images = {each["id"]: each["state"] for each in upgraded.wait_converted(expected=9)}
    names = (*FOLDER_PICTURES, "done", *WAITING)
    assert images == {f"1/1/{name}": "ready" for name in names}

    answers = {
        asset: fetch(f"{upgraded.public}/iiif/3/{identifier}/full/300,/0/default.jpg").status
        for asset, identifier in upgraded.identifiers().items()
    }
    assert answers == {asset: 401 if asset == "1/1/second" else 200 for asset in images}

    jobs = run_command(upgraded.data, "jobs", "list")
    assert {job["id"]: job["state"] for job in jobs if job["id"] <= 5} == dict.fromkeys(
        range(1, 6), "done"
    )
    rows = run_sql(
        upgraded.data,
        "SELECT name, version, strings FROM assets WHERE name IN ('first', 'waiting-2')",
    )
    kept = {row["name"]: (row["version"], row["strings"][0]) for row in rows}
    assert kept["first"] == (1, ""), "an untouched picture was made again"
    assert kept["waiting-2"][1] == "n 2"
    tables = run_sql(
        upgraded.data, "SELECT tablename FROM pg_tables WHERE tablename ~ '^(pgqueuer|shared_)'"
    )
    assert tables == []
    assert_log_clean(upgraded.log())
