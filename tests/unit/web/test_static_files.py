"""The files below /static/."""

from __future__ import annotations

from orchestrator.web.static_files import StaticFiles

OURS = ("collection.js", "view.js", "uploads.js", "page.css", "icon.svg")


def test_the_package_has_each_file_of_the_pages() -> None:
    files = StaticFiles.load()
    assert [name for name in OURS if name not in files] == []


def test_the_address_of_a_file_has_its_hash_and_an_absent_file_has_none() -> None:
    files = StaticFiles.load(vendor=False)
    assert files.address("page.css").startswith("/static/page.css?v=")
    assert files.address("vendor/openseadragon.min.js") == ""
