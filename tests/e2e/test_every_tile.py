"""Every size and tile in an info document is answered, in its size, with the correct pixels."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

SIZES = [(1, 1), (3, 7), (255, 257), (257, 255), (703, 1003), (1001, 640), (1, 900), (1537, 1025)]
TOLERANCE = 9.0
"""Mean difference per sample between two JPEGs at quality 80 and 90 of the same noisy picture."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, tuple[int, int]]:
    return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for width, height in SIZES:
        pictures.png(folder / f"png-{width}x{height}.png", width, height)
        pictures.jp2_tiled(folder / f"jp2-{width}x{height}.jp2", width, height)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with run_server(folder) as server:
        server.wait_converted(expected=2 * len(SIZES))
        yield server
        assert_log_clean(server.log())


def reference(folder: Path, name: str) -> Image.Image:
    """The original as read by Pillow, which every answer is compared with."""
    return Image.open(next(folder.glob(f"{name}.*"))).convert("RGB")


def difference(answer: bytes, crop: Image.Image) -> float:
    actual = Image.open(io.BytesIO(answer)).convert("RGB")
    expected = crop.resize(actual.size, Image.Resampling.LANCZOS)
    return float(np.abs(np.asarray(actual, np.int16) - np.asarray(expected, np.int16)).mean())


def fetch_image(server: ServeProcess, name: str, rest: str, size: tuple[int, int]) -> bytes:
    answer = fetch(f"{server.public}/iiif/3/1%2F1%2F{name}/{rest}")
    assert answer.status == 200, (name, rest, answer.status, answer.body[:200])
    assert Image.open(io.BytesIO(answer.body)).size == size, (name, rest)
    return answer.body


@pytest.mark.parametrize("kind", ["png", "jp2"])
@pytest.mark.parametrize(("width", "height"), SIZES, ids=[f"{w}x{h}" for w, h in SIZES])
def test_every_advertised_tile_and_size_has_the_pixels_of_its_region(
    server, folder, kind, width, height
):
    name = f"{kind}-{width}x{height}"
    whole = reference(folder, name)
    info = fetch(f"{server.public}/iiif/3/1%2F1%2F{name}/info.json").json
    assert (info["width"], info["height"]) == (width, height)
    for size in info["sizes"]:
        w, h = size["width"], size["height"]
        body = fetch_image(server, name, f"full/{w},{h}/0/default.jpg", (w, h))
        assert difference(body, whole) < TOLERANCE, size
    spec = info["tiles"][0]
    tile_width, tile_height = spec["width"], spec.get("height", spec["width"])
    for factor in spec["scaleFactors"]:
        for y in range(0, height, tile_height * factor):
            for x in range(0, width, tile_width * factor):
                w, h = min(tile_width * factor, width - x), min(tile_height * factor, height - y)
                out = math.ceil(w / factor), math.ceil(h / factor)
                rest = f"{x},{y},{w},{h}/{out[0]},{out[1]}/0/default.jpg"
                body = fetch_image(server, name, rest, out)
                assert difference(body, whole.crop((x, y, x + w, y + h))) < TOLERANCE, rest
