"""Origin strategies in the catalogue: which may be stored, which one is chosen, and how long a
regex may take.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from orchestrator.errors import Conflict, InvalidInput, NotFound, OriginUnavailable
from orchestrator.origins.credential_store import make_key
from orchestrator.origins.credentials import MASK
from orchestrator.origins.strategy_input import StrategyChanges, StrategyInput
from orchestrator.settings import Database
from tests.integration.origins.conftest import CUSTOMER, PICTURE, Desk, a_desk
from tests.support.origins import origin_server

LOGIN = {"user": "archivist", "password": "correct hörse: battery"}
SLOW = r"^https://example.org/(a|aa|aaa)+$"
ADDRESS = "https://example.org/" + "a" * 40 + "1"


async def kinds(desk: Desk, *origins: str) -> list[str | None]:
    found = [await desk.matcher.match(CUSTOMER, origin) for origin in origins]
    return [None if each is None else each.strategy for each in found]


async def test_the_first_in_order_that_is_found_anywhere_in_any_case_wins(desk: Desk) -> None:
    await desk.add("example", "ftp", place=2)
    await desk.add(r"EXAMPLE\.org/Private", "s3-public", place=1)
    await desk.add("example.org/priv", "s3-ambient", place=3)
    assert await kinds(
        desk, "https://example.org/private/a.jpg", "https://example.org/a.jpg", "https://x/a.jpg"
    ) == ["s3-public", "ftp", None]
    assert [each.place for each in await desk.strategies.list(CUSTOMER)] == [1, 2, 3]


async def test_strategies_in_the_same_place_keep_their_order(desk: Desk) -> None:
    for n in range(5):
        await desk.add(f"x|{n}", "s3-public")
    first = (await desk.strategies.list(CUSTOMER))[0]
    for _ in range(3):
        found = await desk.matcher.match(CUSTOMER, "x")
        assert found is not None
        assert found.id == first.id


async def test_anothers_strategies_do_not_count(desk: Desk) -> None:
    await desk.catalog.customers.ensure(8, "eight")
    await desk.strategies.create(8, StrategyInput(".", "s3-public"))
    assert await kinds(desk, "s3://bucket/key") == [None]
    theirs = (await desk.strategies.list(8))[0]
    with pytest.raises(NotFound):
        await desk.strategies.delete(CUSTOMER, theirs.id)
    with pytest.raises(NotFound):
        await desk.strategies.get(CUSTOMER, theirs.id)


async def test_an_edit_is_in_force_at_once_here_and_soon_elsewhere(
    desk: Desk, database: Database, tmp_path: Path
) -> None:
    async with a_desk(database, tmp_path, strategies_ttl_s=0.2) as other:
        one = await desk.add("one", "s3-public")
        assert await kinds(desk, "one") == ["s3-public"]
        assert await kinds(other, "one") == ["s3-public"]
        await desk.strategies.patch(CUSTOMER, one.id, StrategyChanges(regex="two"))
        assert await kinds(desk, "one", "two") == [None, "s3-public"]
        await desk.strategies.delete(CUSTOMER, one.id)
        assert await kinds(desk, "two") == [None]
        async with asyncio.timeout(5):
            while await kinds(other, "one") != [None]:
                await asyncio.sleep(0.05)


async def test_the_same_regex_twice_is_a_conflict(desk: Desk) -> None:
    await desk.add("one", "s3-public")
    two = await desk.add("two", "s3-public")
    with pytest.raises(Conflict):
        await desk.add("one", "ftp")
    with pytest.raises(Conflict):
        await desk.strategies.patch(CUSTOMER, two.id, StrategyChanges(regex="one"))
    with pytest.raises(NotFound):
        await desk.strategies.create(99, StrategyInput("one", "ftp"))
    with pytest.raises(NotFound):
        await desk.strategies.replace(CUSTOMER, uuid4(), StrategyInput("three", "ftp"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (StrategyInput("(", "ftp"), "regex"),
        (StrategyInput("", "ftp"), "characters"),
        (StrategyInput("x" * 1001, "ftp"), "characters"),
        (StrategyInput("(" * 400 + "a" + ")" * 400, "ftp"), "regex"),
        (StrategyInput(SLOW, "ftp"), "too long"),
        (StrategyInput("x", "gopher"), "no origin strategy"),
        (StrategyInput("x", "basic-http-auth"), "needs credentials"),
        (StrategyInput("x", "sftp", "{}"), "need"),
        (StrategyInput("x", "s3", {"user": "a", "password": "b"}), "access_key"),
        (StrategyInput("x", "sftp", {"user": "a"}), "private_key"),
        (StrategyInput("x", "s3-ambient", LOGIN), "takes no credentials"),
        (StrategyInput("x", "s3-public", "s3://bucket/key"), "takes no credentials"),
        (StrategyInput("x", "basic-http-auth", "secret but no json"), "JSON object"),
        (StrategyInput("x", "basic-http-auth", "s3://bucket"), "bucket"),
        (StrategyInput("x", "basic-http-auth", LOGIN, optimised=True), "optimised"),
        (StrategyInput("x", "ftp", optimised=True), "optimised"),
        (StrategyInput("x", "ftp", place=-1), "place"),
    ],
)
async def test_what_cannot_be_a_strategy_is_refused(
    desk: Desk, given: StrategyInput, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        await desk.strategies.create(CUSTOMER, given)
    assert "secret but" not in caught.value.public
    assert await desk.strategies.list(CUSTOMER) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("basic-http-authentication", "basic-http-auth"), (" Basic-HTTP-Auth", "basic-http-auth")],
)
async def test_other_spellings_are_understood(desk: Desk, name: str, kind: str) -> None:
    assert (await desk.add("x", name, json.dumps(LOGIN))).strategy == kind


@pytest.mark.parametrize("strategy", ["s3-ambient", "s3-public", "file"])
async def test_origins_in_buckets_and_files_may_be_optimised(desk: Desk, strategy: str) -> None:
    assert (await desk.add("x", strategy, optimised=True)).optimised


async def test_a_patch_leaves_what_it_does_not_name(desk: Desk) -> None:
    made = await desk.add("x", "basic-http-auth", LOGIN, place=4)
    for changes in (StrategyChanges(place=5), StrategyChanges(credentials=MASK)):
        after = await desk.strategies.patch(CUSTOMER, made.id, changes)
        assert (after.regex, after.credentials) == (made.regex, made.credentials)
    assert after.place == 5
    kept = await desk.strategies.replace(
        CUSTOMER, made.id, StrategyInput("y", "basic-http-auth", MASK)
    )
    assert (kept.credentials, kept.place) == (made.credentials, 0)


async def test_changing_the_kind_drops_credentials_and_what_they_were_for(desk: Desk) -> None:
    made = await desk.add("x", "basic-http-auth", LOGIN)
    changed = await desk.strategies.patch(CUSTOMER, made.id, StrategyChanges(strategy="file"))
    assert changed.credentials == ""
    await desk.strategies.patch(CUSTOMER, made.id, StrategyChanges(optimised=True))
    again = await desk.strategies.patch(CUSTOMER, made.id, StrategyChanges(strategy="ftp"))
    assert not again.optimised
    with pytest.raises(InvalidInput, match="needs credentials"):
        await desk.strategies.patch(CUSTOMER, made.id, StrategyChanges(strategy="sftp"))
    assert (await desk.strategies.get(CUSTOMER, made.id)).strategy == "ftp"


@pytest.mark.parametrize("regex", ["(", SLOW])
async def test_a_bad_regex_that_got_in_is_a_recorded_fault_and_no_hang(
    desk: Desk, database: Database, regex: str
) -> None:
    await desk.add("^s3://", "s3-public", place=1)
    await _by_hand(
        database,
        f"INSERT INTO origin_strategies (customer, place, regex, strategy) "
        f"VALUES ({CUSTOMER}, 2, $1, 'ftp')",
        regex,
    )
    desk.matcher.forget(CUSTOMER)
    assert await kinds(desk, "s3://bucket/key") == ["s3-public"]  # one before it still works
    began = time.monotonic()
    others = asyncio.create_task(_ticks())
    with pytest.raises(OriginUnavailable) as caught:
        await desk.matcher.match(CUSTOMER, ADDRESS)
    assert (caught.value.code, caught.value.retryable) == ("origin_config", False)
    assert time.monotonic() - began < 6
    others.cancel()
    examined = await desk.origins.examine(CUSTOMER, ADDRESS)
    assert examined.fault is not None
    assert examined.fault.code == "origin_config"


async def _ticks() -> None:
    while True:
        await asyncio.sleep(0.01)


async def test_credentials_lie_sealed_in_the_catalogue_and_are_never_logged(
    desk: Desk, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = (LOGIN["user"], LOGIN["password"])
        made = await desk.add("^http", "basic-http-auth", LOGIN)
        assert (await desk.fetch(server.url("/picture"))).bytes == len(PICTURE)
        server.logins["/picture"] = ("x", "y")
        assert await desk.code(server.url("/picture")) == "origin_refused"
    rows = await _by_hand(database, "SELECT * FROM origin_strategies")
    assert rows[0]["credentials"].startswith("fernet:")
    for secret in LOGIN.values():
        assert secret not in str(dict(rows[0]))
        assert secret not in repr(made)
        assert secret not in caplog.text
        assert json.dumps(secret).strip('"') not in caplog.text
    assert rows[0]["credentials"] not in repr(made)


async def test_keys_rotate(database: Database, tmp_path: Path) -> None:
    old, new = make_key(), make_key()
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = (LOGIN["user"], LOGIN["password"])
        origin = server.url("/picture")
        async with a_desk(database, tmp_path, [old]) as desk:
            await desk.add("^http", "basic-http-auth", LOGIN)
            await desk.add("other", "basic-http-auth", "s3://bucket/key")
        async with a_desk(database, tmp_path, [new]) as desk:
            assert await desk.code(origin) == "origin_credentials"
        async with a_desk(database, tmp_path, [new, old]) as desk:
            assert (await desk.fetch(origin)).bytes == len(PICTURE)
            assert await desk.strategies.reseal() == 1
        async with a_desk(database, tmp_path, [new]) as desk:
            assert (await desk.fetch(origin)).bytes == len(PICTURE)


async def test_links_are_followed_only_where_permitted(database: Database, tmp_path: Path) -> None:
    async with a_desk(database, tmp_path, credentials_links=["s3://secrets/{customer}/*"]) as desk:
        await desk.add("x", "basic-http-auth", f"s3://eu-west-1/secrets/{CUSTOMER}/login.json")
        for link in ("s3://secrets/8/login.json", f"s3://other/{CUSTOMER}/login.json"):
            with pytest.raises(InvalidInput, match="is not allowed"):
                await desk.add("y", "basic-http-auth", link)
        await _by_hand(
            database, "UPDATE origin_strategies SET credentials = 's3://secrets/8/login.json'"
        )
        desk.matcher.forget(CUSTOMER)
        assert await desk.code("http://127.0.0.1:1/x") == "origin_credentials"


async def test_local_files_are_no_origins_of_requests_but_below_the_roots(
    database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    async with a_desk(database, tmp_path, file_roots=[str(root)]) as desk:
        desk.origins.check_permitted(str(root / "a.jpg"))
        desk.origins.check_permitted(f"file://{root}/a%20b.jpg")
        desk.origins.check_permitted("https://example.org/a.jpg")
        for origin in ("/etc/passwd", f"{root}/../b.jpg", f"{root}/out/b.jpg", f"file://{root}x/a"):
            with pytest.raises(InvalidInput):
                desk.origins.check_permitted(origin)


async def _by_hand(database: Database, query: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()
