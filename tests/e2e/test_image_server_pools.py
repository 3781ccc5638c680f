"""Two pools of Cantaloupe that keep all they can: one reads the source cache, one the objects. What
viewers request is never decoded at needless resolution, and what has changed is never answered from
the caches of a node.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.cantaloupe_double import CREDENTIALS, CantaloupeDouble, cantaloupe_double
from tests.support.cantaloupe_fixture import cantaloupe
from tests.support.patience import patience
from tests.support.serve_process import (
    Reply,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

RED, BLUE = (200, 30, 30), (30, 30, 200)
ZOOM = (3001, 2003)
CHANGED_S = 1.0
"""Time after which no cache has anything old: a second, and what a busy machine adds."""


@dataclass
class Installation:
    """The product, the nodes that read its files, and the node that reads its objects."""

    server: ServeProcess
    folder: Path
    near: list[CantaloupeDouble]
    whole: CantaloupeDouble

    @property
    def nodes(self) -> list[CantaloupeDouble]:
        return [*self.near, self.whole]

    def get(self, name: str, rest: str) -> Reply:
        return fetch(f"{self.server.public}/iiif/3/1%2F1%2F{name}/{rest}")

    def seen(self, name: str, *rests: str) -> set[tuple[str, int]]:
        """The colour of the pictures and the width of the asset as both processes answer: each
        learns of a change by itself.
        """
        return {
            (colour_of(self.get(name, rest).body), self.get(name, "info.json").json["width"])
            for rest in rests * 12
        }

    def ingest(self, path: Path) -> None:
        words = ("ingest", path, "--id", f"1/1/{path.stem}", "--data", self.server.data)
        done = run_command(*words, timeout_s=300)
        assert done.status == 0, done.err


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("pools")
    folder, data = home / "pictures", home / "data"
    folder.mkdir()
    pictures.jp2_untiled(folder / "zoom.jp2", *ZOOM)
    flat_pyramid(folder / "page.tif", RED, (1400, 1000))
    with ExitStack() as stack:
        near = [
            stack.enter_context(
                cantaloupe_double(home, find=lambda name: Path(f"/{name}"), keeps_derivatives=True)
            )
            for _ in range(2)
        ]
        whole = stack.enter_context(
            cantaloupe_double(home, find=lambda key: object_file(data, key), keeps_derivatives=True)
        )
        server = stack.enter_context(
            run_server(folder, workers=2, data=data, arguments=configuration(home, near, whole))
        )
        server.wait_converted(expected=2)
        yield Installation(server, folder, near, whole)
        assert_log_clean(server.log())


def object_file(data: Path, key: str) -> Path | None:
    """The file in which the object store on this disk has an object."""
    found = data.glob(f"objects/{key}=*")
    return next((each for each in found if each.suffix == Path(key).suffix), None)


def configuration(
    home: Path, near: list[CantaloupeDouble], whole: CantaloupeDouble
) -> tuple[str, ...]:
    user, secret = CREDENTIALS
    purge = f'purge_user = "{user}"\npurge_secret = "{secret}"\n'
    path = home / "pools.toml"
    path.write_text(
        f'[image_server]\nkind = "cantaloupe"\naddresses = {[each.address for each in near]}\n'
        f'sources_root = "/"\ninfo = "pool"\n{purge}'
        f'[image_server.pools.whole]\naddresses = ["{whole.address}"]\nreads = "objects"\n{purge}'
        '[[image_server.rules]]\nrequests = ["full"]\npool = "whole"\n'
    )
    return ("--config", str(path))


def flat(path: Path, colour: tuple[int, int, int], size: tuple[int, int]) -> Path:
    Image.new("RGB", size, colour).save(path, quality=90)
    return path


def flat_pyramid(path: Path, colour: tuple[int, int, int], size: tuple[int, int]) -> Path:
    """A tile-ready file, which is served where it is."""
    import pyvips

    image = (pyvips.Image.black(*size, bands=3) + colour).cast("uchar")
    image.copy(interpretation="srgb").tiffsave(
        str(path), tile=True, pyramid=True, compression="jpeg", tile_width=256, tile_height=256
    )
    return path


def colour_of(body: bytes) -> str:
    red, _, blue = Image.open(io.BytesIO(body)).convert("RGB").getpixel((20, 20))
    return "red" if red > blue else "blue"


def tiles_of(document: dict) -> list[tuple[str, tuple[int, int]]]:
    """Every tile of an info document as OpenSeadragon requests it, with its size."""
    width, height = document["width"], document["height"]
    found = []
    for factor in document["tiles"][0]["scaleFactors"]:
        span = document["tiles"][0]["width"] * factor
        for x in range(0, width, span):
            for y in range(0, height, span):
                w, h = min(span, width - x), min(span, height - y)
                size = math.ceil(w / factor), math.ceil(h / factor)
                region = "full" if (w, h) == (width, height) else f"{x},{y},{w},{h}"
                found.append((f"{region}/{size[0]},{size[1]}/0/default.jpg", size))
    return found


def test_an_image_server_gets_the_id_of_the_request_and_the_trace_of_the_client(
    installation: Installation,
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    address = f"{installation.server.public}/iiif/3/1%2F1%2Fpage/512,256,256,256/256,/0/default.jpg"
    answer = fetch(address, X_Request_Id="abc-1", traceparent=trace)
    assert (answer.status, answer.headers["x-served-from"]) == (200, "imageserver")
    received = [each for node in installation.nodes for each in node.received]
    seen = [each for each in received if each.headers.get("X-Request-ID") == "abc-1"]
    assert [each for each in seen if "/512,256,256,256/" in each.target]
    assert {each.headers.get("traceparent") for each in seen} == {trace}


def test_no_tile_of_a_zoom_session_is_decoded_at_needless_resolution(
    installation: Installation,
) -> None:
    reply = installation.get("zoom", "info.json")
    tiles = tiles_of(reply.json)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda tile: installation.get("zoom", tile[0]), tiles))
    assert {answer.status for answer in answers} == {200}
    for (path, size), answer in zip(tiles, answers, strict=True):
        assert Image.open(io.BytesIO(answer.body)).size == size, path
    decodes = [decode for node in installation.nodes for decode in node.decodes]
    assert len(decodes) > len(tiles) // 2, "most tiles are made by Cantaloupe"
    assert [decode for decode in decodes if decode.is_wasteful] == []


def test_the_tiles_of_the_pool_are_in_the_info_document_and_all_else_is_ours(
    installation: Installation,
) -> None:
    document = installation.get("zoom", "info.json").json
    asked = [target for node in installation.near for target in node.documents if "zoom" in target]
    assert len(asked) == 1, "once for all requests and processes"
    assert (document["tiles"][0]["width"], document["tiles"][0]["height"]) == (512, 512)
    assert document["tiles"][0]["scaleFactors"] == [1, 2, 4, 8]
    assert document["id"] == f"{installation.server.public}/iiif/3/1%2F1%2Fzoom"
    assert document["maxWidth"] == 12_000
    assert "webp" in document["extraFormats"]
    sizes = {(each["width"], each["height"]) for each in document["sizes"]}
    assert (1000, 667) in sizes, "of our thumbnails"


def test_a_file_that_was_replaced_where_it_is_is_not_answered_from_the_caches_of_a_node(
    installation: Installation,
) -> None:
    tile = "0,0,256,256/256,256/0/default.jpg"
    assert colour_of(installation.get("page", tile).body) == "red"
    assert installation.get("page", "info.json").json["width"] == 1400
    fresh = flat_pyramid(installation.folder / ".new.tif", BLUE, (1200, 900))
    fresh.rename(installation.folder / "page.tif")
    # The server detects the change at the next use of the source.
    answer = installation.get("page", "256,0,256,256/256,256/0/default.jpg")
    assert (answer.status, colour_of(answer.body)) == (200, "blue")
    wait_until(
        lambda: installation.seen("page", tile) == {("blue", 1200)},
        "both processes have the new file",
        CHANGED_S,
    )
    edge = installation.get("page", "1024,768,176,132/176,132/0/default.jpg")
    assert Image.open(io.BytesIO(edge.body)).size == (176, 132), "cut by the new dimensions"
    assert any("page.tif" in name for node in installation.near for name in node.purged)


def test_after_a_change_no_node_has_old_pixels_or_an_old_info_document(
    installation: Installation, tmp_path: Path
) -> None:
    rests = ("0,0,256,256/256,256/0/default.jpg", "full/1100,/0/default.jpg")
    installation.ingest(flat(tmp_path / "leaf.jpg", RED, (1400, 1000)))
    for rest in rests:
        assert colour_of(installation.get("leaf", rest).body) == "red"
    assert installation.get("leaf", "info.json").json["width"] == 1400
    assert any("leaf" in target for target in installation.whole.images), "reads the object"
    old = {name for node in installation.nodes for name in node.identifiers if "leaf" in name}
    assert old
    installation.ingest(flat(tmp_path / "leaf.jpg", BLUE, (1200, 900)))
    took_s = wait_until(
        lambda: all(old.isdisjoint(node.identifiers) for node in installation.nodes),
        f"the caches of all nodes are purged of {old}",
    )
    assert took_s < CHANGED_S * patience()
    wait_until(
        lambda: installation.seen("leaf", *rests) == {("blue", 1200)},
        "both processes have the new version",
        CHANGED_S,
    )
    assert installation.server.metric("image_server_purges_total", outcome="failed") == 0


@pytest.mark.skipif("CANTALOUPE_URL" not in os.environ, reason="CANTALOUPE_URL is not set")
def test_a_real_cantaloupe_makes_the_tiles_of_a_zoom_session_in_a_short_time(
    tmp_path: Path,
) -> None:
    """The longest tile takes a tenth of the time of one decode at full resolution."""
    with cantaloupe(tmp_path) as real:
        home = real.folder / f"orchestrator-{tmp_path.name}"
        folder = home / "pictures"
        folder.mkdir(parents=True)
        pictures.jp2_untiled(folder / "zoom.jp2", 6000, 4000)
        prefix = "ORCHESTRATOR_IMAGE_SERVER__"
        env = {
            f"{prefix}KIND": "cantaloupe",
            f"{prefix}ADDRESSES": real.address,
            f"{prefix}SOURCES_ROOT": str(real.folder),
        }
        try:
            with run_server(folder, data=home / "data", env=env) as server:
                server.wait_converted()
                base = f"{server.public}/iiif/3/1%2F1%2Fzoom"
                for path, size in tiles_of(fetch(f"{base}/info.json").json):
                    began = time.monotonic()
                    answer = fetch(f"{base}/{path}")
                    assert time.monotonic() - began < 2 * patience(), path
                    assert answer.status == 200, path
                    assert Image.open(io.BytesIO(answer.body)).size == size, path
                assert server.metric("upstream_refused_total") == 0
        finally:
            shutil.rmtree(home, ignore_errors=True)
