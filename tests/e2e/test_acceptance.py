"""Runs the black-box acceptance scripts against the installed command with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.acceptance_scripts import acceptance_folder, run_script
from tests.support.patience import patience
from tests.support.scenes import write_jpeg, write_jpeg2000, write_png
from tests.support.serve_process import ServeProcess, assert_log_clean, run_server

pytestmark = pytest.mark.skipif(
    acceptance_folder() is None,
    reason="the acceptance scripts are not on this machine (set ACCEPTANCE_DIR)",
)

PICTURES = ("1/1/photograph", "1/1/map", "1/1/drawing", "1/1/album%2Fsheet 1")
"""A JPEG, a JPEG2000, a PNG, and an identifier with %2F and a space."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("acceptance")
    folder = home / "pictures"
    write_jpeg(folder / "photograph.jpg", 1501, 1003)
    write_jpeg2000(folder / "map.jp2", 2003, 1501)
    write_png(folder / "drawing.png", 1009, 1703)
    write_jpeg(folder / "album" / "sheet 1.jpg", 1201, 907)
    with run_server(folder, workers=2, data=home / "data") as server:
        server.wait_converted(expected=len(PICTURES))
        yield server
    assert_log_clean(server.log())


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("picture", PICTURES)
def test_every_check_of_iiif_and_http_passes(
    server: ServeProcess, picture: str, version: int
) -> None:
    identifier = server.identifiers()[picture]
    prefix = f"{server.public}/iiif/{version}"
    result = run_script("iiif_http.py", prefix, identifier, "--version", str(version))
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 failed" in result.stdout


def test_an_asset_served_from_its_original_passes_every_check(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    write_jpeg2000(folder / "early.jp2", 1801, 1203)
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    with run_server(folder, workers=2, data=tmp_path / "data", env=env) as server:
        identifier = server.identifiers()["1/1/early"]
        result = run_script("iiif_http.py", f"{server.public}/iiif/3", identifier, "--version", "3")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("version", "picture"), [(3, "1/1/photograph"), (2, "1/1/map")], ids=["3-jpeg", "2-jpeg2000"]
)
def test_random_requests_find_no_fault(server: ServeProcess, version: int, picture: str) -> None:
    _run_random_requests(server, version, picture, requests=1500, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("version", [2, 3])
def test_many_random_requests_find_no_fault(server: ServeProcess, version: int, seed: int) -> None:
    _run_random_requests(server, version, "1/1/photograph", requests=5000, seed=seed)


def _run_random_requests(
    server: ServeProcess, version: int, picture: str, *, requests: int, seed: int
) -> None:
    identifier = server.identifiers()[picture]
    prefix = f"{server.public}/iiif/{version}"
    options = ("--requests", str(requests), "--seed", str(seed))
    for _ in range(3):
        result = run_script("torture.py", prefix, identifier, *options, timeout_s=3000)
        faults = [line for line in result.stdout.splitlines() if line.startswith("FAIL")]
        is_late = all("silent for 10 s" in line for line in faults)
        if not faults or not is_late or patience() < 2:
            break  # on a busy machine an answer may take longer than the script allows
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 failed" in result.stdout
