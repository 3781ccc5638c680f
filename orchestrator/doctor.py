"""Checks everything an installation needs by using it. Each finding that is not `ok` names the
command or setting that repairs it.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import aiohttp

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrator import pending
from orchestrator.errors import Conflict, InvalidInput, ObjectNotFound, OrchestratorError
from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000.grok import grok_version
from orchestrator.imaging.workers import sandbox
from orchestrator.imaging.workers.file_access import access_of
from orchestrator.ingest.events.pyramid_services import BucketName, open_bucket
from orchestrator.jobs.sqs_queues import check_queue, open_sqs
from orchestrator.origins.strategy_regex import compile_regex
from orchestrator.routing.image_servers.node import check_address
from orchestrator.routing.image_servers.node_figures import NodeFigures, node_figures
from orchestrator.settings import Settings
from orchestrator.storage.sqs_client import open_queues
from orchestrator.storage.store import DEFAULT_MEDIA_TYPE, read
from orchestrator.storage.store_factory import open_store
from orchestrator.transform.access import AccessRules
from orchestrator.transform.stores import open_stores, store_name
from orchestrator.uploads.upload_stores import open_stores as open_upload_stores
from orchestrator.web.listen_socket import open_listen_socket

_ANSWER_S = 5.0
"""Time in which an image server or the running installation must answer."""
NEEDED_INPUTS = ("jpeg", "png", "tiff", "jpeg2000", "webp", "gif")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `mend` says what to do if `status` is not `ok`."""

    check: str
    status: Literal["ok", "warning", "broken"]
    detail: str
    mend: str = ""


Check = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> list[Finding]:
    """Run all checks, one after another; `settings.database.dsn` names a database. A check that
    fails is a finding, never an error.
    """
    return [await _run_check(name, check, settings) for name, check in _CHECKS.items()]


async def _run_check(name: str, check: Check, settings: Settings) -> Finding:
    try:
        return await check(settings)
    except OrchestratorError as error:
        return Finding(name, "broken", error.public, _REPAIRS[name])
    except OSError as error:
        return Finding(name, "broken", error.strerror or type(error).__name__, _REPAIRS[name])


async def _check_libvips(_: Settings) -> Finding:
    vips.restrict(sandboxed=False)
    capabilities = await asyncio.to_thread(vips.capabilities)
    missing = [name for name in NEEDED_INPUTS if name not in capabilities.inputs]
    if missing:
        return Finding(
            "libvips", "broken", f"cannot read {', '.join(missing)}", _REPAIRS["libvips"]
        )
    unsupported = f"; without {', '.join(capabilities.missing)}" if capabilities.missing else ""
    outputs = ", ".join(capabilities.outputs)
    return Finding("libvips", "ok", f"{capabilities.version}, writes {outputs}{unsupported}")


async def _check_grok(settings: Settings) -> Finding:
    """Whether the optional decoder of whole JPEG2000 images runs, if it should be used."""
    version = await asyncio.to_thread(grok_version)
    is_used = settings.imaging.grok == "auto"
    if version is None:
        mend = _REPAIRS["grok"] if is_used else ""
        return Finding("grok", "warning" if is_used else "ok", "not installed", mend)
    text = "is used for whole JPEG2000 images" if is_used else "is not used (imaging.grok)"
    return Finding("grok", "ok", f"{version}, {text}")


async def _check_decode_workers(settings: Settings) -> Finding:
    """Whether the system confines decode workers. They work without, too."""
    access = await asyncio.to_thread(access_of, settings)
    gaps = await asyncio.to_thread(sandbox.try_confinement, access)
    if gaps:
        text = f"a decoder that a picture takes over could use {', '.join(gaps)}"
        return Finding("decode workers", "warning", text, _REPAIRS["decode workers"])
    return Finding("decode workers", "ok", "no sockets, no programs, no files but their input")


async def _check_storage(settings: Settings) -> Finding:
    key = f"doctor/{secrets.token_hex(8)}"
    body = secrets.token_bytes(64)
    async with open_store(settings.storage, settings.data_dir) as store:
        await store.put(key, body)
        try:
            is_same = await read(store, key, max_bytes=1000) == body
        finally:
            await store.delete([key])
    if not is_same:
        detail = "an object was read with other bytes than were written"
        return Finding("storage", "broken", detail, _REPAIRS["storage"])
    return Finding(
        "storage", "ok", f"{settings.storage.kind}: an object was written, read and deleted"
    )


async def _check_ico(settings: Settings) -> Finding:
    """Whether the store of the pictures of /ico answers. Nothing is written."""
    ico = settings.ico
    if not ico.enabled:
        return Finding("ico", "ok", "not configured")
    AccessRules(ico)
    if not (ico.folder or ico.bucket or ico.buckets):
        return Finding("ico", "ok", "pictures of assets only")
    if ico.folder and not await asyncio.to_thread(Path(ico.folder).is_dir):
        return Finding("ico", "broken", f"{ico.folder} is not a folder", _REPAIRS["ico"])
    names = [] if ico.folder or not ico.bucket else [store_name(ico.region, ico.bucket)]
    names += [store_name(each.region, each.bucket) for each in ico.buckets]
    async with open_stores(ico, settings.storage) as stores:
        for name in names:
            # Not HEAD: its answer does not tell a missing bucket from a missing object.
            with suppress(ObjectNotFound):
                async with stores.get(name).open(f"doctor-{secrets.token_hex(8)}"):
                    pass
    return Finding("ico", "ok", ", ".join(names) or ico.folder)


async def _check_uploads(settings: Settings) -> Finding:
    """Whether both stores of uploads can be written."""
    uploads = settings.uploads
    if not uploads.enabled:
        return Finding("uploads", "ok", "not configured")
    key, body = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(64)
    async with open_upload_stores(uploads, settings.storage) as stores:
        for store in (stores.incoming, stores.active):
            await store.put(
                key, body, media_type=DEFAULT_MEDIA_TYPE, metadata=None, cache_control=""
            )
            await store.delete([key])
    return Finding("uploads", "ok", f"{uploads.backend}: incoming and active were written")


async def _check_pyramids(settings: Settings) -> Finding:
    """Whether the buckets and the queue of pyramids answer: the source and the process bucket are
    read, and an object is written to the image bucket and deleted.
    """
    pyramids = settings.pyramids
    if not pyramids.has_buckets:
        return Finding("pyramids", "ok", "no buckets configured")
    key = f"doctor-{secrets.token_hex(8)}"
    names: list[BucketName] = ["source"]
    if pyramids.process_bucket:
        names.append("process")
    for name in names:
        async with open_bucket(settings, name) as bucket:
            # Not HEAD: its answer does not tell a missing bucket from a missing object.
            with suppress(ObjectNotFound):
                async with bucket.open(key):
                    pass
    async with open_bucket(settings, "image") as images:
        await images.put(pyramids.image_prefix + key, b"")
        await images.delete([pyramids.image_prefix + key])
    if pyramids.sqs_queue:
        async with open_queues(settings.jobs, [pyramids.sqs_queue]) as [queue]:
            await queue.check()
    return Finding("pyramids", "ok", f"{pyramids.source_bucket} to {pyramids.image_bucket}")


async def _check_database(settings: Settings) -> Finding:
    waiting = await pending(settings.database)
    if waiting:
        detail = f"migrations not applied yet: {', '.join(waiting)}"
        return Finding("database", "warning", detail, "run orchestrator db migrate")
    catalog = await Catalog.open(settings.database)
    try:
        counts = await catalog.assets.count()
    finally:
        await catalog.close()
    return Finding("database", "ok", f"{sum(counts.values())} assets, migrations up to date")


async def _check_strategies(settings: Settings) -> Finding:
    catalog = await Catalog.open(settings.database)
    try:
        strategies = await catalog.strategies.all()
    finally:
        await catalog.close()
    refused = [
        f"customer {each.customer} strategy {each.id}: {each.regex}"
        for each in strategies
        if not _compiles(each.regex)
    ]
    if refused:
        text = f"a regex is not valid: {'; '.join(refused)}"
        return Finding("origin strategies", "broken", text, _REPAIRS["origin strategies"])
    return Finding("origin strategies", "ok", f"{len(strategies)}, each regex is valid")


def _compiles(regex: str) -> bool:
    try:
        compile_regex(regex)
    except InvalidInput:
        return False
    return True


async def _check_queue(settings: Settings) -> Finding:
    catalog = await Catalog.open(settings.database)
    try:
        async with open_sqs(settings.jobs) as sqs:
            await check_queue(catalog, sqs)
    finally:
        await catalog.close()
    where = "in the database" if sqs is None else "SQS, the queues of both lanes exist"
    return Finding("queue", "ok", where)


async def _check_identity_provider(settings: Settings) -> Finding:
    name = "identity provider"
    if not settings.auth.openid_issuer:
        return Finding(name, "ok", "not configured")
    from orchestrator.sign_in.openid_client import OpenIdClient  # it takes a second to import

    await OpenIdClient(settings.auth).begin("https://localhost/")
    return Finding(name, "ok", f"{settings.auth.openid_issuer} describes itself")


async def _check_image_servers(settings: Settings) -> Finding:
    pools = settings.image_server.all_pools()
    nodes = [(name, node) for name, pool in pools.items() for node in pool.addresses]
    if not nodes:
        return Finding("image server", "ok", "built-in")
    limit = aiohttp.ClientTimeout(total=settings.image_server.connect_timeout_s + _ANSWER_S)
    async with aiohttp.ClientSession(timeout=limit) as session:
        problems = [await check_address(session, node) for _, node in nodes]
        known = {(each.pool, each.node): each for each in await _read_figures(session, settings)}
    lines = []
    for (pool, node), problem in zip(nodes, problems, strict=True):
        figures = known.get((pool, node.rstrip("/")))
        state = problem or f"{node} answers"
        lines.append(f"{pool}: {state}" + (f" ({figures.describe()})" if figures else ""))
    text = "; ".join(lines)
    if any(problems):
        return Finding("image server", "broken", text, _REPAIRS["image server"])
    if any(each.state != "answers" for each in known.values()):
        return Finding("image server", "warning", text, _REPAIRS["image server"])
    return Finding("image server", "ok", text)


async def _read_figures(session: aiohttp.ClientSession, settings: Settings) -> list[NodeFigures]:
    """What the processes of the installation know, if it is running."""
    server = settings.server
    host = f"[{server.private_host}]" if ":" in server.private_host else server.private_host
    try:
        async with session.get(f"http://{host}:{server.private_port}/metrics") as answer:
            return node_figures(await answer.text()) if answer.status == 200 else []
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return []


async def _check_disk(settings: Settings) -> Finding:
    await asyncio.to_thread(settings.data_dir.mkdir, parents=True, exist_ok=True)
    usage = await asyncio.to_thread(shutil.disk_usage, settings.data_dir)
    cache = settings.cache
    sources = 0 if cache.sources_folder else cache.sources_quota  # may be on another disk
    needed = cache.derivatives_quota + sources + cache.free_space_floor
    detail = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if cache.sources_folder and not await asyncio.to_thread(_is_writable, cache.sources_folder):
        return Finding(
            "disk",
            "broken",
            f"cannot write to cache.sources_folder {cache.sources_folder}",
            "mount the folder, and give the user of the service write permission",
        )
    if usage.free < cache.free_space_floor:
        return Finding(
            "disk", "broken", f"{detail}, less than cache.free_space_floor", _REPAIRS["disk"]
        )
    if usage.total < needed:
        text = f"{detail}; cache quotas and cache.free_space_floor need {needed / 1e9:.1f} GB"
        return Finding("disk", "warning", text, _REPAIRS["disk"])
    return Finding("disk", "ok", detail)


def _is_writable(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


async def _check_open_files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * settings.server.max_connections
    if hard != resource.RLIM_INFINITY and hard < needed:
        text = f"a process may open {hard} files; server.max_connections needs {needed}"
        return Finding("open files", "warning", text, _REPAIRS["open files"])
    return Finding("open files", "ok", "enough for server.max_connections and the hot tier")


async def _check_page(_settings: Settings) -> Finding:
    vendor = resources.files("orchestrator.web") / "static/vendor"
    for viewer in ("openseadragon.min.js", "mirador/mirador.min.js"):
        if not await asyncio.to_thread((vendor / viewer).is_file):
            text = f"the viewer {viewer.rpartition('/')[2]} is not installed"
            return Finding("page", "warning", text, _REPAIRS["page"])
    return Finding("page", "ok", "the viewers are installed")


async def _check_ports(settings: Settings) -> Finding:
    server = settings.server
    used = [
        str(port)
        for host, port in ((server.host, server.port), (server.private_host, server.private_port))
        if port and not _is_free(host, port)
    ]
    if used:
        text = f"in use: {', '.join(used)} (by this installation, if it is running)"
        return Finding("ports", "warning", text, _REPAIRS["ports"])
    return Finding("ports", "ok", f"{server.port} and {server.private_port} are free")


def _is_free(host: str, port: int) -> bool:
    try:
        open_listen_socket(host, port, shared=False).close()
    except Conflict:
        return False
    return True


_CHECKS: dict[str, Check] = {
    "libvips": _check_libvips,
    "grok": _check_grok,
    "decode workers": _check_decode_workers,
    "storage": _check_storage,
    "ico": _check_ico,
    "uploads": _check_uploads,
    "pyramids": _check_pyramids,
    "database": _check_database,
    "origin strategies": _check_strategies,
    "queue": _check_queue,
    "image server": _check_image_servers,
    "identity provider": _check_identity_provider,
    "disk": _check_disk,
    "open files": _check_open_files,
    "page": _check_page,
    "ports": _check_ports,
}
_REPAIRS = {
    "decode workers": "apt-get install libseccomp2 (sockets, programs); Linux 5.13 or newer with "
    "Landlock (files), and a container that permits both; docs/security.md",
    "libvips": "apt-get install libvips42 libopenjp2-7 (libvips reads TIFF, WebP and others; "
    "OpenJPEG, libopenjp2-7, reads and writes JPEG2000)",
    "grok": "apt-get install grokj2k-tools, or set imaging.grok to off",
    "storage": "correct storage.endpoint, storage.bucket, storage.access_key and "
    "storage.secret_key; for a filesystem store, give the user of the service write permission on "
    "storage.root",
    "pyramids": "correct the buckets of the section pyramids, their endpoint, keys and rights, "
    "and pyramids.sqs_queue",
    "ico": "correct ico.presets and ico.allowed; ico.folder; or ico.bucket, ico.endpoint, "
    "ico.access_key, ico.secret_key and ico.buckets",
    "uploads": "correct uploads.incoming_* and uploads.active_*, or make these folders or buckets "
    "writable",
    "database": "start PostgreSQL, or correct the address, user and password in database.dsn",
    "origin strategies": "change the regex (orchestrator origins, or the API): RE2 has no "
    "look-around, back-references or possessive repetitions",
    "queue": "run orchestrator db migrate; for SQS correct jobs.sqs_queue, "
    "jobs.sqs_priority_queue, jobs.sqs_endpoint, jobs.sqs_access_key and jobs.sqs_secret_key",
    "identity provider": "start the identity provider, or correct auth.openid_issuer",
    "image server": "start the image server, or correct image_server.addresses",
    "disk": "free disk space, or lower cache.derivatives_quota, cache.sources_quota or "
    "cache.free_space_floor",
    "open files": "raise LimitNOFILE= of the service (ulimit -Hn), or lower server.max_connections",
    "page": "run make setup",
    "ports": "stop the other process, or change --port and --private-port",
}
