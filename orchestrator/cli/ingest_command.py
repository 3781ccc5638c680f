"""`ingest`: ingests images from files, folders and addresses, and shows progress and a summary."""

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

from orchestrator.cli.output import Tracker, track_progress
from orchestrator.cli.session import Session, command
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


@command()
def ingest(
    session: Session,
    origins: Annotated[
        list[str], typer.Argument(help="Files, folders or http(s) addresses of images.")
    ],
    *,
    asset: Annotated[
        str | None,
        typer.Option(
            "--id", help="Id of the asset, customer/space/name; for a folder customer/space."
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="fast-lossy, fastest, use-original or another optimisation policy "
            "[default: ingest.optimisation_policy]."
        ),
    ] = "",
    force: Annotated[
        bool, typer.Option(help="Make source and thumbnails again even if nothing changed.")
    ] = False,
) -> None:
    """Ingest images: fetch each, make its source and thumbnails, and publish them. Exit status 1 if
    any image failed.
    """
    requests = list(_list_requests(origins, asset, policy, force))
    _reject_duplicates(requests)
    started = time.monotonic()
    with track_progress("ingest", quiet=session.as_json) as tracker:
        tracker.set_total(len(requests))
        summary = session.run(lambda services: _ingest_all(services, requests, tracker))
    seconds = time.monotonic() - started
    rate = len(requests) / max(seconds, 1e-9) * 60
    counts = ", ".join(f"{number} {what}" for what, number in sorted(summary.counts.items()))
    session.print_result(
        {"images": summary.rows, **summary.counts, "seconds": round(seconds, 2)},
        f"{counts}: {summary.bytes / 1e6:.1f} MB in {seconds:.1f} s, {rate:.0f} images/min",
    )
    if summary.counts["failed"]:
        raise typer.Exit(1)


async def _ingest_all(services: Services, requests: list[Request], tracker: Tracker) -> _Summary:
    from orchestrator.jobs.worker_options import conversions_at_once

    summary = _Summary()
    waiting = iter(requests)

    async def take_requests() -> None:
        for request in waiting:
            row = await _ingest_one(services, request)
            summary.rows.append(row)
            summary.counts[row["outcome"]] += 1
            summary.bytes += row.get("bytes", 0)
            failed = row["outcome"] == "failed"
            tracker.advance(f"{row['id']} {row.get('error', row['outcome'])}", failed=failed)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(conversions_at_once(services.settings) + 2):
            tasks.create_task(take_requests())
    return summary


async def _ingest_one(services: Services, request: Request) -> dict[str, Any]:
    row: dict[str, Any] = {"id": str(request.id), "origin": request.origin}
    try:
        outcome = await _ingest_when_free(services, request)
    except OrchestratorError as error:
        return {**row, "outcome": "failed", "error": error.public, "code": error.code}
    asset = outcome.asset
    return {
        **row,
        "outcome": "ingested" if outcome.changed else "unchanged",
        "version": asset.version,
        "width": asset.width,
        "height": asset.height,
        "bytes": outcome.bytes,
    }


async def _ingest_when_free(services: Services, request: Request) -> Any:
    """Ingest one image; wait and try again while the imaging pool is full."""
    while True:
        try:
            return await services.pipeline.runner.ingest(request)
        except Overloaded as error:
            await asyncio.sleep(error.retry_after_s)


def _reject_duplicates(requests: list[Request]) -> None:
    """Two images with the same id would replace each other. Raises InvalidInput."""
    counts = Counter(str(request.id) for request in requests)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates:
        raise InvalidInput(
            f"Several images would get the id {duplicates[0]}. Ingest each with --id."
        )


def _list_requests(
    origins: list[str], asset: str | None, policy: str, force: bool
) -> Iterator[Request]:
    from orchestrator.ingest.folder_listing import list_pictures
    from orchestrator.ingest.register import Request

    folders = [origin for origin in origins if _is_folder(origin)]
    if asset is not None and asset.count("/") >= 2:
        if len(origins) != 1 or folders:
            raise InvalidInput("--id customer/space/name is for one image. Give customer/space.")
        yield Request(AssetId.parse(asset), _absolute(origins[0]), policy, force=force)
        return
    customer, space = _parse_space(asset)
    for origin in origins:
        if origin in folders:
            for listed, path in list_pictures(Path(origin)).pictures.items():
                asset_id = AssetId(customer, space, listed.name)
                yield Request(asset_id, str(path), policy, force=force)
        else:
            asset_id = AssetId(customer, space, _stem(origin))
            yield Request(asset_id, _absolute(origin), policy, force=force)


def _parse_space(asset: str | None) -> tuple[int, int]:
    customer, _, space = (asset or "1/1").partition("/")
    if not (customer.isdigit() and space.isdigit()):
        raise InvalidInput("--id is customer/space/name or customer/space, with numbers: 1/1/page.")
    return int(customer), int(space)


def _is_folder(origin: str) -> bool:
    return "://" not in origin and Path(origin).is_dir()


def _absolute(origin: str) -> str:
    return origin if "://" in origin else str(Path(origin).resolve())


def _stem(origin: str) -> str:
    from orchestrator.ingest.folder_listing import split_extension

    path = unquote(urlsplit(origin).path) if "://" in origin else origin
    stem, _ = split_extension(Path(path).name)
    if not stem:
        raise InvalidInput(f"{origin} does not end in a name. Give the id with --id.")
    return stem
