"""The requests of one customer to the management API are bounded, whichever of its keys it uses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from orchestrator.catalog.values import ApiKey
from orchestrator.errors import TooManyRequests
from orchestrator.web.api.operations import ApiCall, Operation, OperationRouter
from orchestrator.web.error_table import make_problem

RATE = 3
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class Keys:
    """Every secret is right. The id of a key is its customer and a letter, or `admin`."""

    async def verify(self, key: str, secret: str) -> ApiKey | None:
        if key == "admin":
            return ApiKey(key, 1, _CREATED, admin=True)
        return ApiKey(key, int(key[:-1]), _CREATED)


async def _show(_call: ApiCall) -> web.Response:
    return web.Response()


async def _exists(_customer: int) -> bool:
    return True


@pytest.fixture
def ask():
    router = OperationRouter(Keys(), _exists, rate_limit=RATE)
    handle = router._make_handler(Operation("GET", "/jobs", _show, "Jobs"))

    async def ask(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}.secret"}
        return (await handle(make_mocked_request("GET", "/jobs", headers))).status

    return ask


async def test_a_customer_over_its_rate_is_429_with_each_of_its_keys_and_others_are_not(ask):
    for key in ("7a", "7b", "7a"):
        assert await ask(key) == 200
    for key in ("7a", "7b"):
        with pytest.raises(TooManyRequests) as refused:
            await ask(key)
    problem = make_problem(refused.value)
    assert problem.status == 429
    assert 0 < int(dict(problem.headers)["Retry-After"]) <= 60 / RATE + 1
    assert await ask("8a") == 200


async def test_an_admin_key_has_no_limit(ask):
    assert [await ask("admin") for _ in range(3 * RATE)] == [200] * 3 * RATE
