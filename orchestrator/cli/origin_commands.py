"""`origins`: the origin strategies of a customer, and a test that reads an origin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from orchestrator.cli.output import print_line
from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.catalog.values import OriginStrategy
    from orchestrator.origins.reader_types import OriginReport

CustomerArgument = Annotated[int, typer.Argument(help="Number of the customer.")]
_COLUMNS = ("id", "place", "regex", "strategy", "credentials", "optimised")


@command()
def test_origin(
    session: Session,
    customer: CustomerArgument,
    origin: Annotated[str, typer.Argument(help="Address or path of the origin.")],
) -> None:
    """Show which strategy reads an origin, and try to read it. Exit status 1 if that fails."""
    report = session.run(lambda services: services.origins.fetcher.examine(customer, origin))
    row = _report_row(report)
    strategy = row["strategy"]
    by = f"strategy {strategy['id']} ({strategy['regex']})" if strategy else "no strategy"
    if report.fault is None:
        size = "unknown size" if report.bytes is None else f"{report.bytes} bytes"
        fetched = f"yes; {size} {report.media_type}".rstrip()
    else:
        fetched = f"no; {report.fault.code}: {report.fault.detail}"
    session.print_result(row, f"read as:  {report.kind}, by {by}\nfetched:  {fetched}")
    if report.fault is not None:
        raise typer.Exit(1)


@command()
def list_strategies(session: Session, customer: CustomerArgument) -> None:
    """List the origin strategies of a customer in the order in which they are tried."""
    strategies = session.run(lambda services: services.origins.strategies.list(customer))
    session.print_rows([_strategy_row(each) for each in strategies], _COLUMNS)


@command()
def add_strategy(
    session: Session,
    customer: CustomerArgument,
    regex: Annotated[
        str,
        typer.Argument(help="Regular expression that is searched in the origin; case is ignored."),
    ],
    strategy: Annotated[
        str,
        typer.Argument(
            help="default, basic-http-auth, s3, s3-ambient, s3-public, sftp, ftp or file."
        ),
    ],
    *,
    credentials: Annotated[
        str,
        typer.Option(
            help="File with a JSON object, - for standard input, or s3://[region/]bucket/key."
        ),
    ] = "",
    optimised: Annotated[
        bool,
        typer.Option("--optimised", help="Serve tile-ready files from the origin, without a copy."),
    ] = False,
    place: Annotated[int, typer.Option(help="Strategies with a lower place are tried first.")] = 0,
) -> None:
    """Add an origin strategy and print its id. The command line itself takes no secrets."""
    from orchestrator.origins.strategy_input import StrategyInput

    fields = StrategyInput(regex, strategy, _read_secret(credentials) or None, optimised, place)
    added = session.run(lambda services: services.origins.strategies.create(customer, fields))
    session.print_result(_strategy_row(added), f"origin strategy {added.id}")


@command(json=False)
def delete_strategy(
    session: Session,
    customer: CustomerArgument,
    strategy: Annotated[UUID, typer.Argument(help="Id of the strategy.")],
) -> None:
    """Delete an origin strategy and its credentials."""
    session.run(lambda services: services.origins.strategies.delete(customer, strategy))
    print_line(f"deleted {strategy}")


def make_key() -> None:
    """Print a new key for ingest.credentials_keys."""
    from orchestrator.origins import credential_store

    print_line(credential_store.make_key())


@command(json=False)
def reseal_credentials(session: Session) -> None:
    """Encrypt all stored credentials with the newest key. Older keys can be removed after that."""
    count = session.run(lambda services: services.origins.strategies.reseal())
    print_line(f"{count} sealed")


def _read_secret(option: str) -> str:
    if not option or option.startswith("s3://"):
        return option
    if option == "-":
        return sys.stdin.read()
    try:
        return Path(option).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            "The file with the credentials cannot be read. Check its path and permissions."
        ) from error


def _strategy_row(strategy: OriginStrategy) -> dict[str, Any]:
    from orchestrator.origins.credentials import MASK

    return {
        "id": str(strategy.id),
        "place": strategy.place,
        "regex": strategy.regex,
        "strategy": strategy.strategy,
        "credentials": MASK if strategy.credentials else "",
        "optimised": strategy.optimised,
    }


def _report_row(report: OriginReport) -> dict[str, Any]:
    fault = report.fault
    return {
        "origin": report.origin,
        "readAs": str(report.kind),
        "strategy": None if report.strategy is None else _strategy_row(report.strategy),
        "optimised": report.optimised,
        "fetchable": fault is None,
        "bytes": report.bytes,
        "mediaType": report.media_type,
        "error": None
        if fault is None
        else {
            "code": fault.code,
            "stage": fault.stage,
            "retryable": fault.retryable,
            "detail": fault.detail,
        },
    }


COMMANDS: Commands = {
    "test": test_origin,
    "list": list_strategies,
    "add": add_strategy,
    "delete": delete_strategy,
    "make-key": make_key,
    "reseal": reseal_credentials,
}
