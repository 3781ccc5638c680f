"""A replaced original: after one second no process of the host serves the old image."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from tests.support.serve_process import COMMAND, assert_log_clean, fetch, run_server

RED, BLUE = (200, 30, 30), (30, 30, 200)
RESTS = ("0,0,256,256/256,256/0/default.jpg", "full/200,/0/default.jpg", "full/180,/0/default.jpg")


def write_flat_image(path, colour, size=(1400, 1000)):
    Image.new("RGB", size, colour).save(path, quality=90)
    return path


def colour_of(body: bytes) -> str:
    red, _, blue = Image.open(io.BytesIO(body)).convert("RGB").getpixel((20, 20))
    return "red" if red > blue else "blue"


def ingest(server, path, identifier):
    done = subprocess.run(
        [str(COMMAND), "ingest", str(path), "--id", identifier, "--data", str(server.data)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_process_serves_the_old_image_one_second_after_a_new_ingest(tmp_path):
    picture = write_flat_image(tmp_path / "page.jpg", RED)
    with run_server(workers=3, data=tmp_path / "data") as server:
        ingest(server, picture, "1/1/page")
        base = f"{server.public}/iiif/3/1%2F1%2Fpage"
        with ThreadPoolExecutor(
            8
        ) as pool:  # several connections, so that every process has the image in its hot tier
            for rest in RESTS:
                answers = list(pool.map(fetch, [f"{base}/{rest}"] * 24))
                assert {colour_of(a.body) for a in answers} == {"red"}, rest
                assert {a.status for a in answers} == {200}
            assert {a.json["width"] for a in pool.map(fetch, [f"{base}/info.json"] * 24)} == {1400}

            write_flat_image(picture, BLUE, (1200, 900))
            ingest(server, picture, "1/1/page")
            time.sleep(1.0)  # the documented limit: one second after the ingest
            for rest in RESTS:
                answers = list(pool.map(fetch, [f"{base}/{rest}"] * 24))
                assert {colour_of(a.body) for a in answers} == {"blue"}, rest
            assert {a.json["width"] for a in pool.map(fetch, [f"{base}/info.json"] * 24)} == {1200}
        assert_log_clean(server.log())


def test_an_original_replaced_in_the_served_folder_is_served_at_once(tmp_path):
    """The server gets no notice. It detects at the next use of the source that the file changed."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    source = write_flat_image(tmp_path / "new.jpg", BLUE, (1200, 900))
    write_flat_image(folder / "page.jpg", RED)
    settings = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    with run_server(folder, workers=2, data=tmp_path / "data", env=settings) as server:
        server.wait_converted()
        base = f"{server.public}/iiif/3/1%2F1%2Fpage"
        assert colour_of(fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").body) == "red"
        fresh = folder / ".new"
        shutil.copy(source, fresh)
        fresh.rename(folder / "page.jpg")
        answer = fetch(f"{base}/256,0,256,256/256,256/0/default.jpg")
        assert answer.status == 200
        assert colour_of(answer.body) == "blue"
        for _ in range(12):
            assert colour_of(fetch(f"{base}/0,0,256,256/256,256/0/default.jpg").body) == "blue"
            assert fetch(f"{base}/info.json").json["width"] == 1200
        assert_log_clean(server.log())
