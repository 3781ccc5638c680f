"""`images`: list, show, change, delete and reingest assets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import print_line, print_table, track_progress
from orchestrator.cli.session import Commands, CustomerOption, Session, command
from orchestrator.errors import AssetNotFound, Conflict, InvalidImageRequest, InvalidInput, NotFound
from orchestrator.model import Asset, AssetId

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.catalog import Catalog
    from orchestrator.catalog.values import Attempt, Deletion

_PAGE = 500
AssetArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the asset, customer/space/name, or an alias.")
]


@command()
def list_images(
    session: Session,
    *,
    customer: CustomerOption = None,
    space: Annotated[int | None, typer.Option(help="Restrict to this space.")] = None,
    after: Annotated[str, typer.Option(help="Only assets after this id.")] = "",
    limit: Annotated[int, typer.Option(help="Most assets to list.", min=1)] = 1000,
) -> None:
    """List assets in the order of their ids."""

    async def read(catalog: Catalog) -> list[Asset]:
        assets: list[Asset] = []
        position = AssetId.parse(after) if after else None
        while len(assets) < limit:
            size = min(_PAGE, limit - len(assets))
            page = await catalog.assets.page(position, size, customer=customer, space=space)
            assets += page
            if len(page) < size:
                break
            position = page[-1].id
        return assets

    rows = [_asset_row(asset) for asset in session.run_on_catalog(read)]
    columns = (
        "id",
        "state",
        "width",
        "height",
        "version",
        "roles",
        "maxUnauthorised",
        "errorCode",
        "error",
    )
    session.print_rows(rows, columns)


@command()
def show_image(session: Session, image: AssetArgument) -> None:
    """Show one asset: its record, objects and ingest attempts."""

    async def read(catalog: Catalog) -> dict[str, Any]:
        asset = await _get_asset(catalog, image)
        rows = await catalog.objects.of(asset.id)
        live = [row.object.bytes for row in rows if row.state == "live"]
        attempts = await catalog.attempts.of(asset.id)
        return _asset_row(asset) | {
            "aliases": await catalog.aliases.of(asset.id),
            "objects": len(live),
            "storedBytes": sum(live),
            "attempts": [_attempt_row(attempt) for attempt in attempts],
        }

    row = session.run_on_catalog(read)
    if session.as_json:
        session.print_fields(row)
        return
    attempts = row.pop("attempts")
    session.print_fields(row)
    if attempts:
        print_line("\nattempts, latest first")
        print_table(attempts, ("started", "outcome", "stage", "code", "error"))


@command()
def set_image(  # noqa: PLR0913  one parameter for each option
    session: Session,
    image: AssetArgument,
    *,
    roles: Annotated[
        str | None,
        typer.Option(help='Roles that may see the asset, separated by commas; "" for none.'),
    ] = None,
    max_unauthorised: Annotated[
        int | None,
        typer.Option(
            help="Longest edge in pixels that everyone may see; 0: nothing, -1: no limit."
        ),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help='Aliases of the asset, separated by commas; "" for none.')
    ] = None,
    rights: Annotated[str | None, typer.Option(help="URI of the rights statement.")] = None,
    tags: Annotated[str | None, typer.Option(help="Tags, separated by commas.")] = None,
    pin: Annotated[
        bool | None,
        typer.Option("--pin/--no-pin", help="Never evict the cached files of the asset."),
    ] = None,
    orchestrate: Annotated[
        bool | None,
        typer.Option(
            "--orchestrate/--no-orchestrate", help="Copy the source of the asset to fast disk."
        ),
    ] = None,
) -> None:
    """Change the access, aliases, rights, tags or caching of an asset."""
    if max_unauthorised is not None and max_unauthorised < -1:
        raise InvalidInput(
            "--max-unauthorised is -1 (no limit), 0 (nothing) or a number of pixels."
        )

    async def change(services: Services) -> Asset:
        asset = await _get_asset(services.catalog, image)
        if roles is not None or max_unauthorised is not None:
            asset = await services.pipeline.editor.set_access(
                asset.id, roles=_split(roles), max_unauthorised=max_unauthorised
            )
        fields: dict[str, Any] = {"rights": rights, "tags": _split(tags)}
        changed = {name: value for name, value in fields.items() if value is not None}
        if changed:
            asset = await services.pipeline.editor.set_fields(asset.id, **changed)
        if pin is not None or orchestrate is not None:
            asset = await services.catalog.assets.set_caching(
                asset.id, pinned=pin, orchestrate=orchestrate
            )
        if alias is not None:
            await services.catalog.aliases.replace(asset.id, _split(alias) or ())
        return asset

    _print_version(session, session.run(change))


@command()
def add_aliases(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Lines of an alias, a tab and the id of an asset."),
    ],
) -> None:
    """Add the aliases that a file lists to those that the assets have. Exit status 1 if any line
    failed.
    """
    wanted = _read_aliases(file)

    async def add(catalog: Catalog) -> list[str]:
        failed = []
        for image, names in wanted.items():
            try:
                asset_id = (await _get_asset(catalog, image)).id
                known = await catalog.aliases.of(asset_id)
                await catalog.aliases.replace(asset_id, [*known, *names])
                tracker.advance(image)
            except (NotFound, Conflict, InvalidInput, InvalidImageRequest) as error:
                failed.append(f"{image}: {error.public}")
                tracker.advance(failed[-1], failed=True)
        return failed

    with track_progress("aliases", quiet=session.as_json) as tracker:
        tracker.set_total(len(wanted))
        failed = session.run_on_catalog(add)
    done = len(wanted) - len(failed)
    session.print_result({"assets": done, "failed": failed}, f"aliases of {done} assets")
    if failed:
        raise typer.Exit(1)


@command()
def delete_image(session: Session, image: AssetArgument) -> None:
    """Delete an asset: its record, its objects and its cached files."""

    async def delete(services: Services) -> tuple[Deletion, int]:
        asset = await _get_asset(services.catalog, image)
        deleted = await services.pipeline.editor.delete(asset.id)
        dropped = [await cache.assets.drop(str(deleted.asset.id)) for cache in services.disk_caches]
        return deleted, sum(dropped)

    deleted, files = session.run(delete)
    result = {
        "id": str(deleted.asset.id),
        "objects": deleted.objects,
        "bytes": deleted.bytes,
        "cachedFiles": files,
    }
    text = (
        f"deleted {image}: {deleted.objects} objects ({deleted.bytes / 1e6:.1f} MB) are removed "
        f"from the store soon, {files} cached files of this host are removed; other hosts are "
        "notified"
    )
    session.print_result(result, text)


@command()
def reingest_image(session: Session, image: AssetArgument) -> None:
    """Fetch the origin of an asset again and make its source and thumbnails again."""

    async def reingest(services: Services) -> Asset:
        asset = await _get_asset(services.catalog, image)
        return (await services.pipeline.reingester.reingest(asset.id)).asset

    _print_version(session, session.run(reingest))


def _read_aliases(file: Path) -> dict[str, list[str]]:
    """The new aliases of each asset. Raises InvalidInput."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read as text in UTF-8.") from error
    aliases: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        alias, tab, image = line.partition("\t")
        if not (alias and tab and image):
            raise InvalidInput(f"Line {number} of {file} is not an alias, a tab and an id.")
        aliases.setdefault(image, []).append(alias)
    return aliases


def _print_version(session: Session, asset: Asset) -> None:
    session.print_result(_asset_row(asset), f"{asset.id} is now version {asset.version}")


async def _get_asset(catalog: Catalog, image: str) -> Asset:
    asset_id = await catalog.aliases.resolve(image) or AssetId.parse(image)
    asset = await catalog.assets.get(asset_id)
    if asset is None:
        raise AssetNotFound(
            f"There is no asset {image}. `orchestrator images list` lists the assets."
        )
    return asset


def _split(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _asset_row(asset: Asset) -> dict[str, Any]:
    source = asset.source
    return {
        "id": str(asset.id),
        "state": str(asset.state),
        "version": asset.version,
        "width": asset.width,
        "height": asset.height,
        "mediaType": asset.media_type,
        "origin": asset.origin,
        "optimisationPolicy": asset.optimisation_policy,
        "roles": list(asset.roles),
        "maxUnauthorised": asset.max_unauthorised,
        "tags": list(asset.tags),
        "rights": asset.rights,
        "thumbnails": {"open": asset.thumbnails.open, "auth": asset.thumbnails.auth},
        "source": None if source is None else source.location,
        "sourceBytes": 0 if source is None else source.bytes,
        "nativelyTiled": bool(source and source.natively_tiled),
        "pinned": asset.pinned,
        "orchestrate": asset.orchestrate,
        "error": asset.error,
        "errorCode": asset.error_code,
        "updated": asset.updated,
        "finished": asset.finished,
        "batch": asset.batch,
    }


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    fault = attempt.fault
    return {
        "started": attempt.started,
        "finished": attempt.finished,
        "outcome": attempt.outcome,
        "job": attempt.job,
        "version": attempt.version,
        "bytes": attempt.bytes,
        "stage": fault.stage if fault else None,
        "code": fault.code if fault else None,
        "retryable": fault.retryable if fault else None,
        "error": fault.detail if fault else None,
    }


COMMANDS: Commands = {
    "list": list_images,
    "show": show_image,
    "set": set_image,
    "alias": add_aliases,
    "delete": delete_image,
    "reingest": reingest_image,
}
