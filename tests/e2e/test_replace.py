"""A replaced original: after one second no process of the host serves the old image."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.e2e.conftest import run_command
from tests.support.patience import patience
from tests.support.serve_process import assert_log_clean, fetch, run_server, wait_until

RED, BLUE = (200, 30, 30), (30, 30, 200)
RESTS = ("0,0,256,256/256,256/0/default.jpg", "full/200,/0/default.jpg", "full/180,/0/default.jpg")


def write_flat_image(path, colour, size=(1400, 1000)):
    Image.new("RGB", size, colour).save(path, quality=90)
    return path


def colour_of(body: bytes) -> str:
    red, _, blue = Image.open(io.BytesIO(body)).convert("RGB").getpixel((20, 20))
    return "red" if red > blue else "blue"


def ingest(server, path, identifier):
    done = run_command("ingest", path, "--id", identifier, "--data", server.data)
    assert done.status == 0, done.out + done.err


@pytest.fixture(scope="module")
def server(module_folder):
    write_flat_image(module_folder / "in-place.jpg", RED)
    settings = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    with run_server(module_folder, workers=2, env=settings) as server:
        server.wait_converted()
        yield server
        assert_log_clean(server.log())


def test_no_process_serves_the_old_image_one_second_after_a_new_ingest(server, tmp_path):
    picture = write_flat_image(tmp_path / "page.jpg", RED)
    ingest(server, picture, "1/1/page")
    base = f"{server.public}/iiif/3/1%2F1%2Fpage"
    # several connections, so that every process has the image in its hot tier
    with ThreadPoolExecutor(8) as pool:
        for rest in RESTS:
            answers = list(pool.map(fetch, [f"{base}/{rest}"] * 24))
            assert {colour_of(a.body) for a in answers} == {"red"}, rest
            assert {a.status for a in answers} == {200}
        assert {a.json["width"] for a in pool.map(fetch, [f"{base}/info.json"] * 24)} == {1400}

        write_flat_image(picture, BLUE, (1200, 900))
        ingest(server, picture, "1/1/page")
        time.sleep(patience())  # the documented limit: one second after the ingest
        for rest in RESTS:
            answers = list(pool.map(fetch, [f"{base}/{rest}"] * 24))
            assert {colour_of(a.body) for a in answers} == {"blue"}, rest
        assert {a.json["width"] for a in pool.map(fetch, [f"{base}/info.json"] * 24)} == {1200}


def test_an_original_replaced_in_the_served_folder_is_served_at_once_and_by_all_in_a_second(
    server, module_folder, tmp_path
):
    """The server gets no notice. It detects at the next use of the source that the file changed:
    the process that uses it answers from the new file, and the others learn of it.
    """
    base = f"{server.public}/iiif/3/1%2F1%2Fin-place"
    assert colour_of(fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").body) == "red"
    fresh = write_flat_image(tmp_path / "new.jpg", BLUE, (1200, 900))
    fresh.rename(module_folder / "in-place.jpg")
    answer = fetch(f"{base}/256,0,256,256/256,256/0/default.jpg")
    assert answer.status == 200
    assert colour_of(answer.body) == "blue"

    def answers_of_all() -> tuple[set[str], set[int]]:
        tiles = [fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").body for _ in range(12)]
        widths = {fetch(f"{base}/info.json").json["width"] for _ in range(12)}
        return set(map(colour_of, tiles)), widths

    wait_until(lambda: answers_of_all() == ({"blue"}, {1200}), "all processes have the new file", 1)
