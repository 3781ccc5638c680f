"""Handlers of global policies and of a customer's policies, and the preview of a thumbnail
policy.
"""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from orchestrator.catalog.stored_policies import EVERYONE, PolicyKind
from orchestrator.errors import NotFound
from orchestrator.ingest.policies import Policies, PolicyEntry
from orchestrator.web.api.json_responses import json_response, no_content
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import PreviewQuery
from orchestrator.web.api.rule_models import PolicyList, PolicyOut, Preview


class PolicyResource:
    """Handlers of `/imageOptimisationPolicies` or `/thumbnailPolicies`, and of the same path below
    `/customers/{c}`.
    """

    def __init__(self, policies: Policies, kind: PolicyKind) -> None:
        self._policies = policies
        self._kind: PolicyKind = kind

    async def list_policies(self, call: ApiCall) -> web.Response:
        """Answer 200 with every policy that a request may name."""
        policies = await self._policies.list(self._kind, _owner(call))
        return json_response(PolicyList(policies=[PolicyOut.of(policy) for policy in policies]))

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the policy that this name selects."""
        return json_response(PolicyOut.of(await self._get_policy(call)))

    async def put(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new policy, or 200 with a replaced one."""
        definition = call.body_as(BaseModel).model_dump(by_alias=True, exclude_none=True)
        entry, is_new = await self._policies.put(
            self._kind, _owner(call), call.path_text("name"), definition
        )
        headers = {"Location": call.request.rel_url.raw_path} if is_new else {}
        return json_response(PolicyOut.of(entry), 201 if is_new else 200, headers=headers)

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 204. Sources and thumbnails that the policy made stay."""
        await self._policies.delete(self._kind, _owner(call), call.path_text("name"))
        return no_content()

    async def preview(self, call: ApiCall) -> web.Response:
        """Answer 200 with the thumbnails that the policy makes of an image of this size."""
        query = call.query_as(PreviewQuery)
        name = (await self._get_policy(call)).name
        sizes = await self._policies.preview(_owner(call), name, query.width, query.height)
        return json_response(
            Preview(
                policy=name,
                width=query.width,
                height=query.height,
                thumbnails=[list(size) for size in sizes],
            )
        )

    async def _get_policy(self, call: ApiCall) -> PolicyEntry:
        name = call.path_text("name")
        for policy in await self._policies.list(self._kind, _owner(call)):
            if policy.name == name:
                return policy
        raise NotFound(f"There is no {self._kind} policy {name[:100]!r}. Check the name.")


def _owner(call: ApiCall) -> int:
    """Return the customer that owns the policies; EVERYONE if the path names no customer."""
    return call.customer if "customer" in call.request.match_info else EVERYONE
