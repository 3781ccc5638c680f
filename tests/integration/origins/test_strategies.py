"""Origin strategies in the catalogue: which ones can be stored, which one is chosen, and how long
a regex may take.
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

from orchestrator.catalog.values import StrategyDraft
from orchestrator.doctor import Finding, examine
from orchestrator.errors import Conflict, InvalidInput, NotFound, OriginUnavailable
from orchestrator.origins.credential_store import make_key
from orchestrator.origins.credentials import MASK
from orchestrator.origins.strategy_input import StrategyChanges, StrategyInput
from orchestrator.settings import Database, Server, Settings
from tests.integration.origins.conftest import CUSTOMER, PICTURE, CustomerOrigins, customer_origins
from tests.support.origins import origin_server
from tests.support.patience import patience

LOGIN = {"user": "archivist", "password": "correct hörse: battery"}
SLOW = (
    r"^https://example.org/(a|aa|aaa|b)+$",
    r"(?:(?:b|bb|a)+)+$z",
    r"(.*a){20}$",
    r"(x+x+)+y|([a-z]+)+$z",
)
ADDRESS = "https://example.org/" + "a" * 40 + "1"


async def kinds(origins: CustomerOrigins, *addresses: str) -> list[str | None]:
    """Return the kind of the strategy that reads each address; None without a strategy."""
    matches = [await origins.matcher.match(CUSTOMER, address) for address in addresses]
    return [None if each is None else each.strategy for each in matches]


async def test_the_first_strategy_whose_regex_matches_anywhere_in_any_case_is_chosen(
    origins: CustomerOrigins,
) -> None:
    await origins.add("example", "ftp", place=2)
    await origins.add(r"EXAMPLE\.org/Private", "s3-public", place=1)
    await origins.add("example.org/priv", "s3-ambient", place=3)
    assert await kinds(
        origins, "https://example.org/private/a.jpg", "https://example.org/a.jpg", "https://x/a.jpg"
    ) == ["s3-public", "ftp", None]
    assert [each.place for each in await origins.strategies.list(CUSTOMER)] == [1, 2, 3]


async def test_strategies_in_the_same_place_keep_their_order(origins: CustomerOrigins) -> None:
    for n in range(5):
        await origins.add(f"x|{n}", "s3-public")
    first = (await origins.strategies.list(CUSTOMER))[0]
    for _ in range(3):
        found = await origins.matcher.match(CUSTOMER, "x")
        assert found is not None
        assert found.id == first.id


async def test_strategies_of_another_customer_are_not_used(origins: CustomerOrigins) -> None:
    await origins.catalog.customers.ensure(8, "eight")
    await origins.strategies.create(8, StrategyInput(".", "s3-public"))
    assert await kinds(origins, "s3://bucket/key") == [None]
    other = (await origins.strategies.list(8))[0]
    with pytest.raises(NotFound):
        await origins.strategies.delete(CUSTOMER, other.id)
    with pytest.raises(NotFound):
        await origins.strategies.get(CUSTOMER, other.id)


async def test_a_change_takes_effect_at_once_here_and_after_the_ttl_in_another_process(
    origins: CustomerOrigins, database: Database, tmp_path: Path
) -> None:
    async with customer_origins(database, tmp_path, strategies_ttl_s=0.2) as other:
        one = await origins.add("one", "s3-public")
        assert await kinds(origins, "one") == ["s3-public"]
        assert await kinds(other, "one") == ["s3-public"]
        await origins.strategies.patch(CUSTOMER, one.id, StrategyChanges(regex="two"))
        assert await kinds(origins, "one", "two") == [None, "s3-public"]
        await origins.strategies.delete(CUSTOMER, one.id)
        assert await kinds(origins, "two") == [None]
        async with asyncio.timeout(5 * patience()):
            while await kinds(other, "one") != [None]:
                await asyncio.sleep(0.05)


async def test_the_same_regex_twice_is_a_conflict(origins: CustomerOrigins) -> None:
    await origins.add("one", "s3-public")
    two = await origins.add("two", "s3-public")
    with pytest.raises(Conflict):
        await origins.add("one", "ftp")
    with pytest.raises(Conflict):
        await origins.strategies.patch(CUSTOMER, two.id, StrategyChanges(regex="one"))
    with pytest.raises(NotFound):
        await origins.strategies.create(99, StrategyInput("one", "ftp"))
    with pytest.raises(NotFound):
        await origins.strategies.replace(CUSTOMER, uuid4(), StrategyInput("three", "ftp"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (StrategyInput("(", "ftp"), "regex"),
        (StrategyInput("", "ftp"), "characters"),
        (StrategyInput("x" * 1001, "ftp"), "characters"),
        (StrategyInput("^https://(?!private)", "ftp"), "RE2"),
        (StrategyInput("(?<=/)x", "ftp"), "look-around"),
        (StrategyInput(r"(a)\1", "ftp"), "back-references"),
        (StrategyInput("a++", "ftp"), "possessive"),
        (StrategyInput("(" + "x{900}" * 100 + ")+", "ftp"), "too large"),
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
async def test_an_invalid_strategy_is_refused(
    origins: CustomerOrigins, given: StrategyInput, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        await origins.strategies.create(CUSTOMER, given)
    assert "secret but" not in caught.value.public
    assert await origins.strategies.list(CUSTOMER) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("basic-http-authentication", "basic-http-auth"), (" Basic-HTTP-Auth", "basic-http-auth")],
)
async def test_aliases_of_a_kind_are_accepted(
    origins: CustomerOrigins, name: str, kind: str
) -> None:
    assert (await origins.add("x", name, json.dumps(LOGIN))).strategy == kind


@pytest.mark.parametrize("strategy", ["s3-ambient", "s3-public", "file"])
async def test_origins_in_buckets_and_files_may_be_optimised(
    origins: CustomerOrigins, strategy: str
) -> None:
    assert (await origins.add("x", strategy, optimised=True)).optimised


async def test_a_patch_leaves_the_other_fields_as_they_are(origins: CustomerOrigins) -> None:
    created = await origins.add("x", "basic-http-auth", LOGIN, place=4)
    for changes in (StrategyChanges(place=5), StrategyChanges(credentials=MASK)):
        after = await origins.strategies.patch(CUSTOMER, created.id, changes)
        assert (after.regex, after.credentials) == (created.regex, created.credentials)
    assert after.place == 5
    kept = await origins.strategies.replace(
        CUSTOMER, created.id, StrategyInput("y", "basic-http-auth", MASK)
    )
    assert (kept.credentials, kept.place) == (created.credentials, 0)


async def test_a_new_kind_drops_the_credentials_and_an_optimisation_it_cannot_have(
    origins: CustomerOrigins,
) -> None:
    created = await origins.add("x", "basic-http-auth", LOGIN)
    changed = await origins.strategies.patch(CUSTOMER, created.id, StrategyChanges(strategy="file"))
    assert changed.credentials == ""
    await origins.strategies.patch(CUSTOMER, created.id, StrategyChanges(optimised=True))
    again = await origins.strategies.patch(CUSTOMER, created.id, StrategyChanges(strategy="ftp"))
    assert not again.optimised
    with pytest.raises(InvalidInput, match="needs credentials"):
        await origins.strategies.patch(CUSTOMER, created.id, StrategyChanges(strategy="sftp"))
    assert (await origins.strategies.get(CUSTOMER, created.id)).strategy == "ftp"


@pytest.mark.parametrize("regex", ["(", "^(?!https)"])
async def test_a_regex_that_is_not_valid_in_the_catalogue_is_a_fault_and_blocks_nothing(
    origins: CustomerOrigins, database: Database, regex: str
) -> None:
    await origins.add("^s3://", "s3-public", place=1)
    await _execute(
        database,
        f"INSERT INTO origin_strategies (customer, place, regex, strategy) "
        f"VALUES ({CUSTOMER}, 2, $1, 'ftp')",
        regex,
    )
    origins.matcher.forget(CUSTOMER)
    assert await kinds(origins, "s3://bucket/key") == [
        "s3-public"
    ]  # a strategy before it still works
    with pytest.raises(OriginUnavailable) as caught:
        await origins.matcher.match(CUSTOMER, ADDRESS)
    assert (caught.value.code, caught.value.retryable) == ("origin_config", False)
    report = await origins.fetcher.examine(CUSTOMER, ADDRESS)
    assert report.fault is not None
    assert report.fault.code == "origin_config"


async def test_doctor_names_each_regex_that_is_not_valid(
    origins: CustomerOrigins, database: Database, tmp_path: Path
) -> None:
    settings = Settings(server=Server(data_dir=tmp_path / "data"), database=database)
    await origins.add("^s3://", "s3-public")
    assert (await _finding(settings)).status == "ok"
    for regex in ("a(?!b)", r"(x)\1"):
        await origins.catalog.strategies.create(CUSTOMER, StrategyDraft(regex, "ftp"))
    finding = await _finding(settings)
    assert finding.status == "broken"
    assert "a(?!b)" in finding.detail
    assert r"(x)\1" in finding.detail
    assert "^s3://" not in finding.detail
    assert f"customer {CUSTOMER} strategy " in finding.detail
    assert "change the regex" in finding.mend


async def _finding(settings: Settings) -> Finding:
    [found] = [each for each in await examine(settings) if each.check == "origin strategies"]
    return found


@pytest.mark.parametrize("regex", SLOW)
async def test_a_regex_takes_linear_time(origins: CustomerOrigins, regex: str) -> None:
    """Each of them takes a backtracking engine more than the age of the universe."""
    await origins.add(regex, "ftp", place=1)
    began = time.monotonic()
    for length in (30, 300, 3000):
        assert (
            await origins.matcher.match(CUSTOMER, f"https://example.org/{'ab' * length}!") is None
        )
    assert time.monotonic() - began < 5 * patience()


async def test_a_stored_end_of_text_still_compiles(origins: CustomerOrigins) -> None:
    await origins.add(r"\.jpg\Z", "ftp", place=1)
    assert await kinds(origins, "https://example.org/a.JPG") == ["ftp"]


async def test_credentials_are_sealed_in_the_catalogue_and_never_logged(
    origins: CustomerOrigins, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = (LOGIN["user"], LOGIN["password"])
        strategy = await origins.add("^http", "basic-http-auth", LOGIN)
        assert (await origins.fetch(server.url("/picture"))).bytes == len(PICTURE)
        server.logins["/picture"] = ("x", "y")
        assert await origins.fault_code(server.url("/picture")) == "origin_refused"
    rows = await _execute(database, "SELECT * FROM origin_strategies")
    assert rows[0]["credentials"].startswith("fernet:")
    for secret in LOGIN.values():
        assert secret not in str(dict(rows[0]))
        assert secret not in repr(strategy)
        assert secret not in caplog.text
        assert json.dumps(secret).strip('"') not in caplog.text
    assert rows[0]["credentials"] not in repr(strategy)


async def test_resealed_credentials_open_with_the_new_key_alone(
    database: Database, tmp_path: Path
) -> None:
    old, new = make_key(), make_key()
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = (LOGIN["user"], LOGIN["password"])
        origin = server.url("/picture")
        async with customer_origins(database, tmp_path, [old]) as origins:
            await origins.add("^http", "basic-http-auth", LOGIN)
            await origins.add("other", "basic-http-auth", "s3://bucket/key")
        async with customer_origins(database, tmp_path, [new]) as origins:
            assert await origins.fault_code(origin) == "origin_credentials"
        async with customer_origins(database, tmp_path, [new, old]) as origins:
            assert (await origins.fetch(origin)).bytes == len(PICTURE)
            assert await origins.strategies.reseal() == 1
        async with customer_origins(database, tmp_path, [new]) as origins:
            assert (await origins.fetch(origin)).bytes == len(PICTURE)


async def test_only_permitted_links_to_credentials_are_read(
    database: Database, tmp_path: Path
) -> None:
    async with customer_origins(
        database, tmp_path, credentials_links=["s3://secrets/{customer}/*"]
    ) as origins:
        await origins.add("x", "basic-http-auth", f"s3://eu-west-1/secrets/{CUSTOMER}/login.json")
        for link in ("s3://secrets/8/login.json", f"s3://other/{CUSTOMER}/login.json"):
            with pytest.raises(InvalidInput, match="is not allowed"):
                await origins.add("y", "basic-http-auth", link)
        await _execute(
            database, "UPDATE origin_strategies SET credentials = 's3://secrets/8/login.json'"
        )
        origins.matcher.forget(CUSTOMER)
        assert await origins.fault_code("http://127.0.0.1:1/x") == "origin_credentials"


async def test_a_request_may_name_local_files_only_below_the_file_roots(
    database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    async with customer_origins(database, tmp_path, file_roots=[str(root)]) as origins:
        origins.fetcher.check_permitted(str(root / "a.jpg"))
        origins.fetcher.check_permitted(f"file://{root}/a%20b.jpg")
        origins.fetcher.check_permitted("https://example.org/a.jpg")
        for origin in ("/etc/passwd", f"{root}/../b.jpg", f"{root}/out/b.jpg", f"file://{root}x/a"):
            with pytest.raises(InvalidInput):
                origins.fetcher.check_permitted(origin)


async def _execute(database: Database, query: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()
