"""Every route of both ports, on one screen."""

from __future__ import annotations

from aiohttp import web

from orchestrator.web.api.api_factory import Api
from orchestrator.web.collection_routes import CollectionRoutes
from orchestrator.web.health_routes import HealthRoutes, MetricsRoute
from orchestrator.web.image_routes import ImageRoutes
from orchestrator.web.middleware import PortMiddleware

MAX_BODY_BYTES = 64 * 1024
"""No public route takes a body yet; what comes uninvited is read no further than this."""


def build_public_app(
    middleware: PortMiddleware,
    images: ImageRoutes,
    collection: CollectionRoutes,
    health: HealthRoutes,
) -> web.Application:
    """The public port."""
    app = web.Application(middlewares=[middleware.handle], client_max_size=MAX_BODY_BYTES)
    route = app.router.add_get
    route("/", collection.index)
    route("/static/{path:.+}", collection.static)
    for prefix in ("iiif-img", "iiif", "thumbs"):
        route(f"/{prefix}", images.handle)
        # Taken apart by iiif/paths.py from the raw path; here all is let through, line breaks too.
        route(f"/{prefix}/{{image:(?s:.*)}}", images.handle)
    route("/health/live", health.live)
    route("/health/ready", health.ready)
    return app


def build_private_app(
    middleware: PortMiddleware, health: HealthRoutes, metrics: MetricsRoute, api: Api
) -> web.Application:
    """The private port: what operators and Prometheus ask, which needs no key (decisions.md), and
    the management API, whose operations stand in `api/table.py`.
    """
    app = build_worker_app(middleware, health, metrics)
    api.add_to(app.router)
    return app


def build_worker_app(
    middleware: PortMiddleware, health: HealthRoutes, metrics: MetricsRoute
) -> web.Application:
    """What is asked of any process; all there is on the port of a worker."""
    app = web.Application(middlewares=[middleware.handle], client_max_size=MAX_BODY_BYTES)
    route = app.router.add_get
    route("/metrics", metrics.page)
    route("/health/live", health.live)
    route("/health/ready", health.ready)
    return app
