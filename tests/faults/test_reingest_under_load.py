"""An asset is ingested again while clients request it without pause: every answer is entirely of
the old version or entirely of the new one.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from PIL import Image

from tests.support.patience import PATIENT_DATABASE, patience
from tests.support.serve_process import (
    COMMAND,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)

RED, BLUE = ((200, 30, 30), (1400, 1000)), ((30, 30, 200), (1200, 900))
LONG_TIMEOUTS = {
    "ORCHESTRATOR_DATABASE__CONNECT_TIMEOUT_S": "60",
    "ORCHESTRATOR_DATABASE__QUERY_TIMEOUT_S": "60",
}
"""A busy machine must not make this test fail."""
REQUESTS = (
    "info.json",
    "full/200,/0/default.jpg",  # a stored thumbnail
    "full/180,/0/default.jpg",  # a resized thumbnail
    "full/max/0/default.jpg",
    "0,0,256,256/256,256/0/default.jpg",
    "1000,800,256,256/max/0/default.jpg",  # its size depends on the size of the image
)
SIZES = {
    "full/200,/0/default.jpg": {"red": (200, 143), "blue": (200, 150)},
    "full/180,/0/default.jpg": {"red": (180, 129), "blue": (180, 135)},
    "full/max/0/default.jpg": {"red": RED[1], "blue": BLUE[1]},
    "0,0,256,256/256,256/0/default.jpg": {"red": (256, 256), "blue": (256, 256)},
    "1000,800,256,256/max/0/default.jpg": {"red": (256, 200), "blue": (200, 100)},
}


def ingest(server: ServeProcess, path: Path) -> None:
    done = subprocess.run(
        [str(COMMAND), "ingest", str(path), "--id", "1/1/page", "--data", str(server.data)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **PATIENT_DATABASE, **LONG_TIMEOUTS},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def stored_objects(server: ServeProcess) -> list[str]:
    """The keys of all objects in the store."""
    root = server.data / "objects"
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return [name.removesuffix("=.json") for name in files if name.endswith("=.json")]


class Reader:
    """Sends all requests from several threads and records every answer that mixes two versions."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.mixed: list[str] = []
        self.statuses: dict[int, int] = defaultdict(int)
        self.colours: dict[str, set[str]] = defaultdict(set)
        """The versions that were answered, by request."""
        self._stop = threading.Event()

    def __enter__(self) -> Reader:
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        random_numbers = random.Random(seed)
        while not self._stop.is_set():
            rest = random_numbers.choice(REQUESTS)
            with suppress(OSError):
                answer = fetch(f"{self.base}/{rest}", timeout_s=30)
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self._check(rest, answer.body, answer.json if rest == "info.json" else None)

    def _check(self, rest: str, body: bytes, document: dict[str, object] | None) -> None:
        if document is not None:
            size = (document["width"], document["height"])
            colour = {RED[1]: "red", BLUE[1]: "blue"}.get(size, "neither")
            listed = {(each["width"], each["height"]) for each in document["sizes"]}
            thumbnail = {"red": (200, 143), "blue": (200, 150)}.get(colour)
            if thumbnail not in listed:
                self.mixed.append(f"info.json of {size} lists {sorted(listed)}")
        else:
            picture = Image.open(io.BytesIO(body)).convert("RGB")
            red, _, blue = picture.getpixel((20, 20))
            colour = "red" if red > blue else "blue"
            if picture.size != SIZES[rest][colour]:
                self.mixed.append(f"{rest} is {colour} and {picture.size}")
        self.colours[rest].add(colour)


def test_no_answer_mixes_two_versions_while_an_asset_is_ingested_again(tmp_path):
    """Objects of an old version are removed at once here, so that running requests lose their
    source.
    """
    path = tmp_path / "page.jpg"
    env = {
        **LONG_TIMEOUTS,
        "ORCHESTRATOR_INGEST__REMOVE_AFTER_S": "0",
        "ORCHESTRATOR_INGEST__SWEEP_EVERY_S": "0.3",
    }
    with run_server(workers=2, data=tmp_path / "data", env=env) as server:
        Image.new("RGB", RED[1], RED[0]).save(path, quality=90)
        ingest(server, path)
        base = f"{server.public}/iiif/3/1%2F1%2Fpage"
        with Reader(base) as reader:
            for colour, size in (BLUE, RED):
                Image.new("RGB", size, colour).save(path, quality=90)
                ingest(server, path)
                time.sleep(0.3 * patience())
        assert not reader.mixed, reader.mixed[:10]
        assert set(reader.statuses) <= {200, 503}, reader.statuses
        assert reader.statuses[503] <= reader.statuses[200] / 100, reader.statuses
        assert {rest: len(colours) for rest, colours in reader.colours.items()} == dict.fromkeys(
            REQUESTS, 2
        )
        wait_until(lambda: len(stored_objects(server)) == 6, "the old objects are removed", 20)
        assert_log_clean(server.log())
