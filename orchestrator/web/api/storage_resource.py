"""A customer's storage policy: how much it may store, and how much of that is used."""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.quotas import Quotas
from orchestrator.web.api.json_responses import answer
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import StorageIn
from orchestrator.web.api.rule_models import StorageOut


class StorageResource:
    """Handlers of `/customers/{c}/storagePolicy`."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def show(self, call: ApiCall) -> web.Response:
        """200 with limits and use."""
        return answer(StorageOut.model_validate(await self._quotas.get(call.customer)))

    async def put(self, call: ApiCall) -> web.Response:
        """200 with the new limits."""
        given = call.given(StorageIn)
        use = await self._quotas.set_limits(
            call.customer,
            max_images=given.maximum_number_of_stored_images,
            max_bytes=given.maximum_total_size_of_stored_images,
        )
        return answer(StorageOut.model_validate(use))
