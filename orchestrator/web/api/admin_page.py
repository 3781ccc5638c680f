"""`/admin`: what is cached, queued and failing, on one page; JSON unless a browser asks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol

from aiohttp import web

from orchestrator.cache.disk.cache import DiskStats
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import Jobs
from orchestrator.web.api.json_responses import answer
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.work_models import CacheOut, JobOut, LaneOut, Overview

_FAILURES = 20
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;margin-bottom:2em}"
    "td,th{padding:.2em 1em .2em 0;text-align:left;border-bottom:1px solid #ccc}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Cached(Protocol):
    """A cache of this host."""

    async def stats(self) -> DiskStats:
        """Its figures now."""
        ...


class AdminPage:
    """Handler of `/admin`."""

    def __init__(
        self, *, assets: Assets, jobs: Jobs, claims: Claims, caches: Sequence[Cached]
    ) -> None:
        self._assets = assets
        self._jobs = jobs
        self._claims = claims
        self._caches = caches

    async def show(self, call: ApiCall) -> web.Response:
        """200 with the figures of this moment; those of caches are of this host."""
        depths = await self._claims.depths()
        failing = await self._jobs.page(_FAILURES, states=("failed",))
        found = Overview(
            images=await self._assets.count(),
            caches=[CacheOut.model_validate(await cache.stats()) for cache in self._caches],
            queued=[LaneOut.model_validate(depth) for depth in depths],
            failing=[JobOut.model_validate(job) for job in failing],
        )
        if "text/html" not in call.request.headers.get("Accept", ""):
            return answer(found)
        return web.Response(
            text=page_of(found),
            content_type="text/html",
            headers={"Cache-Control": "no-store", "Content-Security-Policy": _POLICY},
        )


def page_of(found: Overview) -> str:
    """The overview as a page without scripts; whatever it says is escaped."""
    images = sorted(found.images.items())
    caches = [
        (each.name, each.files, each.bytes, each.reserved, each.quota, each.hits, each.misses)
        for each in found.caches
    ]
    queued = [(each.lane, each.state, each.jobs, f"{each.age_s:.0f}") for each in found.queued]
    failing = [
        (job.id, job.image, job.attempts, job.fault.code, job.fault.detail)
        for job in found.failing
        if job.fault is not None
    ]
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>orchestrator</title>"
        f"<style>{_STYLE}</style><h1>orchestrator</h1>"
        + _table("Images", ("state", "images"), images)
        + _table("Queue", ("lane", "state", "jobs", "oldest, s"), queued)
        + _table(
            "Caches of this host",
            ("cache", "files", "bytes", "reserved", "quota", "hits", "misses"),
            caches,
        )
        + _table("Failing", ("job", "image", "attempts", "code", "why"), failing)
    )


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    rest = body or "<tr><td>none</td></tr>"
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{rest}</table>"
