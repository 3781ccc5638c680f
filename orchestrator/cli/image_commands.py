"""`images`: what there is, who may see it, and its end."""

from __future__ import annotations

from collections.abc import Callable
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
from orchestrator.errors import AssetNotFound, InvalidInput
from orchestrator.model import Asset, AssetId

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.values import Attempt, Deleted

PAGE = 500
Named = Annotated[str, typer.Argument(metavar="ID", help="customer/space/name")]


def list_images(
    customer: Annotated[int | None, typer.Option(help="Of this customer only.")] = None,
    space: Annotated[int | None, typer.Option(help="Of this space only.")] = None,
    after: Annotated[str, typer.Option(help="Only those after this id.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 1000,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List images in order of their ids."""

    async def read(services: Services) -> list[Asset]:
        found: list[Asset] = []
        position = AssetId.parse(after) if after else None
        while len(found) < limit:
            wanted = min(PAGE, limit - len(found))
            page = await services.catalog.assets.page(
                position, wanted, customer=customer, space=space
            )
            found += page
            if len(page) < wanted:
                break
            position = page[-1].id
        return found

    rows = [_row(asset) for asset in with_services(settings_for(config, data), read)]
    columns = ("id", "state", "width", "height", "version", "roles", "maxUnauthorised", "error")
    listing(rows, columns, as_json=as_json)


def show_image(
    image: Named, config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False
) -> None:
    """Show all that is known of one image."""

    async def read(services: Services) -> dict[str, Any]:
        asset = await _found(services, image)
        rows = await services.catalog.objects.of(asset.id)
        live = [row.object.bytes for row in rows if row.state == "live"]
        return _row(asset) | {
            "aliases": await services.catalog.assets.aliases(asset.id),
            "objects": len(live),
            "storedBytes": sum(live),
            "attempts": [_attempt(one) for one in await services.catalog.attempts.of(asset.id)],
        }

    row = with_services(settings_for(config, data), read)
    if as_json:
        show(row)
        return
    attempts = row.pop("attempts")
    listing([{"field": k, "value": v} for k, v in row.items()], ("field", "value"), as_json=False)
    if attempts:
        say("\nattempts, the latest first")
        listing(attempts, ("started", "outcome", "stage", "code", "error"), as_json=False)


def set_image(  # noqa: PLR0913, PLR0917  one parameter an option
    image: Named,
    roles: Annotated[
        str | None, typer.Option(help='Roles that may see it, separated by commas; "" for none.')
    ] = None,
    max_unauthorised: Annotated[
        int | None,
        typer.Option(help="Longest edge in pixels anyone may see; 0 nothing, -1 no limit."),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help='Other names, separated by commas; "" for none.')
    ] = None,
    rights: Annotated[str | None, typer.Option(help="Address of the rights statement.")] = None,
    tags: Annotated[str | None, typer.Option(help="Tags, separated by commas.")] = None,
    pin: Annotated[
        bool | None,
        typer.Option("--pin/--no-pin", help="Never evict its cached files, on any host."),
    ] = None,
    orchestrate: Annotated[
        bool | None,
        typer.Option(
            "--orchestrate/--no-orchestrate", help="Whether its source may be copied to fast disk."
        ),
    ] = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change who may see an image, what else it is called, what is said of it and what the caches
    may do with it.
    """
    if max_unauthorised is not None and max_unauthorised < -1:
        raise InvalidInput(
            "--max-unauthorised is -1 (no limit), 0 (nothing) or a number of pixels."
        )

    async def change(services: Services) -> Asset:
        asset = await _found(services, image)
        if roles is not None or max_unauthorised is not None:
            asset = await services.pipeline.set_access(
                asset.id, roles=_parts(roles), max_unauthorised=max_unauthorised
            )
        fields: dict[str, Any] = {"rights": rights, "tags": _parts(tags)}
        given = {name: value for name, value in fields.items() if value is not None}
        if given:
            asset = await services.pipeline.set_fields(asset.id, **given)
        if pin is not None or orchestrate is not None:
            asset = await services.catalog.assets.set_caching(
                asset.id, pinned=pin, orchestrate=orchestrate
            )
        if alias is not None:
            await services.catalog.assets.set_aliases(asset.id, _parts(alias) or ())
        return asset

    row = _row(with_services(settings_for(config, data), change))
    if as_json:
        show(row)
    else:
        say(f"{row['id']} is now version {row['version']}")


def delete_image(
    image: Named, config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False
) -> None:
    """Delete an image: its record, its objects and whatever caches hold of it."""

    async def delete(services: Services) -> tuple[Deleted, int]:
        deleted = await services.pipeline.delete((await _found(services, image)).id)
        dropped = await services.derivatives.drop_asset(str(deleted.asset.id))
        return deleted, dropped + await services.sources.drop_asset(str(deleted.asset.id))

    deleted, files = with_services(settings_for(config, data), delete)
    told = {
        "id": str(deleted.asset.id),
        "objects": deleted.objects,
        "bytes": deleted.bytes,
        "cachedFiles": files,
    }
    if as_json:
        show(told)
    else:
        say(
            f"deleted {image}: {deleted.objects} objects ({deleted.bytes / 1e6:.1f} MB) to be "
            f"removed from the store, {files} cached files of this host; other hosts are told"
        )


def reingest_image(
    image: Named, config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False
) -> None:
    """Take an image's origin in again and make everything anew."""

    async def again(services: Services) -> Asset:
        outcome = await services.pipeline.reingest((await _found(services, image)).id)
        return outcome.asset

    asset = with_services(settings_for(config, data), again)
    if as_json:
        show(_row(asset))
    else:
        say(f"{asset.id} is now version {asset.version}")


async def _found(services: Services, image: str) -> Asset:
    asset_id = await services.catalog.assets.resolve_alias(image) or AssetId.parse(image)
    asset = await services.catalog.assets.get(asset_id)
    if asset is None:
        raise AssetNotFound(f"There is no image {image}; see `orchestrator images list`.")
    return asset


def _parts(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _row(asset: Asset) -> dict[str, Any]:
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
        "updated": asset.updated,
        "finished": asset.finished,
        "batch": asset.batch,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
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


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_images,
    "show": show_image,
    "set": set_image,
    "delete": delete_image,
    "reingest": reingest_image,
}
