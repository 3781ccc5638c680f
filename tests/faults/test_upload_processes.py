"""Uploads with several processes, all of which are killed (`kill -9`) while pictures are uploaded
and published.
"""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.support.serve_process import ServeProcess, fetch, start_server, wait_until

SECRET = "a-secret-for-publishing"
CROP, WHOLE = (60, 40), (300, 200)


def environment(folder: Path) -> dict[str, str]:
    """The variables of the replaced service."""
    return {
        "STORAGE_BACKEND": "local",
        "TEMP_FOLDER": str(folder / "temp"),
        "INCOMING_FOLDER": str(folder / "incoming"),
        "ACTIVE_FOLDER": str(folder / "active"),
        "INCOMING_BUCKET": "",
        "API_SECRET_KEY": SECRET,
        "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
    }


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", WHOLE, (seed * 20 % 256, 90, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def send(url: str, body: bytes, media_type: str) -> tuple[int, dict[str, object]]:
    """POST; the status and the document of the answer. Raises OSError without one."""
    request = urllib.request.Request(url, body, {"Content-Type": media_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def upload(server: ServeProcess, body: bytes) -> str:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    form = part + body + b"\r\n--b--\r\n"
    status, document = send(f"{server.public}/upload", form, "multipart/form-data; boundary=b")
    assert status == 200, document
    return str(document["filename"])


def publish(server: ServeProcess, filename: str) -> int:
    crop = f"{CROP[0]}x{CROP[1]}+10+10"
    form = urllib.parse.urlencode({"secret": SECRET, "filename": filename, "crop": crop})
    status, _ = send(f"{server.public}/publish", form.encode(), "application/x-www-form-urlencoded")
    return status


def sizes(server: ServeProcess, filename: str) -> set[tuple[int, int] | int]:
    """The sizes of original and largest version, or their statuses."""
    found: set[tuple[int, int] | int] = set()
    for name in (filename, filename.replace(".", "BI.")):
        reply = fetch(f"{server.public}/active/{name}")
        is_found = reply.status == 200
        found.add(Image.open(io.BytesIO(reply.body)).size if is_found else reply.status)
    return found


@pytest.mark.soak
def test_pictures_survive_the_death_of_all_processes(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    data, names = tmp_path / "data", list[str]()
    for seed in range(5):
        server = start_server(None, workers=2, data=data, env=settings)
        try:
            for name in names:  # of the round before: all of it, or nothing
                assert sizes(server, name) in ({404}, {WHOLE, CROP})
                assert publish(server, name) == 200
                assert sizes(server, name) == {WHOLE, CROP}
                image = f"{server.public}/iiif/3/1%2F1%2F{name.partition('.')[0]}/info.json"
                assert fetch(image).json["width"] == WHOLE[0]
            wait_until(
                lambda: (
                    not any(
                        path.is_file() and path.suffix != ".lock"
                        for path in (tmp_path / "temp").rglob("*")
                    )
                ),
                "work folder empty",
                30,
            )
            names = [upload(server, jpeg(seed)) for _ in range(6)]
            stop = threading.Event()

            def upload_more(server: ServeProcess = server, stop: threading.Event = stop) -> None:
                with suppress(OSError, AssertionError, ValueError):
                    while not stop.is_set():
                        upload(server, jpeg(99))

            def publish_one(name: str, server: ServeProcess = server) -> None:
                with suppress(OSError, ValueError):
                    publish(server, name)

            with ThreadPoolExecutor(8) as threads:
                threads.submit(upload_more)
                for name in names:
                    threads.submit(publish_one, name)
                time.sleep(0.3 + 0.25 * seed)  # not for luck: each round is killed at another time
                server.stop(graceful=False)
                stop.set()
        finally:
            server.stop(graceful=False)


def test_a_picture_is_published_by_one_process_and_seen_by_the_others(tmp_path: Path) -> None:
    server = start_server(None, workers=2, data=tmp_path / "data", env=environment(tmp_path))
    try:
        name = upload(server, jpeg(1))
        for _ in range(6):
            assert sizes(server, name) == {404}
        assert publish(server, name) == 200
        wait_until(
            lambda: all(sizes(server, name) == {WHOLE, CROP} for _ in range(6)), "published", 30
        )
        form = urllib.parse.urlencode({"secret": SECRET, "filenames": name}).encode()
        media_type = "application/x-www-form-urlencoded"
        assert send(f"{server.public}/delete", form, media_type)[0] == 200
        wait_until(lambda: all(sizes(server, name) == {404} for _ in range(6)), "deleted", 30)
    finally:
        server.stop()
