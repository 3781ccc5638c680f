"""`/admin`: what runs, what is cached, queued and failing. A browser gets a page, any other client
JSON.

A person signs in with an API key, which the browser asks for (Basic: the id of the key as user, its
secret as password).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.batches import Batches
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.connected_processes import ConnectedProcesses
from orchestrator.catalog.jobs import Jobs
from orchestrator.iiif.negotiation import prefers_html
from orchestrator.jobs.submitter import Submitter
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.rate_chart import draw_chart
from orchestrator.web.api.request_rates import TIERS, RequestRates
from orchestrator.web.api.work_models import CacheOut, ImageServerOut, JobOut, LaneOut, Overview
from orchestrator.web.page_templates import HTML, Pages, page_policy

_MAX_FAILED_JOBS = 20
_MAX_BATCHES = 10
_HEADERS = {
    "Content-Type": HTML,
    "Cache-Control": "no-store",
    "Content-Security-Policy": page_policy(),
    "Vary": "Accept",
}


class AdminPage:
    """Handlers of `/admin`."""

    def __init__(
        self,
        *,
        assets: Assets,
        jobs: Jobs,
        claims: Claims,
        batches: Batches,
        processes: ConnectedProcesses,
        submitter: Submitter,
        caches: Sequence[DiskCache],
        pages: Pages,
    ) -> None:
        self.pages = pages
        self._assets = assets
        self._jobs = jobs
        self._claims = claims
        self._batches = batches
        self._processes = processes
        self._submitter = submitter
        self._caches = caches
        self._rates = RequestRates()

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the current figures; those of caches and requests are of this host."""
        failed = await self._jobs.page(_MAX_FAILED_JOBS, states=("failed",))
        if prefers_html(call.request.headers.get("Accept", "")):
            return self._respond(
                "admin.html",
                **await self._live_values(),
                assets=sorted((await self._assets.count()).items()),
                batches=await self._batches.page(_MAX_BATCHES),
                failed=failed,
                max_failed=_MAX_FAILED_JOBS,
            )
        overview = Overview(
            images=await self._assets.count(),
            caches=[CacheOut.model_validate(await cache.stats()) for cache in self._caches],
            image_servers=[
                ImageServerOut.model_validate(each)
                for each in (await self._rates.look()).image_servers
            ],
            queued=[LaneOut.model_validate(depth) for depth in await self._claims.depths()],
            failing=[JobOut.model_validate(job) for job in failed],
        )
        return json_response(overview)

    async def show_live(self, _call: ApiCall) -> web.Response:
        """Answer 200 with the part of the page that its script replaces every few seconds."""
        return self._respond("admin_live.html", **await self._live_values())

    async def retry(self, call: ApiCall) -> web.Response:
        """Queue a failed job again and answer 303 to the page. Raises NotFound, StateConflict."""
        await self._submitter.retry(call.path_number("job"))
        headers = {"Location": "/admin#failed", "Cache-Control": "no-store"}
        return web.Response(status=303, headers=headers)

    async def _live_values(self) -> dict[str, object]:
        figures = await self._rates.look()
        return {
            "now": datetime.now(UTC),
            "processes": await self._processes.list(),
            "caches": [await cache.stats() for cache in self._caches],
            "lanes": await self._claims.depths(),
            "figures": figures,
            "chart": draw_chart(figures.intervals),
            "tiers": [tier for tier in TIERS if tier in figures.totals],
        }

    def _respond(self, template: str, **values: object) -> web.Response:
        return web.Response(body=self.pages.render(template, **values), headers=_HEADERS)
