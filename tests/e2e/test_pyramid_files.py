"""`orchestrator pyramid convert` and `verify` on local files, with no service running."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Command
from tests.support import pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    pictures.jpeg(folder / "a.jpg", 900, 600)
    pictures.png(folder / "a.png", 700, 600)
    pictures.tiff(folder / "sub/a.tif", 300, 200)
    pictures.pdf(folder / "b.pdf", 200, 100)
    pictures.truncated(folder / "broken.jpg", folder / "a.jpg", 0.5)
    (folder / "notes.txt").write_text("no picture")
    return folder


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {Path(row["file"]).name: row for row in rows}


def test_a_folder_is_converted_and_one_damaged_file_fails_alone(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command("pyramid", "convert", folder, out, "--dpi", 72, "--data", tmp_path / "data")
    assert done.status == 1
    assert done.out.startswith("attempted: 5, done: 4, failed: 1, in ")
    assert "failed: " in done.err and "broken.jpg The image file" in done.err
    made = ["a.jpg.tif", "a.png.tif", "b_0001.tif", "b_0002.tif", "b_0003.tif", "sub/a.tif"]
    assert files_below(out) == made
    assert not (tmp_path / "data").exists()
    done = command("pyramid", "verify", *(out / name for name in made), "--json")
    assert (done.status, done.json["attempted"], done.json["failed"]) == (0, 6, 0)
    (page,) = by_name(done.json["files"])["b_0001.tif"]["pyramids"]
    assert (page["width"], page["height"]) == (200, 100)


def test_options_and_policy_are_those_of_the_command(command: Command, tmp_path: Path) -> None:
    original, out = pictures.jpeg(tmp_path / "in.jpg", 3000, 2900), tmp_path / "out.tif"
    options = ("--policy", "parity", "--copyright", "--compression", "zstd", "--subifd")
    done = command("pyramid", "convert", original, out, *options, "--json")
    assert done.status == 0, done.err
    assert done.err == ""
    (row,) = done.json["files"]
    assert row["pyramids"] == [
        {
            "path": str(out),
            "width": 579,
            "height": 560,
            "levels": [[579, 560], [289, 280]],
            "tile": [512, 512],
            "compression": "zstd",
            "resolution": 11.812,
            "bigtiff": False,
            "subifds": True,
            "bytes": out.stat().st_size,
        }
    ]
    tags = subprocess.run(["tiffinfo", out], capture_output=True, text=True, check=True).stdout
    assert "Compression Scheme: ZSTD" in tags and "118.12, 118.12 pixels/cm" in tags


def test_what_cannot_be_converted_leaves_nothing(command: Command, tmp_path: Path) -> None:
    original = pictures.png(tmp_path / "in.png", 60, 40)
    for words, reason in [
        ((tmp_path / "nothing.png", tmp_path / "out.tif"), "no file"),
        ((original, original), "OUT is the file of the original"),
        ((original, tmp_path / "out.tif", "--compression", "lzw"), "pyramids.compression"),
        ((original, tmp_path / "out.tif", "--quality", 0.5), "--quality"),
    ]:
        done = command("pyramid", "convert", *words)
        assert done.status in (1, 2)
        assert reason in done.err
    assert files_below(tmp_path) == ["in.png"]


def test_verify_names_what_is_wrong_with_each_file(command: Command, tmp_path: Path) -> None:
    original, whole = pictures.png(tmp_path / "in.png", 900, 700), tmp_path / "whole.tif"
    assert command("pyramid", "convert", original, whole).status == 0
    torn = pictures.truncated(tmp_path / "torn.tif", whole, 0.6)
    done = command("pyramid", "verify", whole, original, torn, tmp_path / "none.tif", "--json")
    assert (done.status, done.json["done"], done.json["failed"]) == (1, 1, 3)
    rows = by_name(done.json["files"])
    assert [rows[name]["code"] for name in ("in.png", "torn.tif", "none.tif")] == [
        "invalid_input", "damaged", "file",
    ]  # fmt: skip
    assert rows["in.png"]["error"] == "The file is not a TIFF."
