"""Each fault of Cantaloupe as an upstream: the client gets a clean answer, nothing is cached, the
fault is counted, and the image is right as soon as the fault is over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from tests.support import pictures
from tests.support.cantaloupe_double import CantaloupeDouble, cantaloupe_double
from tests.support.cantaloupe_faults import FAULTS
from tests.support.serve_process import (
    Reply,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

SIZE = (2000, 1200)
FIRST_BYTE_S, TOTAL_S = 4.0, 5.0
REASONS = {
    "empty": "length",
    "half": "truncated",
    "poisoned tail": "truncated",
    "poisoned after the end": "truncated",
    "wrong format": "truncated",
    "wrong size": "dimensions",
    "cut chunks": "truncated",
    "wrong length": "truncated",
    "hang": "timeout",
    "drip": "timeout",
    "redirect": "status 303",
    "status 500": "status 500",
    "text": "media type",
}
"""What is counted for each fault. The fault that is not here is repaired without a trace."""


@dataclass
class Installation:
    """The product in front of a double of Cantaloupe."""

    server: ServeProcess
    double: CantaloupeDouble
    picture: Image.Image
    refused: list[str] = field(default_factory=list)
    """The tiles that were answered with an error."""
    _tiles: Iterator[int] = field(default_factory=lambda: iter(range(SIZE[0] - 256)))

    def new_tile(self) -> str:
        """The path of a tile that was never requested."""
        return f"{next(self._tiles)},300,256,256/256,256/0/default.jpg"

    def get(self, path: str, **options: str) -> Reply:
        return fetch(f"{self.server.public}/iiif/3/1%2F1%2Flarge/{path}", **options)

    def is_right(self, path: str) -> bool:
        """True if the tile is answered; it must have the pixels of the picture at its place."""
        reply = self.get(path)
        if reply.status != 200:
            return False
        x = int(path.partition(",")[0])
        tile = Image.open(io.BytesIO(reply.body)).convert("RGB")
        wanted = self.picture.crop((x, 300, x + 256, 556))
        assert tile.size == wanted.size
        assert max(ImageStat.Stat(ImageChops.difference(tile, wanted)).mean) < 6
        return True

    def answers(self) -> bool:
        """True if a tile that was never requested is answered by the image server."""
        reply = self.get(self.new_tile())
        return reply.status == 200 and reply.headers["x-served-from"] == "imageserver"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("cantaloupe")
    folder, data = home / "pictures", home / "data"
    folder.mkdir()
    picture = Image.open(pictures.jpeg(folder / "large.jpg", *SIZE)).convert("RGB")
    with (
        cantaloupe_double(data, find=lambda name: data / name.lstrip("/")) as double,
        run_server(folder, data=data, env=environment(double, data)) as server,
    ):
        server.wait_converted()
        yield Installation(server, double, picture)
        assert_log_clean(server.log())


def environment(double: CantaloupeDouble, data: Path) -> dict[str, str]:
    prefix = "ORCHESTRATOR_IMAGE_SERVER__"
    return {
        f"{prefix}KIND": "cantaloupe",
        f"{prefix}ADDRESSES": double.address,
        f"{prefix}SOURCES_ROOT": str(data),
        f"{prefix}FIRST_BYTE_TIMEOUT_S": str(FIRST_BYTE_S),
        f"{prefix}TOTAL_TIMEOUT_S": str(TOTAL_S),
    }


@pytest.mark.parametrize("fault", REASONS)
def test_an_answer_with_a_fault_is_refused_counted_and_not_cached(
    installation: Installation, fault: str
) -> None:
    double, path = installation.double, installation.new_tile()
    before = installation.server.metric("upstream_refused_total", reason=REASONS[fault])
    double.gate.clear()
    double.fault = fault
    try:
        reply = installation.get(path)
    finally:
        double.fault = ""
        double.gate.set()
    assert (reply.status, reply.json["status"]) == (503, 503)
    assert "retry-after" in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    leaked = b"/opt", b"10.0.0.7", b"Cantaloupe", b"edu.illinois"
    assert not any(word in reply.body for word in leaked)
    assert not {"x-powered-by", "location", "link"} & reply.headers.keys()
    counted = installation.server.metric("upstream_refused_total", reason=REASONS[fault]) - before
    assert counted >= 1
    wait_until(installation.answers, "the image server is asked again")
    installation.refused.append(path)


def test_the_refused_tiles_are_right_when_the_faults_are_over(installation: Installation) -> None:
    assert installation.refused
    for path in installation.refused:
        wait_until(lambda path=path: installation.is_right(path), f"{path} is answered")


def test_a_connection_that_the_server_closed_while_it_was_idle_costs_nothing(
    installation: Installation,
) -> None:
    installation.double.fault = "idle reset"
    try:
        replies = [installation.get(installation.new_tile()) for _ in range(4)]
    finally:
        installation.double.fault = ""
    assert [reply.status for reply in replies] == [200] * 4


def test_every_fault_of_the_double_is_tried() -> None:
    assert REASONS.keys() | {"idle reset"} == FAULTS.keys()


def test_nothing_of_the_clients_request_but_the_image_reaches_the_server(
    installation: Installation,
) -> None:
    double, path = installation.double, installation.new_tile()
    first = len(double.received)
    headers = {
        "Range": "bytes=0-99",
        "If_None_Match": "*",
        "If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT",
        "Cookie": "secret=1",
        "Authorization": "Basic Og==",
        "Accept_Encoding": "gzip",
        "X_Forwarded_Host": "example.org",
    }
    assert installation.get(f"{path}?cache=false&x=1", **headers).status in (200, 206, 304, 401)
    assert installation.get(installation.new_tile(), method="HEAD").status == 200
    asked = [each for each in double.received[first:] if each.target.count("/") == 7]
    assert {each.method for each in asked} == {"GET"}
    assert not any("?" in each.target for each in asked)
    sent = {name.lower() for each in asked for name in each.headers}
    assert sent <= {"host", "accept", "user-agent", "connection", "x-request-id"}


def test_an_image_that_cantaloupe_makes_slowly_is_not_asked_of_it(
    installation: Installation,
) -> None:
    reply = installation.get("full/700,300/0/default.jpg")
    assert (reply.status, Image.open(io.BytesIO(reply.body)).size) == (200, (700, 300))
    assert not [each for each in installation.double.images if "/700,300/" in each]
