"""No route tells those without its role more about a restricted image than everyone may know: each
row of `tests/support/rights_table.py` with each kind of right, from every tier, with HEAD, Range
and conditions.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from orchestrator.routing.access_tokens import SignedTokens
from tests.e2e.conftest import run_command
from tests.support import pictures
from tests.support.patience import patience
from tests.support.rights_table import (
    EDGE,
    HIDDEN,
    LIMITED,
    OPEN,
    OUTSIDE,
    REFUSED,
    ROWS,
    SECRET,
    SUBJECTS,
    Row,
    Subject,
    insiders,
    outsiders,
    viewer,
)
from tests.support.serve_process import Reply, ServeProcess, assert_log_clean, run_server

HTTP_PAGE = Path(__file__).parents[2] / "docs" / "http.md"
SERVICE = {"name": "staff", "kind": "clickthrough", "roles": ["staff"], "label": "Library"}
SETTINGS = {
    "ORCHESTRATOR_AUTH__TOKEN_SECRET": SECRET,
    "ORCHESTRATOR_AUTH__SERVICES": json.dumps([SERVICE]),
    "ORCHESTRATOR_ICO__OPEN": "true",
}
LATER = "Fri, 01 Jan 2100 00:00:00 GMT"
ABOUT_THE_REQUEST = ("date", "x-request-id", "server-timing", "x-served-from")


@dataclass
class Site:
    """A server with the assets of the table, after they were public and became restricted."""

    server: ServeProcess
    key: str
    tiers: dict[str, set[str]] = field(default_factory=dict)
    """Which tiers answered while everything was public, and which answered insiders."""
    whole: dict[str, Reply] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, headers: dict[str, str], method: str = "GET") -> Reply:
        """One answer; redirects are not followed."""
        if self._connection is None:
            address = urlsplit(self.server.public).netloc
            self._connection = http.client.HTTPConnection(address, timeout=120)
        self._connection.request(method, path, headers=headers)
        answer = self._connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, fields, answer.read())

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def change(self, subject: Subject, **fields: Any) -> None:
        """Change an asset by the API."""
        self.call("PATCH", f"spaces/1/images/{subject.name}", fields)

    def call(self, method: str, path: str, fields: dict[str, Any]) -> None:
        """Call the API of the customer."""
        request = urllib.request.Request(
            f"{self.server.private}/customers/1/{path}",
            data=json.dumps(fields).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120):
            pass

    def see_whole(self, row: Row, subject: Subject) -> Reply:
        """The answer to those with the role, asked for twice: the second may come from disk."""
        address = row.url(subject)
        if address not in self.whole:
            headers = row.headers(insiders()["role"])
            for _ in range(2):
                self.whole[address] = self.ask(address, headers)
                tier = self.whole[address].headers.get("x-served-from", "")
                self.tiers.setdefault("insiders", set()).add(tier)
        return self.whole[address]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("rights")
    for subject in (OPEN, LIMITED, HIDDEN):
        pictures.jpeg(folder / f"{subject.name}.jpg", subject.width, subject.height)
    (folder / f"{REFUSED.name}.jpg").write_bytes(b"\xff\xd8 no picture")
    with run_server(folder, env=SETTINGS) as server:
        server.wait_converted(expected=4)
        made = run_command("keys", "create", "1", "--json", "--data", server.data)
        site = Site(server, made.json["token"])
        site.call("POST", "namedQueries", {"name": "all", "template": "space=p1"})
        for subject in SUBJECTS:
            site.change(subject, string1=subject.word, tags=[subject.word])
        _fill_caches(site)
        for subject in (LIMITED, HIDDEN, REFUSED):
            site.change(subject, roles=["staff"], maxUnauthorised=subject.edge)
        _wait_until_restricted(site)
        yield site
        site.close()
        assert_log_clean(server.log())


def _fill_caches(site: Site) -> None:
    """Ask for everything while it is public, until memory answers."""
    tiers = site.tiers.setdefault("public", set())
    for row in ROWS:
        for subject in SUBJECTS:
            for _ in range(2):
                answer = site.ask(row.url(subject), row.headers({}))
                tiers.add(answer.headers.get("x-served-from", ""))


def _wait_until_restricted(site: Site) -> None:
    deadline = time.monotonic() + 20 * patience()
    addresses = [f"/iiif/3/1%2F1%2F{each.name}/info.json" for each in (HIDDEN, REFUSED)]
    addresses.append(f"/iiif/3/1%2F1%2F{LIMITED.name}/full/400,/0/default.jpg")
    while any(site.ask(address, {}).status != 401 for address in addresses):
        assert time.monotonic() < deadline, "the change of rights is not in force"
        time.sleep(0.02)


def shows_no_more_than_permitted(row: Row, subject: Subject, answer: Reply) -> None:
    assert answer.status == row.status(subject), answer.body[:300]
    match row.kind:
        case "list":
            leaves_out_what_is_hidden(answer)
        case "book":
            for each in (HIDDEN, REFUSED):
                has_no_secret(each, answer)
        case "stream":
            deletes_what_is_hidden(answer)
        case _:
            has_no_secret(subject, answer)
    if subject is not OPEN and row.kind in ("image", "document") and answer.status != 400:
        is_kept_by_no_shared_cache(answer)
    if row.kind == "image" and answer.status == 200 and subject is LIMITED:
        assert max(Image.open(io.BytesIO(answer.body)).size) <= EDGE


def leaves_out_what_is_hidden(answer: Reply) -> None:
    for each in (HIDDEN, REFUSED):
        for secret in (each.name, *each.secrets):
            assert secret not in answer.body.decode()


def deletes_what_is_hidden(answer: Reply) -> None:
    """A stream keeps what was public, and ends with the deletion of what is public no more."""
    latest = {
        activity["object"]["id"]: activity["type"]
        for activity in json.loads(answer.body).get("orderedItems", [])
    }
    for identifier, kind in latest.items():
        if HIDDEN.name in identifier or REFUSED.name in identifier:
            assert kind == "Delete"


def shows_hidden_images_to_no_shared_cache(row: Row, answer: Reply) -> None:
    """A list for those with the role may have what is hidden; then it is for them alone."""
    assert answer.status == row.whole
    text = answer.body.decode()
    if any(secret in text for secret in (*HIDDEN.secrets, *REFUSED.secrets)):
        assert "private" in answer.headers["cache-control"]
        assert {"Authorization", "Cookie"} <= set(answer.headers["vary"].split(", "))
    elif row.kind == "book":
        raise AssertionError("those with the role do not see what is hidden")


def has_no_secret(subject: Subject, answer: Reply) -> None:
    text = answer.body.decode("latin-1") + json.dumps(dict(answer.headers))
    for secret in subject.secrets:
        assert not re.search(rf"\b{secret}\b", text), secret


def is_kept_by_no_shared_cache(answer: Reply) -> None:
    control = answer.headers["cache-control"]
    assert "public" not in control
    assert "private" in control or "no-store" in control
    assert "last-modified" not in answer.headers


def same(first: Reply, second: Reply) -> bool:
    """True if two answers are the same, but for what is about the request."""
    headers = [
        {name: text for name, text in each.headers.items() if name not in ABOUT_THE_REQUEST}
        for each in (first, second)
    ]
    if first.status >= 400:  # the body has the id of the request
        known = [
            each.body.replace(each.headers["x-request-id"].encode(), b"")
            for each in (first, second)
        ]
        return (first.status, known[0]) == (second.status, known[1])
    return (first.status, first.body, headers[0]) == (second.status, second.body, headers[1])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_route_tells_the_public_only_what_the_policy_permits(site: Site, row: Row) -> None:
    for subject in SUBJECTS:
        address, headers = row.url(subject), row.headers({})
        first = site.ask(address, headers)
        shows_no_more_than_permitted(row, subject, first)
        whole = site.see_whole(row, subject)
        again = site.ask(address, headers)
        assert same(first, again), "the answer to another request was given"

        head = site.ask(address, headers, "HEAD")
        assert (head.status, head.body) == (first.status, b"")
        shows_no_more_than_permitted(row, subject, Reply(head.status, head.headers, first.body))

        part = site.ask(address, {**headers, "Range": "bytes=0-99"})
        if first.status == 200:
            assert part.body in (first.body[:100], first.body)
        else:
            assert part.status == first.status
        tags = {whole.headers.get("etag", '"none"')} - {first.headers.get("etag")}
        for condition in (
            *({"If-None-Match": tag} for tag in tags),
            {"If-None-Match": "*"},
            {"If-Modified-Since": LATER},
            {"If-Range": whole.headers.get("etag", '"none"'), "Range": "bytes=0-99"},
        ):
            answer = site.ask(address, {**headers, **condition})
            assert answer.status in _permitted_statuses(first, condition), condition
            if answer.status in (200, 206):
                assert answer.body in (first.body[:100], first.body)


def _permitted_statuses(first: Reply, condition: dict[str, str]) -> set[int]:
    """A refusal stays a refusal. A condition on the tag of what others see never holds."""
    if first.status != 200:
        return {first.status}
    if condition.get("If-None-Match", "*") != "*":
        return {200}
    return {200, 206, 304}


@pytest.mark.parametrize("rights", list(outsiders()))
def test_a_right_to_something_else_is_no_right(site: Site, rights: str) -> None:
    for row in ROWS:
        for subject in SUBJECTS:
            answer = site.ask(row.url(subject), row.headers(outsiders()[rights]))
            shows_no_more_than_permitted(row, subject, answer)
            public = site.ask(row.url(subject), row.headers({}))
            # A list for a client with any right may be private: its cache is one for that client.
            headers = {**answer.headers, "cache-control": public.headers["cache-control"]}
            assert same(Reply(answer.status, headers, answer.body), public), row.id


@pytest.mark.parametrize("rights", list(insiders()))
def test_those_with_the_role_see_everything(site: Site, rights: str) -> None:
    for row in ROWS:
        if row.kind in ("list", "book", "stream"):
            answer = site.ask(row.path, row.headers(insiders()[rights]))
            shows_hidden_images_to_no_shared_cache(row, answer)
            continue
        for subject in (OPEN, LIMITED, HIDDEN):
            answer = site.ask(row.url(subject), row.headers(insiders()[rights]))
            assert answer.status == row.whole or row.path.startswith("/thumbs"), row.id
            if subject is not OPEN and row.kind != "constant":
                is_kept_by_no_shared_cache(answer)
            if row.path.endswith("/full/max/0/default.jpg") and "thumbs" not in row.path:
                size = Image.open(io.BytesIO(answer.body)).size
                assert size == (subject.width, subject.height)


def test_the_token_of_a_viewer_shows_documents_and_no_images(site: Site) -> None:
    for row in ROWS:
        for subject in (LIMITED, HIDDEN):
            if row.kind in ("list", "book", "stream"):
                continue
            answer = site.ask(row.url(subject), row.headers(viewer()))
            if row.images_only:
                shows_no_more_than_permitted(row, subject, answer)
            else:
                assert answer.status == row.whole


def test_a_change_of_what_is_hidden_changes_no_answer(site: Site) -> None:
    """Neither its metadata nor its roles, which no one outside may see."""
    rows = [row for row in ROWS if row.status(HIDDEN) == 200 and row.kind != "constant"]
    before = [site.ask(row.url(HIDDEN), row.headers({})) for row in rows]
    site.change(HIDDEN, string2=HIDDEN.word, roles=["staff", "curator"])
    _wait_for_role(site, "curator")
    after = [site.ask(row.url(HIDDEN), row.headers({})) for row in rows]
    assert [row.id for row, *pair in zip(rows, before, after, strict=True) if not same(*pair)] == []


def test_a_search_finds_what_is_limited_and_nothing_that_is_hidden(site: Site) -> None:
    found = {
        subject: site.ask(f"/?q={subject.word}", {"Accept": "application/json"})
        for subject in SUBJECTS
    }
    names = {
        subject.name: [each["id"] for each in json.loads(answer.body)["images"]]
        for subject, answer in found.items()
    }
    assert names == {
        OPEN.name: [OPEN.path],
        LIMITED.name: [LIMITED.path],
        HIDDEN.name: [],
        REFUSED.name: [],
    }
    assert all(json.loads(answer.body)["next"] is None for answer in found.values())


def _wait_for_role(site: Site, role: str) -> None:
    token = SignedTokens(SECRET, "orchestrator-token").create([role], 3600)
    deadline = time.monotonic() + 20 * patience()
    address = f"/iiif/3/1%2F1%2F{HIDDEN.name}/info.json"
    while site.ask(address, {"Authorization": f"Bearer {token}"}).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_table_includes_answers_from_memory_and_from_disk(site: Site) -> None:
    assert "memory" in site.tiers["public"]
    for row in ROWS:
        site.see_whole(row, HIDDEN)
    assert "disk" in site.tiers["insiders"]
    assert "memory" not in site.tiers["insiders"]


def test_every_documented_route_is_in_the_table_or_depends_on_no_asset() -> None:
    section = HTTP_PAGE.read_text().partition("## Public port")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.M)
    paths = [path for cell in cells for path in re.findall(r"`([^`]+)`", cell)]
    documented = {re.split(r"[{\[]|\.\.\.", path)[0].rstrip("/") or "/" for path in paths}
    documented = {re.sub(r"^/iiif/[23]$", "/iiif", path) for path in documented}
    assert documented == {row.fixed_part for row in ROWS} | set(OUTSIDE)
