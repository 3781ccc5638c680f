"""`origins`: how a customer's origins are read, and whether one can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from orchestrator.cli.output import listing, say, show
from orchestrator.cli.session import AsJson, ConfigFile, DataDir, settings_for, with_services
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.catalog.values import OriginStrategy
    from orchestrator.origins.reader_types import OriginReport

Customer = Annotated[int, typer.Argument(help="The customer's number.")]
_COLUMNS = ("id", "place", "regex", "strategy", "credentials", "optimised")


def test(
    customer: Customer,
    origin: Annotated[str, typer.Argument(help="The origin's address, or a path.")],
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell which strategy reads an origin and whether it can be fetched; exit 1 if it cannot."""
    found = with_services(
        settings_for(config, data),
        lambda services: services.origins.fetcher.examine(customer, origin),
    )
    row = _examined(found)
    if as_json:
        show(row)
    else:
        strategy = row["strategy"]
        by = f"strategy {strategy['id']} ({strategy['regex']})" if strategy else "no strategy"
        say(f"read as:  {found.kind}, by {by}")
        if found.fault is None:
            size = "unknown size" if found.bytes is None else f"{found.bytes} bytes"
            say(f"fetched:  yes; {size} {found.media_type}".rstrip())
        else:
            say(f"fetched:  no; {found.fault.code}: {found.fault.detail}")
    if found.fault is not None:
        raise typer.Exit(1)


def list_strategies(
    customer: Customer, config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False
) -> None:
    """List a customer's origin strategies in the order they are tried."""
    found = with_services(
        settings_for(config, data), lambda services: services.origins.strategies.list(customer)
    )
    listing([_row(each) for each in found], _COLUMNS, as_json=as_json)


def add(  # noqa: PLR0913, PLR0917  a command's options
    customer: Customer,
    regex: Annotated[str, typer.Argument(help="Found anywhere in the origin, in any case.")],
    strategy: Annotated[
        str,
        typer.Argument(
            help="default, basic-http-auth, s3, s3-ambient, s3-public, sftp, ftp or file."
        ),
    ],
    credentials: Annotated[
        str,
        typer.Option(
            help="A file with a JSON object, - for standard input, or s3://[region/]bucket/key."
        ),
    ] = "",
    optimised: Annotated[
        bool, typer.Option("--optimised", help="Serve from the origin where nothing is to be made.")
    ] = False,
    place: Annotated[int, typer.Option(help="Lower ones are tried first.")] = 0,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add an origin strategy and print its id. Secrets are never taken from the command line."""
    from orchestrator.origins.strategy_input import StrategyInput

    given = StrategyInput(regex, strategy, _secret(credentials) or None, optimised, place)
    made = with_services(
        settings_for(config, data),
        lambda services: services.origins.strategies.create(customer, given),
    )
    if as_json:
        show(_row(made))
    else:
        say(f"origin strategy {made.id}")


def delete(
    customer: Customer,
    strategy: Annotated[UUID, typer.Argument(help="The strategy's id.")],
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Delete an origin strategy and its credentials."""
    with_services(
        settings_for(config, data),
        lambda services: services.origins.strategies.delete(customer, strategy),
    )
    say(f"deleted {strategy}")


def make_key() -> None:
    """Print a new key for ingest.credentials_keys."""
    from orchestrator.origins.credential_store import make_key as made

    say(made())


def reseal(config: ConfigFile = None, data: DataDir = None) -> None:
    """Seal all credentials with the newest key, so that older ones can be taken away."""
    count = with_services(
        settings_for(config, data), lambda services: services.origins.strategies.reseal()
    )
    say(f"{count} sealed")


def _secret(given: str) -> str:
    if not given or given.startswith("s3://"):
        return given
    if given == "-":
        return sys.stdin.read()
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("The file with the credentials cannot be read.") from error


def _row(strategy: OriginStrategy) -> dict[str, Any]:
    from orchestrator.origins.credentials import MASK

    return {
        "id": str(strategy.id),
        "place": strategy.place,
        "regex": strategy.regex,
        "strategy": strategy.strategy,
        "credentials": MASK if strategy.credentials else "",
        "optimised": strategy.optimised,
    }


def _examined(found: OriginReport) -> dict[str, Any]:
    fault = found.fault
    return {
        "origin": found.origin,
        "readAs": str(found.kind),
        "strategy": None if found.strategy is None else _row(found.strategy),
        "optimised": found.optimised,
        "fetchable": fault is None,
        "bytes": found.bytes,
        "mediaType": found.media_type,
        "error": None
        if fault is None
        else {
            "code": fault.code,
            "stage": fault.stage,
            "retryable": fault.retryable,
            "detail": fault.detail,
        },
    }


COMMANDS: dict[str, Callable[..., None]] = {
    "test": test,
    "list": list_strategies,
    "add": add,
    "delete": delete,
    "make-key": make_key,
    "reseal": reseal,
}
