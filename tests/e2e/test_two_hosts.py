"""Two hosts, simulated on one machine: one database, one object store, separate disk caches. A
change on one host takes effect on the other within a second. A host that missed the notice catches
up.
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
from tests.support.patience import patience
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
    """The database and the environment that both hosts use."""

    dsn: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Shared]:
    with ExitStack() as stack:
        server = stack.enter_context(embedded(tmp_path_factory.mktemp("postgres")))
        endpoint = stack.enter_context(weed(tmp_path_factory.mktemp("weed")))
        env = {"ORCHESTRATOR_DATABASE__DSN": server.dsn, **s3_settings(endpoint)}
        yield Shared(server.dsn, env)


def write_flat_image(path: Path, colour: tuple[int, int, int]) -> Path:
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


def cached_files(host: ServeProcess, identifier: str) -> list[Path]:
    digest = asset_hash(identifier)
    return list((host.data / "cache").glob(f"*/{digest[:2]}/{digest}/*"))


def tiles_on_disk(host: ServeProcess, identifier: str) -> list[Path]:
    """The cached files of an asset whose tiles were requested, once all of them are stored: clients
    are answered before that.
    """

    def tiles() -> list[Path]:
        return [path for path in cached_files(host, identifier) if path.suffix == ".jpg"]

    wait_until(lambda: len(tiles()) >= len(TILES), "the tiles are stored")
    return cached_files(host, identifier)


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def test_a_new_version_on_one_host_is_served_by_the_other_within_a_second(tmp_path, shared):
    picture = write_flat_image(tmp_path / "page.jpg", RED)
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(run_server(data=tmp_path / name, env=shared.env))
            for name in ("one", "other")
        )
        ingest(one, shared, picture, "1/1/page")
        for host in (one, other):
            assert colours(host, "page") == colours(host, "page") == {"red"}
            assert tiles_on_disk(host, "1/1/page"), "each host has its own disk cache"
        old = [*cached_files(one, "1/1/page"), *cached_files(other, "1/1/page")]
        write_flat_image(picture, BLUE)
        ingest(one, shared, picture, "1/1/page")
        time.sleep(patience())  # the documented limit is a second
        assert colours(other, "page") == {"blue"}
        assert colours(one, "page") == {"blue"}
        wait_until(
            lambda: not any(path.exists() for path in old), "the old version's files are gone", 2
        )

        # Clear a prefix with a command on one host: the other clears its memory and its disk.
        before = {path: path.stat().st_mtime_ns for path in tiles_on_disk(other, "1/1/page")}
        tiles_on_disk(one, "1/1/page")
        done = run_command(
            "cache", "clear", "--prefix", "1/1/pa", "--json", "--data", one.data, env=shared.env
        )
        assert done.status == 0, done.err
        assert json.loads(done.out)["derivatives"] == len(TILES)
        wait_until(
            lambda: not cached_files(other, "1/1/page"), "a prefix is cleared within a second", 1
        )
        time.sleep(patience())
        renders = other.metric("renders_total")
        assert colours(other, "page") == {"blue"}
        assert other.metric("renders_total") == renders + len(TILES), "made again, not from memory"
        assert all(before.get(path) != path.stat().st_mtime_ns for path in before if path.exists())

        done = run_command(
            "cache", "clear", "--asset", "1/1/page", "--data", other.data, env=shared.env
        )
        assert "the other hosts are notified" in done.out
        wait_until(
            lambda: not cached_files(one, "1/1/page"), "an asset is cleared within a second", 1
        )
        for host in (one, other):
            assert_log_clean(host.log())


@dataclass(frozen=True)
class Restarted:
    """A host that was down while an asset was deleted."""

    host: ServeProcess
    of_deleted: list[Path]
    """Files of the asset `1/1/gone` in the caches of this host, when it started again."""


@pytest.fixture(scope="module")
def restarted(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    home = tmp_path_factory.mktemp("restarted")
    with run_server(data=home / "one", env=shared.env) as host:
        for name in ("warm", "gone"):
            ingest(host, shared, write_flat_image(home / f"{name}.jpg", RED), f"1/1/{name}")
            assert colours(host, name) == {"red"}
        kept = tiles_on_disk(host, "1/1/gone")
        tiles_on_disk(host, "1/1/warm")
    done = run_command("images", "delete", "1/1/gone", "--data", home / "two", env=shared.env)
    assert done.status == 0, done.err
    assert all(path.exists() for path in kept), "the host that is down gets no notice"
    with run_server(data=home / "one", env=shared.env) as host:
        yield Restarted(host, kept)


def test_a_host_that_was_down_catches_up_with_a_deletion(restarted: Restarted) -> None:
    wait_until(
        lambda: not any(path.exists() for path in restarted.of_deleted),
        "the files of the deleted asset are gone",
        5,
    )
    address = f"{restarted.host.public}/iiif/3/1%2F1%2Fgone/{TILES[0]}"
    assert fetch(address).status == 404


def test_the_disk_cache_is_warm_after_a_restart(restarted: Restarted) -> None:
    host = restarted.host
    renders = host.metric("renders_total")
    for tile in TILES:
        answer = fetch(f"{host.public}/iiif/3/1%2F1%2Fwarm/{tile}")
        assert answer.headers["x-served-from"] == "disk"
    assert host.metric("renders_total") == renders
    assert host.metric("cache_lookups_total", cache="derivatives", outcome="hit") >= 0


def test_a_host_that_missed_notices_catches_up(
    tmp_path: Path, shared: Shared, restarted: Restarted
) -> None:
    """The listening connection is terminated in the transaction that restricts an asset."""
    host = restarted.host
    ingest(host, shared, write_flat_image(tmp_path / "a.jpg", RED), "1/1/a")
    assert colours(host, "a") == {"red"}
    old = tiles_on_disk(host, "1/1/a")
    execute(
        shared.dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'orchestrator%'",
        "UPDATE assets SET version = nextval('asset_versions'), max_unauthorised = 100,"
        " updated = now() WHERE name = 'a'",  # without a NOTIFY
    )
    tile = f"{host.public}/iiif/3/1%2F1%2Fa/{TILES[0]}"
    took_s = wait_until(lambda: fetch(tile).status == 401, "the asset is restricted", 5)
    assert took_s < 2.0 * patience()
    wait_until(
        lambda: not any(path.exists() for path in old), "the old version's files are gone", 5
    )
    wait_until(lambda: "changes caught up" in host.log(), "the log tells of it", 5)
