"""The operations of the page for people on the private port."""

from __future__ import annotations

from orchestrator.web.api import work_models
from orchestrator.web.api.admin_page import AdminPage
from orchestrator.web.api.operations import Operation


def admin_operations(page: AdminPage) -> list[Operation]:
    """Return the operations of `/admin`."""
    return [
        Operation(
            "GET",
            "/admin",
            page.show,
            "Show assets, disk caches, queue and failed jobs",
            {200: work_models.Overview},
            "admin",
            pages=page.pages,
        ),
        Operation(
            "GET",
            "/admin/live",
            page.show_live,
            "Show the part of the page that changes, as HTML",
            {200: None},
            "admin",
            pages=page.pages,
        ),
        Operation(
            "POST",
            "/admin/jobs/{job}/retry",
            page.retry,
            "Retry a failed job and return to the page",
            {303: None},
            "admin",
            pages=page.pages,
        ),
    ]
