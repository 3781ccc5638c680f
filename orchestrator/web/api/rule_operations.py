"""The operations of the rules of a customer: origin strategies, policies and storage limits."""

from __future__ import annotations

from orchestrator.web.api import request_models, rule_models
from orchestrator.web.api.operations import Access, Operation, Responses
from orchestrator.web.api.policy_resource import PolicyResource
from orchestrator.web.api.storage_resource import StorageResource
from orchestrator.web.api.strategy_resource import StrategyResource

_STRATEGIES = "/customers/{customer}/originStrategies"
_STRATEGY = f"{_STRATEGIES}/{{strategy}}"
_STORAGE = "/customers/{customer}/storagePolicy"


def strategy_operations(resource: StrategyResource) -> list[Operation]:
    """Return the operations of origin strategies."""
    strategy: Responses = {200: rule_models.StrategyOut}
    return [
        Operation(
            "GET",
            _STRATEGIES,
            resource.list_strategies,
            "List the origin strategies of a customer",
            {200: rule_models.StrategyList},
        ),
        Operation(
            "POST",
            _STRATEGIES,
            resource.create,
            "Create an origin strategy",
            {201: rule_models.StrategyOut},
            body=request_models.StrategyIn,
        ),
        Operation(
            "POST",
            f"{_STRATEGIES}/test",
            resource.test,
            "Test which strategy matches an origin, and whether the origin can be fetched",
            {200: rule_models.OriginFound},
            body=request_models.OriginTest,
        ),
        Operation("GET", _STRATEGY, resource.show, "Show an origin strategy", strategy),
        Operation(
            "PUT",
            _STRATEGY,
            resource.put,
            "Replace an origin strategy",
            strategy,
            body=request_models.StrategyIn,
        ),
        Operation(
            "PATCH",
            _STRATEGY,
            resource.patch,
            "Change an origin strategy",
            strategy,
            body=request_models.StrategyPatch,
        ),
        Operation("DELETE", _STRATEGY, resource.delete, "Delete an origin strategy", {204: None}),
    ]


def policy_operations(
    path: str,
    resource: PolicyResource,
    body: type[request_models.OptimisationIn] | type[request_models.ThumbnailIn],
) -> list[Operation]:
    """Return the operations of the global policies and of a customer's own."""
    table: list[Operation] = []
    put: Responses = {200: rule_models.PolicyOut, 201: rule_models.PolicyOut}
    writers: dict[str, Access] = {path: "admin", f"/customers/{{customer}}{path}": "key"}
    for policies, access in writers.items():
        policy = f"{policies}/{{name}}"
        table += [
            Operation(
                "GET",
                policies,
                resource.list_policies,
                "List the policies that a request may name",
                {200: rule_models.PolicyList},
            ),
            Operation("GET", policy, resource.show, "Show a policy", {200: rule_models.PolicyOut}),
            Operation("PUT", policy, resource.put, "Create or replace a policy", put, access, body),
            Operation("DELETE", policy, resource.delete, "Delete a policy", {204: None}, access),
        ]
        if body is request_models.ThumbnailIn:
            table += [
                Operation(
                    method,
                    f"{policy}/preview",
                    resource.preview,
                    "List the thumbnails that the policy makes of an image",
                    {200: rule_models.Preview},
                    query=request_models.PreviewQuery,
                )
                for method in ("GET", "POST")
            ]
    return table


def storage_operations(resource: StorageResource) -> list[Operation]:
    """Return the operations of storage limits."""
    storage: Responses = {200: rule_models.StorageOut}
    return [
        Operation(
            "GET", _STORAGE, resource.show, "Show a customer's storage limits and use", storage
        ),
        Operation(
            "PUT",
            _STORAGE,
            resource.put,
            "Set a customer's storage limits",
            storage,
            "admin",
            request_models.StorageIn,
        ),
    ]
