"""The landing page and its listing, as the installed command serves them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import pytest

from tests.support.scenes import write_jpeg
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("page")
    folder = home / "pictures"
    write_jpeg(folder / "one.jpg", 320, 200)
    write_jpeg(folder / "two.jpg", 500, 300)
    write_jpeg(folder / "a&b <c>.jpg", 300, 500)
    write_jpeg(folder / "sub" / "three.jpg", 640, 480)
    with run_server(folder, data=home / "data") as server:
        server.wait_converted(expected=4)
        yield server
    assert_log_clean(server.log())


IDS = ["1/1/a&b <c>", "1/1/one", "1/1/sub%2Fthree", "1/1/two"]


def test_scripts_get_ids_and_info_addresses(server: ServeProcess) -> None:
    answer = fetch(f"{server.public}/", Accept="application/json")
    assert answer.headers["content-type"].startswith("application/json")
    images = answer.json["images"]
    assert sorted(each["id"] for each in images) == IDS
    assert answer.json["next"] is None
    for each in images:
        info = fetch(each["info"])
        assert info.status == 200
        assert (info.json["width"], info.json["height"]) == (each["width"], each["height"])


def test_every_thumbnail_of_the_listing_is_answered_at_its_size(server: ServeProcess) -> None:
    for each in server.images():
        answer = fetch(each["thumbnail"])
        assert answer.status == 200, each["thumbnail"]
        assert answer.headers["content-type"] == "image/jpeg"


def test_a_long_list_has_pages_and_each_asset_once(server: ServeProcess) -> None:
    address: str | None = f"{server.public}/?limit=3"
    pages = []
    while address:
        listing = fetch(address, Accept="application/json").json
        pages.append([each["id"] for each in listing["images"]])
        address = listing["next"]
    assert [len(page) for page in pages] == [3, 1]
    assert sorted(each for page in pages for each in page) == IDS


def test_a_search_finds_words_of_names_page_by_page(server: ServeProcess) -> None:
    def found(query: str) -> list[str]:
        address: str | None = f"{server.public}/?{query}"
        names = []
        while address:
            listing = fetch(address, Accept="application/json").json
            names += [each["id"] for each in listing["images"]]
            address = listing["next"]
        return names

    assert found("q=thr") == ["1/1/sub%2Fthree"]
    assert found("q=t&limit=1") == ["1/1/sub%2Fthree", "1/1/two"]
    assert found("q=nothing") == []
    text = fetch(f"{server.public}/?q=%3Cb%3Enothing", Accept="text/html").body.decode()
    assert "No picture has “&lt;b&gt;nothing”" in text
    page = fetch(f"{server.public}/?q=t&limit=1", Accept="text/html").body.decode()
    assert 'rel="next"' in page
    for query in ("q=-", "q=t&after=x", "q=" + "a" * 201):
        refused = fetch(f"{server.public}/?{query}", Accept="text/html")
        assert refused.status == 400, query
        assert refused.headers["content-type"].startswith("text/html")


def test_the_page_has_nothing_inline_and_loads_nothing_from_other_hosts(
    server: ServeProcess,
) -> None:
    answer = fetch(f"{server.public}/", Accept="text/html,*/*;q=0.8")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = answer.body.decode()
    assert "a&amp;b &lt;c&gt;" in text
    assert "<c>" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", text)
    for address in re.findall(r'(?:src|href)="([^"#]+)"', text):
        whole = address if address.startswith("http") else server.public + address
        assert whole.startswith(server.public), address
        assert fetch(whole.replace("&amp;", "&")).status == 200, address


def test_accept_selects_the_page_or_its_json_form(server: ServeProcess) -> None:
    page, listing = (
        fetch(f"{server.public}/"),
        fetch(f"{server.public}/", Accept="application/json"),
    )
    assert page.headers["etag"] != listing.headers["etag"]
    for answer in (page, listing):
        assert "accept" in answer.headers["vary"].lower()
        assert answer.headers["access-control-allow-origin"] == "*"


def test_static_files_are_cacheable_compressed_and_revalidated(server: ServeProcess) -> None:
    for name in ("view.js", "page.css", "vendor/openseadragon.min.js"):
        address = f"{server.public}/static/{name}"
        plain, packed = fetch(address), fetch(address, Accept_Encoding="gzip")
        assert plain.status == 200, f"{name}: is OpenSeadragon installed (make setup)?"
        assert gzip.decompress(packed.body) == plain.body
        assert "max-age" in plain.headers["cache-control"]
        assert fetch(address, If_None_Match=plain.headers["etag"]).status == 304


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "../page.py", "%2e%2e/page.py", "..%2fpage.py", "vendor", "", "page.css/"],
)
def test_other_paths_below_static_are_404(server: ServeProcess, path: str) -> None:
    assert fetch(f"{server.public}/static/{path}").status == 404
