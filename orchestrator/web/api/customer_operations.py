"""The operations of customers, of their spaces and of their API keys."""

from __future__ import annotations

from orchestrator.web.api import customer_models as models
from orchestrator.web.api.customer_resource import CustomerResource, KeyResource, SpaceResource
from orchestrator.web.api.operations import Operation, Responses

_CUSTOMER = "/customers/{customer}"
_SPACES = f"{_CUSTOMER}/spaces"
_SPACE = f"{_SPACES}/{{space}}"
_KEYS = f"{_CUSTOMER}/keys"
_KEY = f"{_KEYS}/{{key}}"


def customer_operations(resource: CustomerResource) -> list[Operation]:
    """Return the operations of customers."""
    one: Responses = {200: models.CustomerOut}
    return [
        Operation(
            "GET",
            "/customers",
            resource.list_customers,
            "List the customers that the key gives access to",
            {200: models.CustomerList},
        ),
        Operation(
            "POST",
            "/customers",
            resource.create,
            "Create a customer",
            {201: models.CustomerOut},
            "admin",
            models.CustomerIn,
        ),
        Operation("GET", _CUSTOMER, resource.show, "Show a customer", one),
        Operation(
            "PATCH",
            _CUSTOMER,
            resource.patch,
            "Rename a customer",
            one,
            "admin",
            models.CustomerPatch,
        ),
        Operation(
            "DELETE", _CUSTOMER, resource.delete, "Delete an empty customer", {204: None}, "admin"
        ),
    ]


def space_operations(resource: SpaceResource) -> list[Operation]:
    """Return the operations of spaces."""
    return [
        Operation(
            "GET",
            _SPACES,
            resource.list_spaces,
            "List the spaces of a customer",
            {200: models.SpaceList},
            query=models.SpacesQuery,
        ),
        Operation(
            "POST",
            _SPACES,
            resource.create,
            "Create a space",
            {201: models.SpaceOut},
            body=models.SpaceIn,
        ),
        Operation("GET", _SPACE, resource.show, "Show a space", {200: models.SpaceShown}),
        Operation(
            "PATCH",
            _SPACE,
            resource.patch,
            "Rename a space",
            {200: models.SpaceOut},
            body=models.SpacePatch,
        ),
        Operation("DELETE", _SPACE, resource.delete, "Delete an empty space", {204: None}),
    ]


def key_operations(resource: KeyResource) -> list[Operation]:
    """Return the operations of API keys."""
    return [
        Operation(
            "GET",
            _KEYS,
            resource.list_keys,
            "List the API keys of a customer, without secrets",
            {200: models.KeyList},
        ),
        Operation(
            "POST",
            _KEYS,
            resource.create,
            "Create an API key; its secret is shown once",
            {201: models.KeyMade},
            body=models.KeyIn,
        ),
        Operation("GET", _KEY, resource.show, "Show an API key", {200: models.KeyOut}),
        Operation("DELETE", _KEY, resource.revoke, "Revoke an API key", {204: None}),
    ]
