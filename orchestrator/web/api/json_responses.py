"""JSON responses of the API, built from the models that /openapi.json describes. Caches must not
store them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel

from orchestrator.errors import PreconditionFailed


def json_response(
    document: BaseModel, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the document as JSON."""
    return web.Response(
        status=status,
        body=document.model_dump_json(by_alias=True).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def no_content() -> web.Response:
    """Return a 204 response."""
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def compute_etag(document: BaseModel) -> str:
    """Return a strong ETag: a hash of the document's JSON."""
    body = document.model_dump_json(by_alias=True).encode()
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def check_conditions(request: web.Request, current: str | None) -> None:
    """Raise PreconditionFailed unless If-Match and If-None-Match allow to change a resource whose
    ETag is `current`; None: the resource does not exist (RFC 9110, section 13.1).
    """
    required = _etags(request, "If-Match")
    if required and (current is None or not required & {current, "*"}):
        raise PreconditionFailed(
            "The asset does not have the ETag of If-Match. Read it again and repeat the change."
        )
    excluded = _etags(request, "If-None-Match")
    if excluded and current is not None and excluded & {current, "*"}:
        raise PreconditionFailed(
            "The asset exists, and If-None-Match excludes that. Leave If-None-Match out to change"
            " the asset."
        )


def _etags(request: web.Request, name: str) -> set[str]:
    joined = ",".join(request.headers.getall(name, ()))
    return {each.strip() for each in joined.split(",") if each.strip()}
