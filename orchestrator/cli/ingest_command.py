"""`ingest`: pictures from files, folders and addresses, with progress, a summary and an honest exit
status.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from orchestrator.cli.output import Tracker, progress, say, show
from orchestrator.cli.session import AsJson, ConfigFile, DataDir, settings_for, with_services
from orchestrator.errors import InvalidInput, OrchestratorError, Overloaded
from orchestrator.model import AssetId

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.ingest.register import Request


@dataclass(slots=True)
class _Summary:
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def ingest(
    origins: Annotated[list[str], typer.Argument(help="Files, folders, http(s) addresses.")],
    asset: Annotated[
        str | None,
        typer.Option("--id", help="customer/space/name; of a folder only customer/space."),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="fast-lossy, fastest or use-original; default: the setting's.")
    ] = "",
    force: Annotated[bool, typer.Option(help="Make everything anew.")] = False,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take pictures in: fetch, make tile-ready, make thumbnails, publish. Exit 1 if any failed."""
    requests = list(_requests(origins, asset, policy, force))
    _refuse_doubles(requests)
    started = time.monotonic()
    with progress("ingest", quiet=as_json) as tracker:
        tracker.found(len(requests))
        settings = settings_for(config, data)
        summary = with_services(settings, lambda services: _run(services, requests, tracker))
    seconds = time.monotonic() - started
    if as_json:
        show({"images": summary.rows, **summary.counts, "seconds": round(seconds, 2)})
    else:
        rate = len(requests) / max(seconds, 1e-9) * 60
        counted = ", ".join(f"{number} {what}" for what, number in sorted(summary.counts.items()))
        say(f"{counted}: {summary.bytes / 1e6:.1f} MB in {seconds:.1f} s, {rate:.0f} images/min")
    if summary.counts["failed"]:
        raise typer.Exit(1)


async def _run(services: Services, requests: list[Request], tracker: Tracker) -> _Summary:
    summary = _Summary()
    todo = iter(requests)

    async def work() -> None:
        for request in todo:
            row = await _one(services, request)
            summary.rows.append(row)
            summary.counts[row["outcome"]] += 1
            summary.bytes += row.get("bytes", 0)
            failed = row["outcome"] == "failed"
            tracker.done(f"{row['id']} {row.get('error', row['outcome'])}", failed=failed)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(max(2, services.settings.ingest.workers)):
            tasks.create_task(work())
    return summary


async def _one(services: Services, request: Request) -> dict[str, Any]:
    row: dict[str, Any] = {"id": str(request.id), "origin": request.origin}
    try:
        outcome = await _patiently(services, request)
    except OrchestratorError as error:
        return {**row, "outcome": "failed", "error": error.public, "code": error.code}
    made = outcome.asset
    return {
        **row,
        "outcome": "ingested" if outcome.changed else "unchanged",
        "version": made.version,
        "width": made.width,
        "height": made.height,
        "bytes": outcome.bytes,
    }


async def _patiently(services: Services, request: Request) -> Any:
    while True:
        try:
            return await services.pipeline.ingest(request)
        except Overloaded as error:
            await asyncio.sleep(error.retry_after_s)


def _refuse_doubles(requests: list[Request]) -> None:
    """Two pictures of one name would replace each other."""
    counts = Counter(str(request.id) for request in requests)
    doubles = [name for name, count in counts.items() if count > 1]
    if doubles:
        raise InvalidInput(f"Several pictures would be {doubles[0]}; name each with --id.")


def _requests(origins: list[str], asset: str | None, policy: str, force: bool) -> Iterator[Request]:
    from orchestrator.ingest.folder_listing import list_pictures
    from orchestrator.ingest.register import Request

    folders = [origin for origin in origins if _is_folder(origin)]
    if asset is not None and asset.count("/") >= 2:
        if len(origins) != 1 or folders:
            raise InvalidInput("--id customer/space/name is for one picture; give customer/space.")
        yield Request(AssetId.parse(asset), _absolute(origins[0]), policy, force=force)
        return
    customer, space = _space(asset)
    for origin in origins:
        if origin in folders:
            for found, path in list_pictures(Path(origin)).pictures.items():
                here = AssetId(customer, space, found.name)
                yield Request(here, str(path), policy, force=force)
        else:
            name = AssetId(customer, space, _stem(origin))
            yield Request(name, _absolute(origin), policy, force=force)


def _space(asset: str | None) -> tuple[int, int]:
    customer, _, space = (asset or "1/1").partition("/")
    if not (customer.isdigit() and space.isdigit()):
        raise InvalidInput("--id is customer/space/name, or customer/space, with numbers: 1/1/page")
    return int(customer), int(space)


def _is_folder(origin: str) -> bool:
    return "://" not in origin and Path(origin).is_dir()


def _absolute(origin: str) -> str:
    return origin if "://" in origin else str(Path(origin).resolve())


def _stem(origin: str) -> str:
    path = unquote(urlsplit(origin).path) if "://" in origin else origin
    stem = Path(path).stem
    if not stem:
        raise InvalidInput(f"{origin} does not end in a name; say which one with --id.")
    return stem
