"""Every route of both ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from orchestrator.web.api.api_factory import Api
from orchestrator.web.health_routes import HealthRoutes, MetricsRoute
from orchestrator.web.ico_routes import IcoRoutes
from orchestrator.web.image_routes import ImageRoutes
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.upload_routes import UploadRoutes

MAX_IGNORED_BODY_BYTES = 64 * 1024
"""The largest body that is read. No public route needs one; the API has limits of its own."""


class RouteGroup(Protocol):
    """Handlers that know their routes."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        ...


def build_public_app(
    middleware: PortMiddleware,
    images: ImageRoutes,
    health: HealthRoutes,
    *,
    ico: IcoRoutes | None = None,
    uploads: UploadRoutes | None = None,
    more: Sequence[RouteGroup] = (),
) -> web.Application:
    """Return the application of the public port; without `ico` it has no /ico, without `uploads` no
    upload routes. `more` are further routes: the pages among them.
    """
    app = web.Application(middlewares=[middleware.handle], client_max_size=MAX_IGNORED_BODY_BYTES)
    route = app.router.add_get
    for prefix in ("iiif-img", "iiif", "thumbs"):
        route(f"/{prefix}", images.handle)
        # iiif/paths.py parses the raw path; this pattern accepts every path, also with line breaks.
        route(f"/{prefix}/{{image:(?s:.*)}}", images.handle)
    if ico is not None:
        pictures = "/ico/{picture:(?s:.*)}"
        route(pictures, ico.handle)
        if ico.purges:
            app.router.add_delete(pictures, ico.purge)
    if uploads is not None:
        _add_upload_routes(app, uploads)
    for group in more:
        group.add_to(app.router)
    route("/health/live", health.live)
    route("/health/ready", health.ready)
    return app


def _add_upload_routes(app: web.Application, uploads: UploadRoutes) -> None:
    prefix, post = uploads.prefix, app.router.add_post
    app.router.add_get(f"{prefix}ping", uploads.ping)
    app.router.add_get(f"{prefix}active/{{key}}", uploads.active)
    post(f"{prefix}upload", uploads.upload, expect_handler=uploads.expect)
    post(f"{prefix}publish", uploads.publish)
    post(f"{prefix}recrop", uploads.recrop)
    post(f"{prefix}rotate", uploads.rotate)
    post(f"{prefix}delete", uploads.delete)


def build_private_app(
    middleware: PortMiddleware, health: HealthRoutes, metrics: MetricsRoute, api: Api
) -> web.Application:
    """Return the application of the private port: health and metrics, which need no key, and the
    management API, whose operations are listed in `api/operation_table.py`.
    """
    app = build_worker_app(middleware, health, metrics)
    api.add_to(app.router)
    return app


def build_worker_app(
    middleware: PortMiddleware, health: HealthRoutes, metrics: MetricsRoute
) -> web.Application:
    """Return the application with health and metrics alone: the port of a worker."""
    app = web.Application(middlewares=[middleware.handle], client_max_size=MAX_IGNORED_BODY_BYTES)
    route = app.router.add_get
    route("/metrics", metrics.show)
    route("/health/live", health.live)
    route("/health/ready", health.ready)
    return app
