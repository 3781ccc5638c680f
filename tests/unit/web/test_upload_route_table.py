"""Where the upload routes are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from orchestrator.settings import Settings, Uploads
from orchestrator.web.routes import build_public_app
from orchestrator.web.upload_routes import UploadRoutes


async def handler(_request: web.Request) -> web.StreamResponse:
    return web.Response()


def paths(uploads: UploadRoutes | None) -> set[str]:
    other: Any = SimpleNamespace(
        **dict.fromkeys(("handle", "index", "static", "live", "ready"), handler)
    )
    app = build_public_app(other, other, other, uploads=uploads)
    return {route.resource.canonical for route in app.router.routes() if route.resource}


@pytest.mark.parametrize("prefix", ["/", "/photos", "/photos/api/"])
def test_the_routes_are_below_the_prefix(prefix: str) -> None:
    nothing: Any = None
    settings = Settings(uploads=Uploads(route_prefix=prefix))
    routes = UploadRoutes(services=nothing, hot=nothing, addresses=nothing, settings=settings)
    names = ("ping", "upload", "publish", "recrop", "rotate", "delete", "active/{key}")
    expected = {f"{prefix.rstrip('/')}/{name}" for name in names}
    assert expected <= paths(routes)
    assert paths(routes) - expected == paths(None)
