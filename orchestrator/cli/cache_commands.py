"""`cache` and `scavenge`: the disk caches of this host."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import Commands, Session, command
from orchestrator.cli.simulate_command import simulate
from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId

if TYPE_CHECKING:
    from orchestrator.app import Services


@command()
def show_cache_stats(session: Session) -> None:
    """Show the size and the quota of the disk caches of this host."""

    async def read_stats(services: Services) -> list[dict[str, Any]]:
        return [asdict(await cache.stats()) for cache in services.disk_caches]

    columns = ("name", "files", "bytes", "pinned", "reserved", "quota", "free", "rebuilding")
    session.print_rows(session.run(read_stats), columns)


@command()
def verify_caches(
    session: Session,
    repair: Annotated[bool, typer.Option(help="Repair the differences.")] = False,
) -> None:
    """Compare the files of the disk caches with their index. Exit status 1 if they differ."""

    async def verify(services: Services) -> list[tuple[str, Any]]:
        return [
            (cache.name, await cache.maintenance.verify(repair=repair))
            for cache in services.disk_caches
        ]

    reports = session.run(verify)
    rows = [{"name": name, **asdict(report), "sound": report.sound} for name, report in reports]
    session.print_rows(rows, tuple(rows[0]))
    if not repair and not all(report.sound for _, report in reports):
        raise typer.Exit(1)


@command()
def clear_caches(
    session: Session,
    asset: Annotated[
        str, typer.Option("--asset", metavar="ID", help="Only this asset, on every host.")
    ] = "",
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix",
            help="Only assets whose id begins with this (1/1/, 1/1/maps), on every host.",
        ),
    ] = "",
) -> None:
    """Empty the disk caches of this host. With --asset or --prefix, remove what the disk caches and
    the hot tiers of all hosts hold of some assets. The next request makes the files again.
    """
    if asset and prefix:
        raise InvalidInput("--asset and --prefix exclude each other. Give one of them.")

    async def clear(services: Services) -> dict[str, int]:
        caches = services.disk_caches
        if asset:
            asset_id = AssetId.parse(asset)
            files = {cache.name: await cache.assets.drop(str(asset_id)) for cache in caches}
            await services.catalog.changes.clear(asset_id)
        elif prefix:
            files = {cache.name: await cache.assets.drop_prefix(prefix) for cache in caches}
            await services.catalog.changes.clear_prefix(prefix)
        else:
            files = {cache.name: await cache.maintenance.clear() for cache in caches}
        return files

    files = session.run(clear)
    text = ", ".join(f"{number} files of {name} removed" for name, number in files.items())
    if asset or prefix:
        text += "\nthe other hosts are notified"
    session.print_result(files, text)


@command()
def scavenge(
    session: Session,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what would be removed.")
    ] = False,
) -> None:
    """Run the scavenger once: evict files down to the low-water mark of each disk cache, and remove
    the temporary files and reservations of processes that died.
    """
    from orchestrator.scavenger.scavenger import Scavenger

    async def run_once(services: Services) -> list[dict[str, Any]]:
        scavenger = Scavenger(
            services.disk_caches,
            (services.flights,),
            low_water=services.settings.cache.low_water,
        )
        return [asdict(each) for each in await scavenger.once(dry_run=dry_run)]

    rows = session.run(run_once)
    session.print_rows(rows, tuple(rows[0]))


COMMANDS: Commands = {
    "stats": show_cache_stats,
    "verify": verify_caches,
    "clear": clear_caches,
    "simulate": simulate,
}
