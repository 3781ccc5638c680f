"""`customers` and `keys`: the owners of assets, and their API keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.output import print_line, print_warning
from orchestrator.cli.session import Commands, CustomerOption, Session, command
from orchestrator.errors import InvalidInput

FIRST_CUSTOMER = 1
"""Customer of an admin key that names none: assets ingested with the key and without a customer
belong to it.
"""


@command()
def create_customer(
    session: Session,
    name: Annotated[str, typer.Argument(help="Unique name of the customer.")],
    customer: Annotated[
        int | None,
        typer.Option("--id", help="Number of the customer [default: the next free one]."),
    ] = None,
) -> None:
    """Create a customer and print its number."""
    created = session.run_on_catalog(lambda catalog: catalog.customers.create(name, customer))
    session.print_result(asdict(created), f"customer {created.id}: {created.name}")


@command()
def list_customers(session: Session) -> None:
    """List all customers."""
    customers = session.run_on_catalog(lambda catalog: catalog.customers.list())
    session.print_rows([asdict(each) for each in customers], ("id", "name", "created"))


@command()
def create_key(
    session: Session,
    customer: Annotated[
        int | None,
        typer.Argument(help="Number of the customer [default for an admin key: 1]."),
    ] = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="Give access to all customers, global policies and all jobs."),
    ] = False,
) -> None:
    """Create an API key. Its secret is printed once and is not stored."""
    if customer is None and not admin:
        raise InvalidInput("Give the number of the customer, or --admin.")
    owner = FIRST_CUSTOMER if customer is None else customer
    key = session.run_on_catalog(lambda catalog: catalog.keys.create(owner, admin=admin))
    session.print_result(
        asdict(key) | {"token": key.token, "installation": session.installation},
        f"id:     {key.id}\nsecret: {key.secret}\ntoken:  {key.token}\n"
        f"stored: {session.installation}",
    )
    if not session.as_json:
        print_warning(
            "The token holds id and secret, for `Authorization: Bearer`. It cannot be shown again."
        )


@command(json=False)
def revoke_key(
    session: Session, key: Annotated[str, typer.Argument(help="Id of the key.")]
) -> None:
    """Revoke an API key. Requests with it are refused from now on."""
    session.run_on_catalog(lambda catalog: catalog.keys.revoke(key))
    print_line(f"revoked {key}")


@command()
def list_keys(session: Session, customer: CustomerOption = None) -> None:
    """List API keys without their secrets."""
    keys = session.run_on_catalog(lambda catalog: catalog.keys.list(customer))
    columns = ("id", "customer", "admin", "created", "revoked")
    session.print_rows([asdict(each) for each in keys], columns)


CUSTOMERS: Commands = {"create": create_customer, "list": list_customers}
KEYS: Commands = {"create": create_key, "revoke": revoke_key, "list": list_keys}
