"""What costs less to make than to store is not stored, and does not pass the application."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.tiff.pyramid import read_picture
from orchestrator.imaging.tiff.stored_tiles import StoredTiles
from orchestrator.model import SourceKind
from tests.support.scenes import write_pyramid
from tests.support.serve_process import Reply, ServeProcess, fetch, run_server, wait_until

SIZE = (1600, 1200)
ENV = {
    "ORCHESTRATOR_CACHE__MEMORY": "0",
    "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
}
TILES = [(256 * column, 256 * row) for column in range(4) for row in range(2)]
REGIONS = [f"{x},17,300,300/300,300/0/default.jpg" for x in (0, 40, 80)]
"""They are stored: cutting them costs more than that."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cheap") / "pictures"
    folder.mkdir()
    for seed, name in enumerate(("steady", "changing")):
        write_pyramid(folder / f"{name}.tif", *SIZE, seed=seed)
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[ServeProcess]:
    with run_server(folder, data=folder.parent / "data", env=ENV) as server:
        server.wait_converted(expected=2)
        for name in ("steady", "changing"):  # the first request reads the directories of the file
            ask(server, "0,0,40,40/40,40/0/default.jpg", name)
        # An answer is stored unless the process knows the source; it is stored after it is sent.
        wait_until(lambda: len(cached(server)) == 2, "the first answers are stored")
        yield server


def ask(server: ServeProcess, image: str, name: str = "steady", **headers: str) -> Reply:
    """The answer of the application: it gets the first request of a connection."""
    answer = fetch(f"{server.public}/iiif/3/1%2F1%2F{name}/{image}", **headers)
    assert answer.status == 200, answer.body
    assert "asset;dur=" in answer.headers["server-timing"], "it looks the asset up"
    return answer


def ask_hot_lane(server: ServeProcess, image: str, name: str = "steady") -> Reply:
    """The answer of the hot lane. It answers once aiohttp waits for the next request of the
    connection.
    """
    connection = HTTPConnection(server.public.removeprefix("http://"), timeout=60)
    replies: list[Reply] = []

    def is_direct() -> bool:
        connection.request("GET", f"/iiif/3/1%2F1%2F{name}/{image}")
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        replies.append(Reply(response.status, headers, response.read()))
        return "asset;dur=" not in headers.get("server-timing", "asset;dur=")

    try:
        wait_until(is_direct, "the hot lane answers")
    finally:
        connection.close()
    assert replies[-1].status == 200
    return replies[-1]


def tile(x: int, y: int) -> str:
    return f"{x},{y},256,256/256,256/0/default.jpg"


def cached(server: ServeProcess) -> set[Path]:
    return set(server.data.glob("cache/derivatives/??/*/*"))


def stored_jpeg(path: Path, x: int, y: int) -> bytes | None:
    tiles = StoredTiles(str(path), read_picture(path))
    kind = SourceKind.PYRAMID_TIFF
    region = (x, y, 256, 256)
    return tiles.read_jpeg(Recipe(str(path), kind, SIZE, 2, region=region, size=(256, 256)))


def test_a_tile_that_a_pyramid_holds_ready_is_passed_on_and_not_stored(site, folder) -> None:
    before = cached(site), site.metric("unstored_total", why="stored_tile")
    for x, y in TILES:
        answer = ask_hot_lane(site, tile(x, y))
        assert answer.headers["x-served-from"] == "imageserver"
        assert answer.body == stored_jpeg(folder / "steady.tif", x, y)
    assert cached(site) == before[0]
    count = before[1] + len(TILES)
    wait_until(lambda: site.metric("unstored_total", why="stored_tile") >= count, "counted")


def test_the_application_answers_the_same_tile_with_the_same_bytes(site) -> None:
    before = cached(site)
    direct, ordinary = ask_hot_lane(site, tile(512, 256)), ask(site, tile(512, 256))
    assert (direct.body, direct.headers["etag"]) == (ordinary.body, ordinary.headers["etag"])
    assert cached(site) == before


def test_a_small_region_is_not_stored_and_a_larger_one_is(site) -> None:
    before = cached(site)
    for _ in range(2):
        answer = ask(site, "300,300,100,100/100,100/0/default.jpg")
        assert answer.headers["x-served-from"] == "imageserver"
    assert cached(site) == before
    wait_until(lambda: site.metric("unstored_total", why="cheap") >= 2, "counted")
    ask(site, REGIONS[0])
    wait_until(lambda: len(cached(site)) == len(before) + 1, "the larger one is stored")
    assert ask_hot_lane(site, REGIONS[0]).headers["x-served-from"] == "disk"
    assert len(cached(site)) == len(before) + 1, "only that one"


def test_a_replaced_pyramid_gives_no_tile_of_the_old_one(site, folder) -> None:
    path = folder / "changing.tif"
    old = ask_hot_lane(site, tile(256, 256), "changing")
    write_pyramid(folder.parent / "new.tif", *SIZE, seed=9)
    (folder.parent / "new.tif").replace(path)
    answer = ask_hot_lane(site, tile(256, 256), "changing")
    assert answer.body == stored_jpeg(path, 256, 256) != old.body


def test_after_a_restart_files_are_sent_without_the_application(folder) -> None:
    data = folder.parent / "restarted"
    with run_server(folder, data=data, env=ENV) as server:
        server.wait_converted(expected=2)
        bodies = {image: ask(server, image).body for image in REGIONS}
        wait_until(lambda: len(cached(server)) >= len(REGIONS), "all are stored")
    with run_server(folder, data=data, env=ENV) as server:
        server.wait_converted(expected=2)
        fetch(f"{server.public}/iiif/3/1%2F1%2Fsteady/info.json")  # reads the asset snapshot
        for image, body in bodies.items():
            answer = ask_hot_lane(server, image)
            assert (answer.headers["x-served-from"], answer.body) == ("disk", body)
        assert server.metric("renders_total") == 0
