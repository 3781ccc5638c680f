"""Handlers of a customer's origin strategies, and the test of one origin. Credentials are received
and never sent.
"""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.strategy_editor import StrategyEditor
from orchestrator.origins.strategy_input import StrategyChanges, StrategyInput
from orchestrator.web.api.json_responses import json_response, no_content
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import OriginTest, StrategyIn, StrategyPatch
from orchestrator.web.api.rule_models import OriginFound, StrategyList, StrategyOut


class StrategyResource:
    """Handlers of `/customers/{c}/originStrategies/...`."""

    def __init__(self, strategies: StrategyEditor, origins: OriginFetcher) -> None:
        self._strategies = strategies
        self._origins = origins

    async def list_strategies(self, call: ApiCall) -> web.Response:
        """Answer 200 with all strategies, in the order in which they are tried."""
        strategies = await self._strategies.list(call.customer)
        return json_response(
            StrategyList(origin_strategies=[StrategyOut.model_validate(s) for s in strategies])
        )

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the strategy."""
        strategy = await self._strategies.get(call.customer, _strategy_id(call))
        return json_response(StrategyOut.model_validate(strategy))

    async def create(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new strategy."""
        strategy = await self._strategies.create(call.customer, _strategy_input(call))
        location = f"/customers/{call.customer}/originStrategies/{strategy.id}"
        return json_response(
            StrategyOut.model_validate(strategy), 201, headers={"Location": location}
        )

    async def put(self, call: ApiCall) -> web.Response:
        """Answer 200 with the replaced strategy."""
        strategy = await self._strategies.replace(
            call.customer, _strategy_id(call), _strategy_input(call)
        )
        return json_response(StrategyOut.model_validate(strategy))

    async def patch(self, call: ApiCall) -> web.Response:
        """Answer 200 with the changed strategy."""
        body = call.body_as(StrategyPatch)
        changes = StrategyChanges(
            regex=body.regex,
            strategy=body.strategy,
            credentials=body.credentials,
            optimised=body.optimised,
            place=body.place,
        )
        strategy = await self._strategies.patch(call.customer, _strategy_id(call), changes)
        return json_response(StrategyOut.model_validate(strategy))

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 204."""
        await self._strategies.delete(call.customer, _strategy_id(call))
        return no_content()

    async def test(self, call: ApiCall) -> web.Response:
        """Answer 200 with the strategy that matches an origin, and whether it can be fetched."""
        origin = call.body_as(OriginTest).origin
        self._origins.check_permitted(origin)
        report = await self._origins.examine(call.customer, origin)
        return json_response(OriginFound.model_validate(report))


def _strategy_id(call: ApiCall) -> UUID:
    try:
        return UUID(call.path_text("strategy"))
    except ValueError as error:
        raise NotFound(
            "There is no such origin strategy. Check the id; GET .../originStrategies lists them."
        ) from error


def _strategy_input(call: ApiCall) -> StrategyInput:
    body = call.body_as(StrategyIn)
    return StrategyInput(body.regex, body.strategy, body.credentials, body.optimised, body.place)
