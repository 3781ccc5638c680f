"""How the API answers: JSON by the models that /openapi.json describes, never stored by anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel

from orchestrator.errors import PreconditionFailed


def answer(
    document: BaseModel, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The document as JSON."""
    return web.Response(
        status=status,
        body=document.model_dump_json(by_alias=True).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def nothing() -> web.Response:
    """204."""
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def etag_of(document: BaseModel) -> str:
    """A strong ETag of what the document says."""
    said = document.model_dump_json(by_alias=True).encode()
    return f'"{hashlib.blake2b(said, digest_size=12).hexdigest()}"'


def check_conditions(request: web.Request, current: str | None) -> None:
    """Raise PreconditionFailed unless If-Match and If-None-Match allow a change of what now has
    this ETag; None: there is nothing yet (RFC 9110, section 13.1).
    """
    wanted = _tags(request, "If-Match")
    if wanted and (current is None or not wanted & {current, "*"}):
        raise PreconditionFailed("It is not, or no longer, what If-Match says; read it again.")
    unwanted = _tags(request, "If-None-Match")
    if unwanted and current is not None and unwanted & {current, "*"}:
        raise PreconditionFailed("There is one already, and If-None-Match says there should not.")


def _tags(request: web.Request, name: str) -> set[str]:
    joined = ",".join(request.headers.getall(name, ()))
    return {each.strip() for each in joined.split(",") if each.strip()}
