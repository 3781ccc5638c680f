"""`/admin`: assets, disk caches, queue and failed jobs on one page. A browser gets HTML, any other
client JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aiohttp import web

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import Jobs
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.work_models import CacheOut, JobOut, LaneOut, Overview

_MAX_FAILED_JOBS = 20
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;margin-bottom:2em}"
    "td,th{padding:.2em 1em .2em 0;text-align:left;border-bottom:1px solid #ccc}"
)
_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class AdminPage:
    """Handler of `/admin`."""

    def __init__(
        self, *, assets: Assets, jobs: Jobs, claims: Claims, caches: Sequence[DiskCache]
    ) -> None:
        self._assets = assets
        self._jobs = jobs
        self._claims = claims
        self._caches = caches

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the current figures; those of the caches are of this host."""
        failed = await self._jobs.page(_MAX_FAILED_JOBS, states=("failed",))
        overview = Overview(
            images=await self._assets.count(),
            caches=[CacheOut.model_validate(await cache.stats()) for cache in self._caches],
            queued=[LaneOut.model_validate(depth) for depth in await self._claims.depths()],
            failing=[JobOut.model_validate(job) for job in failed],
        )
        if "text/html" not in call.request.headers.get("Accept", ""):
            return json_response(overview)
        return web.Response(
            text=render_page(overview),
            content_type="text/html",
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
            },
        )


def render_page(overview: Overview) -> str:
    """Return the overview as HTML without scripts; every value is escaped."""
    assets = sorted(overview.images.items())
    queued = [(each.lane, each.state, each.jobs, f"{each.age_s:.0f}") for each in overview.queued]
    caches = [
        (each.name, each.files, each.bytes, each.reserved, each.quota, each.hits, each.misses)
        for each in overview.caches
    ]
    failed = [
        (job.id, job.image, job.attempts, job.fault.code, job.fault.detail)
        for job in overview.failing
        if job.fault is not None
    ]
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
        "<title>orchestrator: administration</title>"
        f"<style>{_STYLE}</style><h1>orchestrator</h1>"
        + _render_table("Assets", ("state", "assets"), assets)
        + _render_table("Queue", ("lane", "state", "jobs", "oldest (seconds)"), queued)
        + _render_table(
            "Disk caches of this host",
            (
                "cache",
                "files",
                "bytes",
                "reserved bytes",
                "quota (bytes)",
                "hits of this process",
                "misses of this process",
            ),
            caches,
        )
        + _render_table("Failed jobs", ("job", "asset", "attempts", "code", "reason"), failed)
    )


def _render_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    body = body or f"<tr><td colspan={len(columns)}>none</td></tr>"
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"
