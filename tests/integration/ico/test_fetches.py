"""How often the bucket is asked, counted on the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.settings import Ico
from tests.integration.ico.conftest import bucket_settings, jpeg, open_site
from tests.support.counting_proxy import counting_proxy
from tests.support.server_fixtures import S3Server, new_database
from tests.support.weed import BUCKET


async def test_a_hundred_first_requests_fetch_the_original_once_and_store_one_result(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    dsn = await new_database(postgres)
    with counting_proxy(s3_server.endpoint) as proxy:
        where = bucket_settings(s3_server) | {"endpoint": proxy.address}
        settings = Ico(presets={"w300": "width=300", "w200": "width=200"}, recheck_s=600, **where)
        async with open_site(dsn, tmp_path / "data", settings) as site:
            await site.put("crowd/a.jpg", jpeg(600, 400))
            proxy.clear()
            answers = await asyncio.gather(*(site.ask("/ico/w300/crowd/a.jpg") for _ in range(100)))
            assert {(each.status, each.body) for each in answers} == {(200, answers[0].body)}
            await site.until_stored("crowd/w300/a.jpg")
            original, result = f"/{BUCKET}/crowd/a.jpg", f"/{BUCKET}/crowd/w300/a.jpg"
            sent = [(method, target.partition("?")[0]) for method, target in proxy.requests()]
            assert sent.count(("GET", original)) == 1
            assert sent.count(("PUT", result)) == 1
            proxy.clear()
            # Another size is made from the copy of the original.
            assert (await site.ask("/ico/w200/crowd/a.jpg")).tier == "resize"
            assert ("GET", original) not in proxy.requests()
            for _ in range(50):
                assert (await site.ask("/ico/w300/crowd/a.jpg")).body == answers[0].body
            assert [each for each in proxy.requests() if each[1] == result] == []
