"""Roles and maxUnauthorised end to end: `images set`, `token create`, and the answers for anonymous
and authorised clients.
"""

from __future__ import annotations

import io
import json
import socket

import pytest
from PIL import Image

from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.serve_process import assert_log_clean, fetch, run_server, wait_until

BASE = "/iiif/3/1%2F1%2Fsecret"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restricted")
    pictures.jpeg(folder / "secret.jpg", 1800, 1200)
    pictures.jpeg(folder / "other.jpg", 900, 600)
    with run_server(folder, workers=2) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def command(server, *words: str) -> str:
    done = run_command(*words, "--data", server.data)
    assert done.status == 0, done.err
    return done.out


def status(server, rest: str, **headers: str) -> int:
    return fetch(f"{server.public}{BASE}/{rest}", **headers).status


def statuses(server, rest: str) -> set[int]:
    """Of both processes: each learns of a change by itself."""
    return {status(server, rest) for _ in range(16)}


def test_images_above_the_public_edge_need_a_token_with_a_role(server):
    url = server.public + BASE
    assert status(server, "0,0,256,256/256,/0/default.jpg") == 200
    before = fetch(f"{url}/full/max/0/default.jpg")
    assert before.status == 200
    assert "public" in before.headers["cache-control"]

    command(server, "images", "set", "1/1/secret", "--roles", "staff", "--max-unauthorised", "400")
    wait_until(
        lambda: statuses(server, "0,0,256,256/256,/0/default.jpg") == {401},
        "both processes refuse the tile",
        1.5,
    )
    for _ in range(8):  # both processes
        refused = fetch(f"{url}/0,0,256,256/256,/0/default.jpg")
        assert refused.status == 401
        assert refused.headers["cache-control"] == "no-store"
        assert "bearer" in refused.headers["www-authenticate"].lower()

    small = fetch(f"{url}/full/400,/0/default.jpg")
    assert small.status == 200
    assert small.headers["cache-control"].startswith("private")
    largest = fetch(f"{url}/full/max/0/default.jpg")
    assert largest.status == 200
    assert Image.open(io.BytesIO(largest.body)).size == (400, 267)
    info = fetch(f"{url}/info.json")
    assert info.status == 200
    assert info.json["maxWidth"] == 400
    assert all(max(s["width"], s["height"]) <= 400 for s in info.json["sizes"])

    token = json.loads(
        command(server, "token", "create", "--roles", "staff", "--expires", "1h", "--json")
    )["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert status(server, "0,0,256,256/256,/0/default.jpg", **bearer) == 200
    assert (
        status(server, "0,0,256,256/256,/0/default.jpg", Cookie=f"orchestrator-token={token}")
        == 200
    )
    whole = fetch(f"{url}/full/max/0/default.jpg", **bearer)
    assert Image.open(io.BytesIO(whole.body)).size == (1800, 1200)
    assert whole.headers["cache-control"].startswith("private")
    assert "maxWidth" in fetch(f"{url}/info.json", **bearer).json
    assert status(server, "0,0,256,256/256,/0/default.jpg") == 401, (
        "an anonymous client got the tile of the authorised one"
    )

    other = json.loads(
        command(server, "token", "create", "--roles", "visitor", "--expires", "1h", "--json")
    )["token"]
    assert status(server, "0,0,256,256/256,/0/default.jpg", Authorization=f"Bearer {other}") == 401

    command(server, "images", "set", "1/1/secret", "--roles", "", "--max-unauthorised=-1")
    wait_until(
        lambda: statuses(server, "0,0,256,256/256,/0/default.jpg") == {200},
        "both processes serve the tile",
        1.5,
    )
    opened = fetch(f"{url}/full/max/0/default.jpg")
    assert Image.open(io.BytesIO(opened.body)).size == (1800, 1200)


def test_an_asset_with_roles_and_no_public_edge_has_no_public_image(server):
    command(server, "images", "set", "1/1/secret", "--roles", "staff", "--max-unauthorised=-1")
    try:
        wait_until(
            lambda: statuses(server, "info.json") == {401},
            "both processes refuse the document",
            1.5,
        )
        assert status(server, "full/100,/0/default.jpg") == 401
        # A 400 for a region outside would tell the dimensions.
        assert status(server, "9000,9000,10,10/max/0/default.jpg") == 401
        assert fetch(f"{server.public}/thumbs/1/1/secret/full/100,/0/default.jpg").status == 401
        assert fetch(f"{server.public}/thumbs/1/1/secret/info.json").status == 401
    finally:
        command(server, "images", "set", "1/1/secret", "--roles", "", "--max-unauthorised=-1")
        wait_until(
            lambda: statuses(server, "info.json") == {200}, "both processes serve the document", 1.5
        )


def test_max_of_the_thumbnail_service_is_what_its_info_document_says(server):
    for version, size in (("v2", "full"), ("v3", "max")):
        url = f"{server.public}/thumbs/{version}/1/1/secret"
        info = fetch(f"{url}/info.json").json
        limits = info["profile"][1] if version == "v2" else info
        reply = fetch(f"{url}/full/{size}/0/default.jpg")
        assert reply.status == 200
        picture = Image.open(io.BytesIO(reply.body))
        assert picture.size == (limits["maxWidth"], limits["maxHeight"])
        assert picture.size == tuple(info["sizes"][-1].values())
        assert f"/full/{size}/0/default.jpg" in reply.headers["link"]


def test_a_name_that_becomes_an_alias_shows_the_other_asset(server):
    """A name without customer and space is an alias, or else an asset of the default space."""
    url = f"{server.public}/iiif/3/secret/info.json"
    picture = f"{server.public}/iiif/3/secret/full/100,/0/default.jpg"

    def widths() -> set[int]:
        return {fetch(url).json["width"] for _ in range(8)}  # by both processes

    def bodies() -> set[bytes]:
        return {fetch(picture).body for _ in range(8)}

    assert widths() == {1800}
    assert fetch(url).headers["etag"]
    (before,) = bodies()
    wait_until(
        lambda: fetch(picture).headers["x-served-from"] == "memory", "the picture is in memory", 10
    )
    command(server, "images", "set", "1/1/other", "--alias", "secret")
    try:
        wait_until(lambda: widths() == {900}, "the name shows the other asset", 10)
        wait_until(lambda: before not in bodies(), "no process has the old picture", 10)
    finally:
        command(server, "images", "set", "1/1/other", "--alias", "")
    wait_until(lambda: widths() == {1800}, "the name shows the asset again", 10)
    wait_until(lambda: bodies() == {before}, "both processes have the picture again", 10)


@pytest.mark.parametrize("path", ["live", "ready"])
def test_a_probe_may_be_http_1_0_without_a_host(server, path):
    for port in (server.public, server.private):
        host, number = port.removeprefix("http://").split(":")
        with socket.create_connection((host, int(number))) as connection:
            connection.sendall(f"GET /health/{path} HTTP/1.0\r\n\r\n".encode())
            assert connection.recv(100).split()[1] == b"200"


def test_a_missing_thumbnail_does_not_fail_requests_that_may_use_the_source(server):
    """`/thumbs` answers 404, which is remembered for a moment, and `/iiif` cuts the same image from
    the source.
    """
    for stored in server.data.rglob("open/*.jpg*"):
        stored.unlink()
    address = "full/400,/0/default.jpg"
    assert fetch(f"{server.public}/thumbs/1/1/secret/{address}").status == 404
    assert status(server, address) == 200
