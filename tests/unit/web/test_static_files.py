"""The files below /static/."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from orchestrator.web.static_files import StaticFiles

ROOT = Path(__file__).parents[3]

OURS = ("collection.js", "view.js", "uploads.js", "page.css", "icon.svg")


def test_the_package_has_each_file_of_the_pages() -> None:
    files = StaticFiles.load()
    assert [name for name in OURS if name not in files] == []


def test_viewers_that_only_tests_open_are_not_in_the_package() -> None:
    vendor = resources.files("orchestrator.web") / "static" / "vendor"
    assert {each.name for each in vendor.iterdir() if each.is_dir()} == {
        "cropper",
        "images",
        "mirador",
        "tus",
    }
    assert "tests" not in (ROOT / ".dockerignore").read_text()


def test_the_address_of_a_file_has_its_hash_and_an_absent_file_has_none() -> None:
    files = StaticFiles.load(vendor=False)
    assert files.address("page.css").startswith("/static/page.css?v=")
    assert files.address("vendor/openseadragon.min.js") == ""
