"""Hostile and broken images in a served folder: clear errors, and no effect on other requests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import pictures
from tests.support.patience import patience
from tests.support.process_table import resident_bytes
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

GOOD = "0,0,256,256/256,256/0/default.jpg"
MEMORY_GROWTH_MB = 150


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    pictures.jpeg(folder / "good.jpg", 1200, 900)
    for name, make in (
        ("bomb-png.png", pictures.png_bomb),
        ("bomb-gif.gif", pictures.gif_bomb),
        ("bomb-svg.svg", pictures.svg_bomb),
        ("bomb-jp2.jp2", pictures.jp2_bomb),
        ("bomb-tiff.tif", pictures.tiff_bomb),
    ):
        make(folder / name)
    whole = pictures.jp2_tiled(folder / "whole.jp2", 1600, 1200)
    pictures.truncated(folder / "cut-jp2.jp2", whole, 0.4)
    photo = pictures.jpeg(folder / "photo.jpg", 1600, 1200)
    pictures.truncated(folder / "cut-jpeg.jpg", photo, 0.5)
    pictures.html_as_jpeg(folder / "page.jpg")
    pictures.ico(folder / "icon.png", 64, 64)
    with run_server(folder, workers=2) as server:
        yield server
        assert_log_clean(server.log())


def resident_mb(server: ServeProcess) -> float:
    """Resident memory of the processes that serve and decode, without the database."""
    processes = server.processes().items()
    pids = [pid for pid, command in processes if "postgres" not in command]
    return sum(map(resident_bytes, pids)) / 1024**2


REFUSED = {
    "bomb-png": (413, "too_large"),
    "bomb-gif": (413, "too_large"),
    "bomb-svg": (413, "too_large"),
    "bomb-jp2": (413, "too_large"),
    "bomb-tiff": (413, "too_large"),
    "cut-jp2": (422, "damaged"),
    "cut-jpeg": (422, "damaged"),
    "page": (422, "not_an_image"),
    "icon": (422, "unsupported"),
}
"""Status and code of every answer for these files."""


@pytest.mark.parametrize(("name", "expected"), REFUSED.items(), ids=list(REFUSED))
def test_a_broken_image_gets_a_clear_error_and_does_not_affect_other_requests(
    server, name, expected
):
    base = f"{server.public}/iiif/3/1%2F1%2F"
    good = fetch(f"{base}good/{GOOD}")
    assert good.status == 200
    before = resident_mb(server)
    with ThreadPoolExecutor(6) as pool:
        broken = [
            pool.submit(fetch, f"{base}{name}/{rest}")
            for rest in (
                "info.json",
                "full/max/0/default.jpg",
                "0,0,512,512/512,/0/default.png",
                "1000,700,512,512/256,/0/default.jpg",
                "full/200,/0/default.jpg",
            )
        ]
        began = time.monotonic()
        during = [fetch(f"{base}good/{GOOD}") for _ in range(20)]
        waited = time.monotonic() - began
        answers = [future.result() for future in broken]
    assert all(answer.body == good.body for answer in during)
    assert waited < 5 * patience()
    for answer in answers:
        assert (answer.status, answer.json["code"]) == expected, answer.body[:200]
        assert b"Error" not in answer.body
    assert resident_mb(server) - before < MEMORY_GROWTH_MB


def test_every_broken_image_is_recorded_as_failed_with_its_code(server):
    deadline = time.monotonic() + 60 * patience()
    while time.monotonic() < deadline:
        images = {each["id"]: each for each in server.images()}
        if not any(each["state"] in ("registered", "ingesting") for each in images.values()):
            break
        time.sleep(0.2)
    assert images.pop("1/1/good")["state"] == "ready"
    assert images.pop("1/1/whole")["state"] == "ready"
    assert images.pop("1/1/photo")["state"] == "ready"
    found = {name: (each["state"], each["code"]) for name, each in images.items()}
    assert found == {f"1/1/{name}": ("failed", code) for name, (_, code) in REFUSED.items()}
