"""The commands `ico warm` and `ico purge` beside a running server with several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from tests.support import pictures
from tests.support.serve_process import ServeProcess, fetch, run_server, wait_until


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Path:
    """A folder with two pictures, and results that another program stored."""
    for name in ("a.jpg", "promo/a.jpg", "b.jpg"):
        (module_folder / name).parent.mkdir(exist_ok=True)
        pictures.jpeg(module_folder / name, 300, 200)
    for name in ("d2lkdGg9NQ==/a.jpg", "width=9/a.jpg", "width=9/b.jpg"):
        (module_folder / name).parent.mkdir(exist_ok=True)
        pictures.jpeg(module_folder / name, 9, 6)
    return module_folder


@pytest.fixture(scope="module")
def settings(shop: Path) -> dict[str, str]:
    return {
        "ORCHESTRATOR_ICO__FOLDER": str(shop),
        "ORCHESTRATOR_ICO__PRESETS": json.dumps({"w50": "width=50"}),
        "ORCHESTRATOR_ICO__SECRETS": "a-secret-for-signing",
        "ORCHESTRATOR_ICO__RECHECK_S": "600",
    }


@pytest.fixture(scope="module")
def server(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    data = tmp_path_factory.mktemp("ico") / "data"
    with run_server(None, workers=2, data=data, env=settings) as running:
        yield running


def results(shop: Path, name: str) -> set[str]:
    """The folders beside the picture that have a result of it."""
    return {path.parent.name for path in shop.glob(f"*/{name}")}


def test_a_warmed_result_is_stored_and_a_purge_removes_it_from_every_process(
    server: ServeProcess, settings: dict[str, str], shop: Path, command: Command
) -> None:
    words = ["--data", server.data]
    warmed = command("ico", "warm", "a.jpg", "b.jpg", "--params", "w50", *words, env=settings)
    assert (warmed.status, warmed.out) == (0, "2 results to make\n"), warmed.err
    wait_until(lambda: {"w50"} <= results(shop, "a.jpg") & results(shop, "b.jpg"), "stored", 60)
    url = f"{server.public}/ico/w50/a.jpg"
    old = {fetch(url).headers["etag"] for _ in range(40)}  # each process has it in memory
    pictures.jpeg(shop / "a.jpg", 300, 100)
    purged = command("ico", "purge", "a.jpg", "--json", *words, env=settings)
    assert (purged.status, purged.json) == (0, {"deleted": 1}), purged.err
    assert results(shop, "a.jpg") == {"promo", "d2lkdGg9NQ==", "width=9"}
    assert results(shop, "b.jpg") == {"w50", "width=9"}
    wait_until(
        lambda: not old & {fetch(url).headers["etag"] for _ in range(40)}, "dropped from memory"
    )
    scanned = command("ico", "purge", "a.jpg", "--scan", "--json", *words, env=settings)
    assert scanned.status == 0, scanned.err
    assert results(shop, "a.jpg") - {"w50"} == {"promo"}
    assert results(shop, "b.jpg") == {"w50", "width=9"}
    assert server.metric("requests_total", request_class="ico") > 0


def test_a_signed_path_is_answered(
    server: ServeProcess, settings: dict[str, str], command: Command
) -> None:
    signed = command("ico", "sign", "width=77", "b.jpg", "--expires", "10m", env=settings)
    assert signed.status == 0, signed.err
    assert fetch(server.public + signed.out.strip()).status == 200
    assert fetch(f"{server.public}/ico/width=77/b.jpg").status == 403


@pytest.mark.parametrize("command_words", [("config", "check"), ("serve", "--port", "0")])
def test_a_preset_that_cannot_be_parsed_is_named_before_anything_starts(
    settings: dict[str, str], command: Command, tmp_path: Path, command_words: tuple[str, ...]
) -> None:
    wrong = {**settings, "ORCHESTRATOR_ICO__PRESETS": '{"big": "widht=50"}'}
    done = command(*command_words, "--data", tmp_path / "data", env=wrong)
    assert done.status == 1
    assert "ico.presets: big" in done.err
    assert not (tmp_path / "data" / "postgres").exists()


def test_doctor_reads_the_store(
    server: ServeProcess, settings: dict[str, str], command: Command, tmp_path: Path
) -> None:
    missing = {**settings, "ORCHESTRATOR_ICO__FOLDER": str(tmp_path / "missing")}
    for environment, status in ((settings, "ok"), (missing, "broken")):
        report = command("doctor", "--json", "--data", server.data, env=environment)
        [finding] = [each for each in report.json if each["check"] == "ico"]
        assert finding["status"] == status
