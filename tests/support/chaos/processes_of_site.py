"""Finds the processes of the site by what they do."""

from __future__ import annotations

import json
from contextlib import suppress

import psutil

from tests.support.chaos.site import Site
from tests.support.serve_process import database_processes


def supervisor(site: Site) -> list[int]:
    """The process that the command `serve` started."""
    return [site.server.process.pid]


def serve_processes(site: Site) -> list[int]:
    """The processes that answer the public port."""
    return _with_role(site, "serve")


def housekeeping(site: Site) -> list[int]:
    """The process that answers the private port and runs jobs."""
    return _with_role(site, "housekeeping")


def worker(site: Site) -> list[int]:
    """The process of `orchestrator worker`."""
    return [site.worker.pid] if site.worker is not None else []


def decode_workers(site: Site) -> list[int]:
    """The processes that decode, of whichever process."""
    users = [*serve_processes(site), *housekeeping(site), *worker(site)]
    return [pid for user in users for pid in _children(user) if "spawn_main" in _words(pid)]


def resource_trackers(site: Site) -> list[int]:
    """The helper processes of Python's multiprocessing."""
    return [pid for pid, words in site.server.processes().items() if "resource_tracker" in words]


def database(site: Site) -> list[int]:
    """All processes of PostgreSQL."""
    return [*database_processes(site.server.data)]


def object_store(site: Site) -> list[int]:
    """The process of the S3 server."""
    return [site.store.process.pid]


def origin(site: Site) -> list[int]:
    """The process of the origin."""
    return [site.origin.pid]


def _with_role(site: Site, role: str) -> list[int]:
    children = {*_children(site.server.process.pid)}
    lines = [line for line in site.server.log().splitlines() if '"process started"' in line]
    started = [entry for entry in map(json.loads, lines) if entry["role"] == role]
    return [entry["child"] for entry in started if entry["child"] in children]


def _children(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _words(pid: int) -> str:
    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
