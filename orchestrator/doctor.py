"""What an installation needs, checked by using it; each finding says how to mend what is broken."""

from __future__ import annotations

import asyncio
import resource
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import pending
from orchestrator.errors import Conflict, OrchestratorError
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder
from orchestrator.jobs.queue_factory import open_queue
from orchestrator.routing.image_server import BuiltinImageServer
from orchestrator.routing.remote_image_server import RemoteImageServer
from orchestrator.settings import Settings
from orchestrator.storage.store import read
from orchestrator.storage.store_factory import open_store
from orchestrator.web.listen_socket import open_listen_socket

NEEDED_INPUTS = ("jpeg", "png", "tiff", "jpeg2000", "webp", "gif")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `mend` is what to do where it is not `ok`."""

    check: str
    status: Literal["ok", "warning", "broken"]
    detail: str
    mend: str = ""


Check = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> list[Finding]:
    """Every check in turn; `settings.database.dsn` names a database. A check that fails is a
    finding, never an error.
    """
    return [await _run(name, check, settings) for name, check in _CHECKS.items()]


async def _run(name: str, check: Check, settings: Settings) -> Finding:
    try:
        return await check(settings)
    except OrchestratorError as error:
        return Finding(name, "broken", error.public, _MENDS[name])
    except OSError as error:
        return Finding(name, "broken", error.strerror or type(error).__name__, _MENDS[name])


async def _libvips(settings: Settings) -> Finding:
    pool = ImagingPool(settings.imaging)
    try:
        able = await pool.capabilities()
    finally:
        await pool.close()
    missing = [name for name in NEEDED_INPUTS if name not in able.inputs]
    if missing:
        return Finding("libvips", "broken", f"cannot read {', '.join(missing)}", _MENDS["libvips"])
    unable = f"; not here: {', '.join(able.missing)}" if able.missing else ""
    return Finding("libvips", "ok", f"{able.version}, writes {', '.join(able.outputs)}{unable}")


async def _storage(settings: Settings) -> Finding:
    key = f"doctor/{secrets.token_hex(8)}"
    body = secrets.token_bytes(64)
    async with open_store(settings.storage, settings.data_dir) as store:
        await store.put(key, body)
        try:
            same = await read(store, key, max_bytes=1000) == body
        finally:
            await store.delete([key])
    if not same:
        return Finding("storage", "broken", "other bytes came back", _MENDS["storage"])
    return Finding("storage", "ok", f"{settings.storage.kind}: written, read and deleted")


async def _database(settings: Settings) -> Finding:
    waiting = await pending(settings.database)
    if waiting:
        mend = "orchestrator db migrate"
        return Finding("database", "warning", f"to be applied: {', '.join(waiting)}", mend)
    catalog = await Catalog.open(settings.database)
    try:
        counts = await catalog.assets.count()
    finally:
        await catalog.close()
    return Finding("database", "ok", f"{sum(counts.values())} assets, migrations up to date")


async def _queue(settings: Settings) -> Finding:
    catalog = await Catalog.open(settings.database)
    try:
        async with open_queue(settings, catalog) as queue:
            await queue.check()
    finally:
        await catalog.close()
    where = "in the database" if settings.jobs.kind == "pgqueuer" else "SQS, both lanes are there"
    return Finding("queue", "ok", where)


async def _image_servers(settings: Settings) -> Finding:
    if settings.image_server.kind == "builtin":
        return Finding("image server", "ok", "built in")
    pool = ImagingPool(settings.imaging)
    server = RemoteImageServer(settings.image_server, BuiltinImageServer(pool, Encoder()))
    try:
        problem = await server.check()
    finally:
        await server.close()
        await pool.close()
    if problem:
        return Finding("image server", "broken", problem, _MENDS["image server"])
    return Finding("image server", "ok", f"{settings.image_server.kind}: all addresses answer")


async def _disk(settings: Settings) -> Finding:
    await asyncio.to_thread(settings.data_dir.mkdir, parents=True, exist_ok=True)
    usage = await asyncio.to_thread(shutil.disk_usage, settings.data_dir)
    cache = settings.cache
    sources = 0 if cache.sources_folder else cache.sources_quota  # a disk of its own
    wanted = cache.derivatives_quota + sources + cache.free_space_floor
    detail = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if cache.sources_folder and not await asyncio.to_thread(_is_writable, cache.sources_folder):
        text = f"cache.sources_folder {cache.sources_folder} cannot be written"
        return Finding("disk", "broken", text, "mount it, and let the service's user write there")
    if usage.free < cache.free_space_floor:
        return Finding("disk", "broken", f"{detail}, below the floor", _MENDS["disk"])
    if usage.total < wanted:
        text = f"{detail}; the quotas and the floor add up to {wanted / 1e9:.1f} GB"
        return Finding("disk", "warning", text, _MENDS["disk"])
    return Finding("disk", "ok", detail)


def _is_writable(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


async def _open_files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * settings.server.max_connections
    if hard != resource.RLIM_INFINITY and hard < wanted:
        text = f"a process may open {hard}; server.max_connections asks for {wanted}"
        return Finding("open files", "warning", text, _MENDS["open files"])
    return Finding("open files", "ok", "enough for server.max_connections and hot memory")


async def _page(_settings: Settings) -> Finding:
    viewer = resources.files("orchestrator.web") / "static/vendor/openseadragon.min.js"
    if not await asyncio.to_thread(viewer.is_file):
        return Finding("page", "warning", "the zooming viewer is not installed", _MENDS["page"])
    return Finding("page", "ok", "the viewer is there")


async def _ports(settings: Settings) -> Finding:
    server = settings.server
    taken = [
        str(port)
        for host, port in ((server.host, server.port), (server.private_host, server.private_port))
        if port and not _is_free(host, port)
    ]
    if taken:
        text = f"in use: {', '.join(taken)} (by this installation, if it is running)"
        return Finding("ports", "warning", text, _MENDS["ports"])
    return Finding("ports", "ok", f"{server.port} and {server.private_port} are free")


def _is_free(host: str, port: int) -> bool:
    try:
        open_listen_socket(host, port, shared=False).close()
    except Conflict:
        return False
    return True


_CHECKS: dict[str, Check] = {
    "libvips": _libvips,
    "storage": _storage,
    "database": _database,
    "queue": _queue,
    "image server": _image_servers,
    "disk": _disk,
    "open files": _open_files,
    "page": _page,
    "ports": _ports,
}
_MENDS = {
    "libvips": "apt-get install libvips42 (JPEG2000, WebP and TIFF support are in Debian's)",
    "storage": "look at the settings of [storage]: address, bucket, keys; or the folder's rights",
    "database": "look at database.dsn, and whether PostgreSQL runs and lets us in",
    "queue": "orchestrator db migrate; for SQS look at the queues, address and keys of [jobs]",
    "image server": "start it, or correct image_server.addresses",
    "disk": "free space, or lower cache.derivatives_quota, sources_quota and free_space_floor",
    "open files": "LimitNOFILE= of the service, or a lower server.max_connections",
    "page": "make setup",
    "ports": "choose others with --port and --private-port",
}
