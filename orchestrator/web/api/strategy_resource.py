"""A customer's origin strategies, and a dry run of one origin. Credentials go in, never out."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.strategy_editor import StrategyEditor
from orchestrator.origins.strategy_input import StrategyChanges, StrategyInput
from orchestrator.web.api.json_responses import answer, nothing
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import OriginTest, StrategyIn, StrategyPatch
from orchestrator.web.api.rule_models import OriginFound, StrategyList, StrategyOut


class StrategyResource:
    """Handlers of `/customers/{c}/originStrategies/...`."""

    def __init__(self, strategies: StrategyEditor, origins: OriginFetcher) -> None:
        self._strategies = strategies
        self._origins = origins

    async def page(self, call: ApiCall) -> web.Response:
        """200 with all, in the order they are tried."""
        found = await self._strategies.list(call.customer)
        return answer(
            StrategyList(origin_strategies=[StrategyOut.model_validate(each) for each in found])
        )

    async def show(self, call: ApiCall) -> web.Response:
        """200 with one."""
        found = await self._strategies.get(call.customer, _id(call))
        return answer(StrategyOut.model_validate(found))

    async def create(self, call: ApiCall) -> web.Response:
        """201 with a new one."""
        made = await self._strategies.create(call.customer, _input(call))
        location = f"/customers/{call.customer}/originStrategies/{made.id}"
        return answer(StrategyOut.model_validate(made), 201, headers={"Location": location})

    async def put(self, call: ApiCall) -> web.Response:
        """200 with one replaced."""
        now = await self._strategies.replace(call.customer, _id(call), _input(call))
        return answer(StrategyOut.model_validate(now))

    async def patch(self, call: ApiCall) -> web.Response:
        """200 with one changed."""
        given = call.given(StrategyPatch)
        changes = StrategyChanges(
            regex=given.regex,
            strategy=given.strategy,
            credentials=given.credentials,
            optimised=given.optimised,
            place=given.place,
        )
        now = await self._strategies.patch(call.customer, _id(call), changes)
        return answer(StrategyOut.model_validate(now))

    async def delete(self, call: ApiCall) -> web.Response:
        """204."""
        await self._strategies.delete(call.customer, _id(call))
        return nothing()

    async def test(self, call: ApiCall) -> web.Response:
        """200 with which strategy fits an origin, and whether it can be fetched."""
        origin = call.given(OriginTest).origin
        self._origins.check_permitted(origin)
        return answer(
            OriginFound.model_validate(await self._origins.examine(call.customer, origin))
        )


def _id(call: ApiCall) -> UUID:
    try:
        return UUID(call.text("strategy"))
    except ValueError as error:
        raise NotFound("There is no such origin strategy.") from error


def _input(call: ApiCall) -> StrategyInput:
    given = call.given(StrategyIn)
    return StrategyInput(
        given.regex, given.strategy, given.credentials, given.optimised, given.place
    )
