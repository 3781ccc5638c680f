"""A bucket of mixed objects, with both workers killed by kill -9 on the way: every picture becomes
a pyramid once, every failure is listed with its reason.

The short form runs with the other tests, the form with 1,000 objects in `make soak`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pyvips
from PIL import Image

from orchestrator.catalog.embedded.database import embedded
from tests.support import pictures
from tests.support.bucket_events import PyramidBuckets
from tests.support.patience import PATIENT_DATABASE, patience
from tests.support.serve_process import COMMAND
from tests.support.weed import weed

CODES = {
    "junk.txt": {"not_an_image"},
    "cut.jpg": {"damaged"},
    "empty.png": {"not_an_image", "origin_unavailable", "damaged"},
    "page.html": {"not_an_image"},
}
"""The permitted codes of what cannot become a pyramid, by file name."""


@dataclass
class Mixture:
    """What was put into the bucket: the keys of pyramids by source, and the kind of each bad
    object.
    """

    expected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)


def encoded(kind: str, seed: int) -> tuple[bytes, tuple[int, int]]:
    """A picture of this format, and its size."""
    width, height = 120 + seed % 90, 90 + seed % 70
    target = io.BytesIO()
    pictures.picture(width, height, seed % 11).save(target, kind)
    return target.getvalue(), (width, height)


def a_document(pages: int) -> bytes:
    """A PDF with this many pages of 144 x 72 points."""
    sheets = [Image.new("RGB", (300, 150), (10 * page, 90, 200)) for page in range(pages)]
    target = io.BytesIO()
    sheets[0].save(target, "PDF", save_all=True, append_images=sheets[1:], resolution=150)
    return target.getvalue()


def fill(buckets: PyramidBuckets, number: int) -> Mixture:
    """Put `number` objects into the source bucket: the same names in different folders, several
    formats under one stem, documents, and what is no picture.
    """
    mixture = Mixture()
    bad = {
        "junk.txt": b"this is not a picture",
        "cut.jpg": encoded("JPEG", 5)[0][:900],
        "empty.png": b"",
        "page.html": b"<!doctype html><title>404</title>",
    }
    formats = (("JPEG", "jpg"), ("PNG", "png"), ("TIFF", "tif"))
    for count in range(number):
        folder, place = f"digital/f{count // 10:03d}", count % 10
        if place in (8, 9):
            name = sorted(bad)[count // 10 * 2 % 4 + place - 8]
            key = f"{folder}/{name}"
            buckets.put(key, bad[name])
            mixture.bad[key] = name
        elif place == 7:
            pages = count // 10 % 2 + 1
            buckets.put(f"{folder}/book.pdf", a_document(pages))
            names = ("book",) if pages == 1 else ("book_0001", "book_0002")
            mixture.expected[f"{folder}/book.pdf"] = tuple(f"{folder}/{n}.tif" for n in names)
        else:
            kind, extension = formats[place % 3]
            body, size = encoded(kind, count)
            stem = "001" if place < 3 else f"{place:03d}"  # three formats of 001
            key = f"{folder}/{stem}.{extension}"
            buckets.put(key, body)
            mixture.sizes[key] = size
            # Objects are listed in the order of their keys: 001.jpg comes before 001.png.
            target = (
                f"{stem}.tif" if stem != "001" or extension == "jpg" else f"{stem}.{extension}.tif"
            )
            mixture.expected[key] = (f"{folder}/{target}",)
    return mixture


@contextmanager
def watching(env: dict[str, str], data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`pyramid run --watch` in a process; killed at the end."""
    words = [str(COMMAND), "pyramid", "run", "--watch", "--data", str(data)]
    with data.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Any, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s * patience()
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@dataclass
class Installation:
    """The database, the buckets and the environment of every process."""

    buckets: PyramidBuckets
    env: dict[str, str]
    folder: Path

    def run(self, *words: str) -> tuple[Any, int]:
        """`orchestrator pyramid WORDS`: the JSON that it prints, and its exit status."""
        command = [str(COMMAND), "pyramid", *words, "--json", "--data", str(self.folder / "one")]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout), done.returncode

    def kill_workers_at(self, pyramids: int, within_s: float) -> None:
        """Run two workers, and kill them when this many pyramids are stored."""
        with watching(self.env, self.folder / "one"), watching(self.env, self.folder / "two"):
            until(
                lambda: len(self.buckets.list_keys()) >= pyramids,
                within_s,
                "the workers make no pyramids",
            )

    def finish(self) -> None:
        """Run until nothing waits. Each summary and each exit status says what was done."""
        for _ in range(20):
            report, status = self.run("run", "--once")
            failed = sum(report["failed"].values())
            assert status == int(bool(report["waiting"] or failed))
            rest = report["done"] + report["skipped"] + report["waiting"] + failed
            assert report["attempted"] == rest
            if not self.run("list", "--state", "queued")[0]:
                return
            time.sleep(1)
        raise AssertionError("work is left")


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """Two workers can use it, each with a data directory of its own."""
    with (
        embedded(folder / "database") as server,
        weed(folder / "weed") as endpoint,
        PyramidBuckets(endpoint) as buckets,
    ):
        env = {name: value for name, value in os.environ.items() if "ORCHESTRATOR" not in name} | {
            "ORCHESTRATOR_DATABASE__DSN": server.dsn,
            **PATIENT_DATABASE,
            "ORCHESTRATOR_STORAGE__ROOT": str(folder / "objects"),
            "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
            "ORCHESTRATOR_JOBS__HEARTBEAT_S": "1",
            "ORCHESTRATOR_JOBS__LEASE_S": "4",
            "ORCHESTRATOR_JOBS__RETRY_FIRST_S": "0.2",
            "RBSC_BUCKET": buckets.source,
            "PROCESS_BUCKET": buckets.process,
            "IMAGE_BUCKET": buckets.image,
            "MAX_THREADS": "2",
        }
        for name in ("endpoint", "access_key", "secret_key"):
            env[f"ORCHESTRATOR_PYRAMIDS__{name.upper()}"] = str(buckets.settings()[name])
        yield Installation(buckets, env, folder)


@pytest.mark.parametrize(
    "number", [20, pytest.param(1000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_every_picture_becomes_a_pyramid_once_and_every_failure_has_its_reason(
    number: int, tmp_path: Path
) -> None:
    with installation(tmp_path) as system:
        mixture = fill(system.buckets, number)
        extensions = "jpg,png,tif,pdf,txt,html"
        queued, status = system.run("rerun", "--prefix", "digital/", "--ext", extensions)
        assert (queued["queued"], status) == (number, 0)
        for share in (0.2, 0.5):
            system.kill_workers_at(int(len(mixture.expected) * share), 60 + number)
        system.finish()
        assert_complete(system, mixture)
        again, _ = system.run("rerun", "--ext", extensions)
        assert (again["done"], again["queued"]) == (len(mixture.expected), len(mixture.bad))


def assert_complete(system: Installation, mixture: Mixture) -> None:
    """Check what is listed, and what is in the image bucket."""
    buckets = system.buckets
    listed, _ = system.run("list", "--limit", "5000")
    rows = {row["key"]: row for row in listed}
    assert rows.keys() == mixture.expected.keys() | mixture.bad.keys()
    for key, kind in mixture.bad.items():
        assert rows[key]["state"] == "failed", rows[key]
        assert rows[key]["code"] in CODES[kind], rows[key]
        assert rows[key]["reason"].endswith(".")
    assert {rows[key]["state"] for key in mixture.expected} == {"done"}
    targets = sorted(target for each in mixture.expected.values() for target in each)
    assert buckets.list_keys() == targets
    for key, size in list(mixture.sizes.items())[:20]:
        body = buckets.read(buckets.image, mixture.expected[key][0]) or b""
        pyramid = pyvips.Image.new_from_buffer(body, "")
        assert (pyramid.width, pyramid.height) == size, key
