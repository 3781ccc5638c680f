"""`cache`, `scavenge`, `db`, `doctor` and `bench`: looking after an installation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import listing, say, show
from orchestrator.cli.session import (
    AsJson,
    ConfigFile,
    DataDir,
    settings_for,
    with_services,
)
from orchestrator.cli.simulate_command import simulate
from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId

if TYPE_CHECKING:
    from orchestrator.app import Services


def cache_stats(config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False) -> None:
    """Show how full the disk caches of this host are."""

    async def read(services: Services) -> list[dict[str, Any]]:
        return [asdict(await cache.stats()) for cache in services.disk_caches]

    rows = with_services(settings_for(config, data), read)
    columns = ("name", "files", "bytes", "pinned", "reserved", "quota", "free", "rebuilding")
    listing(rows, columns, as_json=as_json)


def cache_verify(
    repair: Annotated[bool, typer.Option(help="Mend what is found.")] = False,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare the files of the caches with their index; exit 1 where they differ."""

    async def compare(services: Services) -> list[tuple[str, Any]]:
        caches = services.disk_caches
        return [(cache.name, await cache.verify(repair=repair)) for cache in caches]

    found = with_services(settings_for(config, data), compare)
    rows = [{"name": name, **asdict(each), "sound": each.sound} for name, each in found]
    listing(rows, tuple(rows[0]), as_json=as_json)
    if not repair and not all(each.sound for _, each in found):
        raise typer.Exit(1)


def cache_clear(
    asset: Annotated[
        str, typer.Option("--asset", metavar="ID", help="Only of this image, on every host.")
    ] = "",
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix",
            help="Only of images whose id begins so (1/1/, 1/1/maps), on every host.",
        ),
    ] = "",
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Empty the disk caches of this host, or drop what they and the memory of every host hold of
    some images; what is served next is made anew.
    """
    if asset and prefix:
        raise InvalidInput("--asset and --prefix exclude each other.")

    async def clear(services: Services) -> dict[str, int]:
        caches = services.disk_caches
        if asset:
            asset_id = AssetId.parse(asset)
            files = {cache.name: await cache.drop_asset(str(asset_id)) for cache in caches}
            await services.catalog.changes.clear(asset_id)
        elif prefix:
            files = {cache.name: await cache.drop_prefix(prefix) for cache in caches}
            await services.catalog.changes.clear_prefix(prefix)
        else:
            files = {cache.name: await cache.clear() for cache in caches}
        return files

    files = with_services(settings_for(config, data), clear)
    if as_json:
        show(files)
    else:
        say(", ".join(f"{number} files of {name} removed" for name, number in files.items()))
        if asset or prefix:
            say("the other hosts are told")


def scavenge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring the caches down to their low-water marks once, and sweep what dead processes left."""

    from orchestrator.scavenger.scavenger import Scavenger

    async def once(services: Services) -> list[dict[str, Any]]:
        scavenger = Scavenger(
            services.disk_caches,
            (services.flights,),
            low_water=services.settings.cache.low_water,
        )
        return [asdict(each) for each in await scavenger.once(dry_run=dry_run)]

    rows = with_services(settings_for(config, data), once)
    listing(rows, tuple(rows[0]), as_json=as_json)


def db_migrate(config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False) -> None:
    """Bring the database to this release; what is up to date is left alone."""
    from orchestrator.catalog.embedded.database import database
    from orchestrator.catalog.migrator import migrate

    with database(settings_for(config, data)) as settings:
        applied = asyncio.run(migrate(settings.database))
    if as_json:
        show({"applied": applied})
    else:
        say(f"applied {', '.join(applied)}" if applied else "the database is up to date")


def doctor(config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False) -> None:
    """Check everything this installation needs and say how to mend each; exit 1 if anything
    fails.
    """
    from orchestrator.catalog.embedded.database import database
    from orchestrator.doctor import examine

    with database(settings_for(config, data)) as settings:
        findings = asyncio.run(examine(settings))
    rows = [asdict(each) for each in findings]
    listing(rows, ("check", "status", "detail", "mend"), as_json=as_json)
    if any(each.status == "broken" for each in findings):
        raise typer.Exit(1)


def bench(
    names: Annotated[list[str] | None, typer.Argument(help="P1, P2 ...; default: all.")] = None,
) -> None:
    """Measure ours beside theirs, in one table; needs a checkout of the project."""
    root = Path(__file__).parents[2]
    if not (root / "loadtests" / "bench.py").exists():
        raise InvalidInput(
            "The benchmarks are in the project's checkout: git clone it, make bench."
        )
    done = subprocess.run(  # noqa: S603  our own program; the names are its arguments
        [sys.executable, "-m", "loadtests.bench", *(names or [])], cwd=root, check=False
    )
    raise typer.Exit(done.returncode)


CACHE: dict[str, Callable[..., None]] = {
    "stats": cache_stats,
    "verify": cache_verify,
    "clear": cache_clear,
    "simulate": simulate,
}
DATABASE: dict[str, Callable[..., None]] = {"migrate": db_migrate}
