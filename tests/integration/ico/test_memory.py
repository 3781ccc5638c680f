"""Which answers of /ico the hot tier gives, and until when; buckets that headers choose; formats by
Accept; restricted assets.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from orchestrator.model import AssetId
from orchestrator.settings import Ico, IcoBucket, Ingest
from orchestrator.transform.signatures import SignedText, sign
from tests.integration.ico.conftest import (
    PURGE_SECRET,
    SIGNING_SECRET,
    Site,
    bucket_settings,
    jpeg,
    open_bucket,
    open_site,
)
from tests.support import pictures
from tests.support.patience import patience
from tests.support.server_fixtures import S3Server, new_database
from tests.support.weed import PUBLIC_BUCKET

pytestmark = pytest.mark.asyncio(loop_scope="module")
RECHECK_S = 4.0
PAIR = {"X_S3_Region": "eu-west-9", "X_S3_Bucket": PUBLIC_BUCKET}
AVIF = "image/avif,image/webp,image/*;q=0.8"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    postgres: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("ico")
    served = folder / "served"
    served.mkdir()
    pictures.jpeg(served / "public.jpg", 300, 200)
    pictures.jpeg(served / "secret.jpg", 300, 200)
    own = bucket_settings(s3_server)
    other = {**own, "region": PAIR["X_S3_Region"], "bucket": PUBLIC_BUCKET}
    settings = Ico(
        secrets=[SecretStr(SIGNING_SECRET)],
        presets={"w50": "width=50", "w60": "width=60", "webp": "width=50,format=webp"},
        purge_secrets=[SecretStr(PURGE_SECRET)],
        buckets=[IcoBucket(**other)],
        negotiate=True,
        quota=50_000_000,
        recheck_s=RECHECK_S,
        **own,
    )
    dsn = await new_database(postgres)
    async with open_site(
        dsn, folder / "data", settings, ingest=Ingest(folder=str(served))
    ) as opened:
        async with asyncio.timeout(60 * patience()):
            while await opened.services.catalog.get(AssetId(1, 1, "secret")) is None:
                await asyncio.sleep(0.05)
        await opened.put("hot/a.jpg", jpeg(300, 200))
        yield opened


async def test_a_result_is_answered_from_memory_until_the_original_is_looked_up(
    site: Site,
) -> None:
    await site.put("soon/a.jpg", jpeg(300, 200))
    first = await site.ask("/ico/w50/soon/a.jpg")
    second = await site.ask_for_memory("/ico/w50/soon/a.jpg")
    assert second.body == first.body
    for name in ("etag", "cache-control", "vary", "last-modified", "surrogate-key"):
        assert second.headers[name] == first.headers[name]
    await site.put("soon/a.jpg", jpeg(300, 100))
    async with asyncio.timeout((RECHECK_S + 30) * patience()):
        while (await site.ask("/ico/w50/soon/a.jpg")).size != (50, 17):
            await asyncio.sleep(0.1)


async def test_a_signed_url_is_answered_from_memory_and_a_forged_one_never(site: Site) -> None:
    sig = sign(SIGNING_SECRET, SignedText("width=91", "hot/a.jpg"))
    url = f"/ico/width=91/hot/a.jpg?sig={sig}"
    assert (await site.ask(url)).status == 200
    await site.ask_for_memory(url)
    assert (await site.ask("/ico/width=91/hot/a.jpg")).status == 403
    await site.until_published()
    for _ in range(2):  # a client can invent any number of these
        assert (await site.ask(f"{url}&x=1")).tier == "disk"
    assert (await site.ask(f"{url[:-1]}x")).status == 403


async def test_no_answer_outlives_its_signature_in_memory(site: Site) -> None:
    exp = str(int(time.time()) + 2)
    sig = sign(SIGNING_SECRET, SignedText("width=92", "hot/a.jpg", exp))
    url = f"/ico/width=92/hot/a.jpg?exp={exp}&sig={sig}"
    assert (await site.ask(url)).status in (200, 410)  # 410 on a busy machine
    async with asyncio.timeout(20 * patience()):
        while time.time() <= int(exp):
            await asyncio.sleep(0.1)
    assert (await site.ask(url)).status == 410


async def test_a_query_that_is_no_signature_is_not_kept_in_memory(site: Site) -> None:
    for _ in range(3):
        assert (await site.ask("/ico/w50/hot/a.jpg?x=1")).tier != "memory"


async def test_results_count_in_their_share_of_the_quota(site: Site) -> None:
    await site.ask("/ico/w60/hot/a.jpg", Accept="image/webp")
    cache = site.services.derivatives
    assert cache.options.shares == (("ico", 50_000_000),)
    names = [path.name for path in (site.services.settings.data_dir / "cache").rglob("*.img")]
    assert any("-ico-" in name for name in names)


async def test_a_purge_drops_the_answers_in_memory(site: Site) -> None:
    await site.put("drop/a.jpg", jpeg(300, 200))
    await site.ask("/ico/w50/drop/a.jpg")
    await site.ask_for_memory("/ico/w50/drop/a.jpg")
    await site.until_settled()
    secret = f"Bearer {PURGE_SECRET}"
    assert (await site.ask("/ico/drop/a.jpg", "DELETE", Authorization=secret)).status == 200
    assert (await site.ask("/ico/w50/drop/a.jpg")).tier == "resize"


async def test_headers_choose_an_allowed_bucket_and_never_meet_another_answer(
    site: Site, s3_server: S3Server
) -> None:
    await site.put("pair/a.jpg", jpeg(300, 200))
    async with open_bucket(s3_server, PUBLIC_BUCKET) as other:
        await other.put("pair/a.jpg", jpeg(300, 100))
    for _ in range(3):
        own = await site.ask("/ico/w50/pair/a.jpg")
        chosen = await site.ask("/ico/w50/pair/a.jpg", **PAIR)
        assert (own.size, chosen.size) == ((50, 33), (50, 17))
        assert chosen.tier != "memory"
        for answer in (own, chosen):
            assert "X-S3-Region, X-S3-Bucket" in answer.headers["vary"]
    ranged = await site.ask("/ico/w50/pair/a.jpg", Range="bytes=0-99999", **PAIR)
    assert ranged.size == (50, 17)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_S3_Region": "eu-west-9", "X_S3_Bucket": "other"},
        {"X_S3_Region": "us-east-1", "X_S3_Bucket": PUBLIC_BUCKET},
        {"X_S3_Bucket": PUBLIC_BUCKET},
    ],
)
async def test_any_other_pair_is_refused(site: Site, headers: dict[str, str]) -> None:
    answer = await site.ask("/ico/w50/hot/a.jpg", **headers)
    assert answer.status == 403
    assert "X-S3-Region" in answer.headers["vary"]


async def test_a_signature_for_one_bucket_is_none_for_another(site: Site) -> None:
    sig = sign(SIGNING_SECRET, SignedText("width=93", "hot/a.jpg"))
    assert (await site.ask(f"/ico/width=93/hot/a.jpg?sig={sig}", **PAIR)).status == 403


async def test_accept_selects_the_format(site: Site) -> None:
    for ask in (site.ask, site.ask_for_memory):
        plain = await ask("/ico/w60/hot/a.jpg", Accept="*/*")
        newer = await ask("/ico/w60/hot/a.jpg", Accept=AVIF)
        assert plain.headers["content-type"] == "image/jpeg"
        assert newer.headers["content-type"] == "image/avif"
        assert "Accept" in newer.headers["vary"]
    named = await site.ask("/ico/webp/hot/a.jpg", Accept=AVIF)
    assert named.headers["content-type"] == "image/webp"


async def test_an_asset_is_shaped_with_the_rights_of_iiif(site: Site) -> None:
    public = await site.ask("/ico/w50/asset:1/1/public")
    assert (public.status, public.size) == (200, (50, 33))
    assert (await site.ask("/ico/w50/asset:1%2F1%2Fpublic")).body == public.body
    await site.ask_for_memory("/ico/w50/asset:1/1/public")
    services = site.services
    await services.pipeline.editor.set_access(
        AssetId(1, 1, "secret"), roles=("staff",), max_unauthorised=0
    )
    async with asyncio.timeout(30 * patience()):
        while (await site.ask("/ico/w50/asset:1/1/secret")).status != 401:
            await asyncio.sleep(0.02)
    token = services.tokens.create(["staff"], 60)
    for _ in range(2):
        answer = await site.ask("/ico/w50/asset:1/1/secret", Authorization=f"Bearer {token}")
        assert (answer.status, answer.size) == (200, (50, 33))
        assert answer.tier != "memory"
        assert answer.headers["cache-control"].startswith("private")
        assert "Authorization" in answer.headers["vary"]
    assert (await site.ask("/ico/w50/asset:1/1/secret")).status == 401


async def test_warmed_results_are_stored_before_any_request(site: Site) -> None:
    await site.put("warm/a.jpg", jpeg(300, 200))
    await site.put("warm/b.jpg", jpeg(300, 200))
    key = (await site.services.catalog.keys.create(1, admin=True)).token
    body = {"paths": ["warm/a.jpg", "warm/b.jpg"], "params": ["w50", "width=70"]}

    async def post(document: object, **headers: str) -> int:
        async with site.session.post(
            f"{site.private}/ico/warm", data=json.dumps(document), headers=headers
        ) as response:
            return response.status

    assert await post(body) == 401
    allowed = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert await post({**body, "params": ["wide"]}, **allowed) == 400
    assert await post({**body, "paths": ["../a.jpg"]}, **allowed) == 400
    assert await post({**body, "paths": ["a.jpg"] * 6000}, **allowed) == 400
    assert await post(body, **allowed) == 202
    for path in ("w50/a.jpg", "w50/b.jpg", "width=70/a.jpg", "width=70/b.jpg"):
        await site.until_stored(f"warm/{path}")
