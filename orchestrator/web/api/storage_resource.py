"""Handlers of a customer's storage policy: the limits, and how much of them is used."""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.quotas import Quotas
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import StorageIn
from orchestrator.web.api.rule_models import StorageOut


class StorageResource:
    """Handlers of `/customers/{c}/storagePolicy`."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the limits and their use."""
        return json_response(StorageOut.model_validate(await self._quotas.get(call.customer)))

    async def put(self, call: ApiCall) -> web.Response:
        """Answer 200 with the new limits."""
        body = call.body_as(StorageIn)
        use = await self._quotas.set_limits(
            call.customer,
            max_images=body.maximum_number_of_stored_images,
            max_bytes=body.maximum_total_size_of_stored_images,
        )
        return json_response(StorageOut.model_validate(use))
