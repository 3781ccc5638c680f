"""Handlers of customers, of their spaces and of their API keys.

An admin key creates, renames and deletes customers. A customer's key does everything else for its
customer: it can replace itself without an operator. It can neither make nor revoke an admin key.
"""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.customers import ApiKeys, Customers
from orchestrator.catalog.spaces import Spaces
from orchestrator.web.api.customer_models import (
    CustomerIn,
    CustomerList,
    CustomerOut,
    CustomerPatch,
    KeyIn,
    KeyList,
    KeyMade,
    KeyOut,
    SpaceIn,
    SpaceList,
    SpaceOut,
    SpacePatch,
    SpaceShown,
    SpacesQuery,
)
from orchestrator.web.api.json_responses import json_response, no_content
from orchestrator.web.api.operations import ApiCall


class CustomerResource:
    """Handlers of `/customers` and `/customers/{c}`."""

    def __init__(self, customers: Customers) -> None:
        self._customers = customers

    async def list_customers(self, call: ApiCall) -> web.Response:
        """Answer 200 with the customers that the key gives access to."""
        customers = [
            CustomerOut.model_validate(each)
            for each in await self._customers.list()
            if call.caller.may_access(each.id)
        ]
        return json_response(CustomerList(customers=customers))

    async def create(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new customer."""
        body = call.body_as(CustomerIn)
        customer = await self._customers.create(body.name, body.id)
        return json_response(
            CustomerOut.model_validate(customer),
            201,
            headers={"Location": f"/customers/{customer.id}"},
        )

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the customer."""
        customer = await self._customers.get(call.customer)
        return json_response(CustomerOut.model_validate(customer))

    async def patch(self, call: ApiCall) -> web.Response:
        """Answer 200 with the renamed customer."""
        name = call.body_as(CustomerPatch).name
        customer = await self._customers.rename(call.customer, name)
        return json_response(CustomerOut.model_validate(customer))

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 204 when the customer is deleted; 409 while something of value belongs to it."""
        await self._customers.delete(call.customer)
        return no_content()


class SpaceResource:
    """Handlers of `/customers/{c}/spaces/...`."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces

    async def list_spaces(self, call: ApiCall) -> web.Response:
        """Answer 200 with spaces, also those that only have assets."""
        query = call.query_as(SpacesQuery)
        spaces = await self._spaces.page(call.customer, query.after, query.limit + 1)
        page = spaces[: query.limit]
        next_page = None
        if len(spaces) > query.limit:
            next_page = f"/customers/{call.customer}/spaces?after={page[-1].id}&limit={query.limit}"
        return json_response(
            SpaceList(spaces=[SpaceOut.model_validate(each) for each in page], next=next_page)
        )

    async def create(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new space."""
        body = call.body_as(SpaceIn)
        space = await self._spaces.create(call.customer, body.name, body.id)
        return json_response(
            SpaceOut.model_validate(space),
            201,
            headers={"Location": f"/customers/{call.customer}/spaces/{space.id}"},
        )

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the space and the number of its assets."""
        customer, number = call.customer, call.path_number("space")
        space = SpaceOut.model_validate(await self._spaces.get(customer, number))
        images = await self._spaces.count(customer, number)
        return json_response(SpaceShown.extend(space, images=images))

    async def patch(self, call: ApiCall) -> web.Response:
        """Answer 200 with the renamed space."""
        name = call.body_as(SpacePatch).name
        space = await self._spaces.rename(call.customer, call.path_number("space"), name)
        return json_response(SpaceOut.model_validate(space))

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 204 when the space is deleted; 409 if it has assets."""
        await self._spaces.delete(call.customer, call.path_number("space"))
        return no_content()


class KeyResource:
    """Handlers of `/customers/{c}/keys/...`."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def list_keys(self, call: ApiCall) -> web.Response:
        """Answer 200 with the keys of the customer, without secrets."""
        keys = await self._keys.list(call.customer)
        return json_response(KeyList(keys=[KeyOut.model_validate(each) for each in keys]))

    async def create(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new key and its secret."""
        body = call.body_as(KeyIn)
        if body.admin:
            call.caller.require_admin()
        key = await self._keys.create(
            call.customer, admin=body.admin, label=body.label, made_by=call.caller.key
        )
        return json_response(
            KeyMade.model_validate(key),
            201,
            headers={"Location": f"/customers/{call.customer}/keys/{key.id}"},
        )

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the key, without its secret."""
        key = await self._keys.get(call.customer, call.path_text("key"))
        return json_response(KeyOut.model_validate(key))

    async def revoke(self, call: ApiCall) -> web.Response:
        """Answer 204 when the key is revoked: requests with it are answered 401 from now on."""
        key = await self._keys.get(call.customer, call.path_text("key"))
        if key.admin:
            call.caller.require_admin()
        await self._keys.revoke(key.id)
        return no_content()
