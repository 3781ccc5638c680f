"""Policies, global and of a customer; and which thumbnails one of them gives."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from orchestrator.catalog.stored_policies import EVERYONE, PolicyKind
from orchestrator.errors import NotFound
from orchestrator.ingest.policies import Policies, PolicyEntry
from orchestrator.web.api.json_responses import answer, nothing
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import PreviewQuery
from orchestrator.web.api.rule_models import PolicyList, PolicyOut, Preview


class PolicyResource:
    """Handlers of `/imageOptimisationPolicies` or `/thumbnailPolicies`, and of the same below
    `/customers/{c}`.
    """

    def __init__(self, policies: Policies, kind: PolicyKind) -> None:
        self._policies = policies
        self._kind: PolicyKind = kind

    async def page(self, call: ApiCall) -> web.Response:
        """200 with every policy that may be named."""
        found = await self._policies.list(self._kind, _owner(call))
        return answer(PolicyList(policies=[PolicyOut.of(each) for each in found]))

    async def show(self, call: ApiCall) -> web.Response:
        """200 with the policy of this name that is in force here."""
        return answer(PolicyOut.of(await self._named(call)))

    async def put(self, call: ApiCall) -> web.Response:
        """201 with a new one, or 200 with one replaced."""
        given = call.given(BaseModel)
        definition = given.model_dump(by_alias=True, exclude_none=True)
        entry, is_new = await self._policies.put(
            self._kind, _owner(call), call.text("name"), definition
        )
        headers = {"Location": call.request.rel_url.raw_path} if is_new else {}
        return answer(PolicyOut.of(entry), 201 if is_new else 200, headers=headers)

    async def delete(self, call: ApiCall) -> web.Response:
        """204; what was made by it stays as it is."""
        await self._policies.delete(self._kind, _owner(call), call.text("name"))
        return nothing()

    async def preview(self, call: ApiCall) -> web.Response:
        """200 with the thumbnails that a picture of this size gets."""
        query = call.asked(PreviewQuery)
        name = (await self._named(call)).name
        sizes = await self._policies.preview(_owner(call), name, query.width, query.height)
        return answer(
            Preview(
                policy=name,
                width=query.width,
                height=query.height,
                thumbnails=[list(size) for size in sizes],
            )
        )

    async def _named(self, call: ApiCall) -> PolicyEntry:
        name = call.text("name")
        for entry in await self._policies.list(self._kind, _owner(call)):
            if entry.name == name:
                return entry
        raise NotFound(f"There is no {self._kind} policy {name[:100]!r}.")


def _owner(call: ApiCall) -> int:
    """Whose policies they are; EVERYONE where the address names no customer."""
    return call.customer if "customer" in call.request.match_info else EVERYONE
