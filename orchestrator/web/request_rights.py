"""What handlers read from the headers of a request."""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.asset_selection import Viewer
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights, SignedTokens


def rights_of(request: web.Request, tokens: SignedTokens, *, documents: bool = False) -> Rights:
    """The rights of the request, from its bearer token or its cookie. `documents`: it is a request
    for a document (see `SignedTokens.rights`).
    """
    authorization = request.headers.get("Authorization", "")
    if not authorization and "Cookie" not in request.headers:
        return NO_RIGHTS
    return tokens.rights(authorization, request.cookies, documents=documents)


def viewers_of(rights: Rights) -> tuple[Viewer, ...]:
    """The rights as a selection of assets needs them; none for the public."""
    found = [each for each in (rights, *rights.others) if each.roles]
    return tuple(Viewer(tuple(sorted(each.roles)), each.customer) for each in found)


def accept_of(request: web.Request) -> str:
    """All Accept headers as one."""
    return ", ".join(request.headers.getall("Accept", ()))
