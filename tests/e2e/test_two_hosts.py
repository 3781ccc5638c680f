"""Two installations' worth of hosts on one machine: one database, one object store, disk caches of
their own. What changes on one is seen by the other within a second, or made up for when it was not
heard.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from PIL import Image

from orchestrator.cache.disk.file_names import asset_hash
from orchestrator.catalog.embedded.database import embedded
from tests.e2e.conftest import run_command
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)
from tests.support.weed import s3_settings, weed

RED, BLUE = (200, 30, 30), (30, 30, 200)
TILES = [f"{x},0,256,256/256,256/0/default.jpg" for x in (0, 256, 512)]


@dataclass(frozen=True)
class Shared:
    """What both hosts are given."""

    dsn: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Shared]:
    with ExitStack() as stack:
        server = stack.enter_context(embedded(tmp_path_factory.mktemp("postgres")))
        endpoint = stack.enter_context(weed(tmp_path_factory.mktemp("weed")))
        env = {"ORCHESTRATOR_DATABASE__DSN": server.dsn, **s3_settings(endpoint)}
        yield Shared(server.dsn, env)


def flat(path: Path, colour: tuple[int, int, int]) -> Path:
    Image.new("RGB", (1400, 1000), colour).save(path, quality=90)
    return path


def colour_of(body: bytes) -> str:
    red, _, blue = Image.open(io.BytesIO(body)).convert("RGB").getpixel((20, 20))
    return "red" if red > blue else "blue"


def ingest(host: ServeProcess, shared: Shared, picture: Path, identifier: str) -> None:
    done = run_command("ingest", picture, "--id", identifier, "--data", host.data, env=shared.env)
    assert done.status == 0, done.out + done.err


def colours(host: ServeProcess, name: str) -> set[str]:
    answers = [fetch(f"{host.public}/iiif/3/1%2F1%2F{name}/{tile}") for tile in TILES]
    assert {answer.status for answer in answers} == {200}
    return {colour_of(answer.body) for answer in answers}


def cached(host: ServeProcess, identifier: str) -> list[Path]:
    digest = asset_hash(identifier)
    return list((host.data / "cache").glob(f"*/{digest[:2]}/{digest}/*"))


def query(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def test_a_reingest_on_one_host_is_seen_by_the_other_within_a_second(tmp_path, shared):
    picture = flat(tmp_path / "page.jpg", RED)
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(run_server(data=tmp_path / name, env=shared.env))
            for name in ("one", "other")
        )
        ingest(one, shared, picture, "1/1/page")
        for host in (one, other):
            assert colours(host, "page") == colours(host, "page") == {"red"}
            assert cached(host, "1/1/page"), "on each host's own disk"
        old = cached(other, "1/1/page")
        flat(picture, BLUE)
        ingest(one, shared, picture, "1/1/page")
        time.sleep(1.0)  # the promise itself
        assert colours(other, "page") == {"blue"}
        assert colours(one, "page") == {"blue"}
        wait_until(
            lambda: not any(path.exists() for path in old), "the old version's files are gone", 2
        )

        # By prefix, told on one host by the command, done on the other in memory and on disk.
        assert cached(other, "1/1/page")
        before = {path: path.stat().st_mtime_ns for path in cached(other, "1/1/page")}
        done = run_command(
            "cache", "clear", "--prefix", "1/1/pa", "--json", "--data", one.data, env=shared.env
        )
        assert done.status == 0, done.err
        assert json.loads(done.out)["derivatives"] == len(TILES)
        wait_until(lambda: not cached(other, "1/1/page"), "a prefix is cleared within a second", 1)
        time.sleep(1.0)
        renders = other.metric("renders_total")
        assert colours(other, "page") == {"blue"}
        assert other.metric("renders_total") == renders + len(TILES), "made anew, not from memory"
        assert all(before.get(path) != path.stat().st_mtime_ns for path in before if path.exists())

        done = run_command(
            "cache", "clear", "--asset", "1/1/page", "--data", other.data, env=shared.env
        )
        assert "the other hosts are told" in done.out
        wait_until(lambda: not cached(one, "1/1/page"), "an asset is cleared within a second", 1)
        for host in (one, other):
            assert_log_clean(host.log())


def test_what_was_not_heard_is_made_up_for(tmp_path, shared):
    """The connection that listens is cut in the very transaction that restricts a picture, and a
    host that was down finds out what happened meanwhile.
    """
    flat(tmp_path / "a.jpg", RED)
    flat(tmp_path / "b.jpg", RED)
    with run_server(data=tmp_path / "one", env=shared.env) as one:
        for name in ("a", "b"):
            ingest(one, shared, tmp_path / f"{name}.jpg", f"1/1/{name}")
            assert colours(one, name) == {"red"}
        old = cached(one, "1/1/a")
        query(
            shared.dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'orchestrator'",
            "UPDATE assets SET version = nextval('asset_versions'), max_unauthorised = 100,"
            " updated = now() WHERE name = 'a'",  # and no NOTIFY at all
        )
        tile = f"{one.public}/iiif/3/1%2F1%2Fa/{TILES[0]}"
        took_s = wait_until(lambda: fetch(tile).status == 401, "restricted, and given out", 5)
        assert took_s < 2.0
        wait_until(
            lambda: not any(path.exists() for path in old), "the old version's files are gone", 5
        )
        assert "changes caught up" in one.log()
        kept = cached(one, "1/1/b")
        assert kept
    done = run_command("images", "delete", "1/1/b", "--data", tmp_path / "two", env=shared.env)
    assert done.status == 0, done.err
    assert all(path.exists() for path in kept), "nobody told the host that is down"
    with run_server(data=tmp_path / "one", env=shared.env) as one:
        wait_until(
            lambda: not any(path.exists() for path in kept), "a deleted picture's files are gone", 5
        )
        assert fetch(f"{one.public}/iiif/3/1%2F1%2Fb/{TILES[0]}").status == 404


def test_a_restart_finds_the_cache_warm(tmp_path, shared):
    flat(tmp_path / "warm.jpg", RED)
    with run_server(data=tmp_path / "one", env=shared.env) as one:
        ingest(one, shared, tmp_path / "warm.jpg", "1/1/warm")
        assert colours(one, "warm") == {"red"}
    with run_server(data=tmp_path / "one", env=shared.env) as one:
        for tile in TILES:
            answer = fetch(f"{one.public}/iiif/3/1%2F1%2Fwarm/{tile}")
            assert answer.headers["x-served-from"] == "disk"
        assert one.metric("renders_total") == 0
        assert one.metric("cache_lookups_total", cache="derivatives", outcome="hit") >= 0
