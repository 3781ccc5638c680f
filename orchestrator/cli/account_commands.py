"""`customers`, `keys` and `token`: who owns images, who may change them, who may see restricted
ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.output import listing, say, show, warn
from orchestrator.cli.session import (
    AsJson,
    ConfigFile,
    DataDir,
    settings_for,
    with_services,
)
from orchestrator.errors import InvalidInput

FIRST_CUSTOMER = 1
"""Whose an admin key is, unless told: what it takes in without naming a customer is theirs."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def create_customer(
    name: Annotated[str, typer.Argument(help="A name of your choice; must be new.")],
    customer: Annotated[
        int | None, typer.Option("--id", help="Its number; default: the next.")
    ] = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a customer and print its number."""
    made = with_services(
        settings_for(config, data),
        lambda services: services.catalog.customers.create(name, customer),
    )
    if as_json:
        show(asdict(made))
    else:
        say(f"customer {made.id}: {made.name}")


def list_customers(
    config: ConfigFile = None, data: DataDir = None, as_json: AsJson = False
) -> None:
    """List all customers."""
    found = with_services(
        settings_for(config, data), lambda services: services.catalog.customers.list()
    )
    listing([asdict(each) for each in found], ("id", "name", "created"), as_json=as_json)


def create_key(
    customer: Annotated[
        int | None, typer.Argument(help="The customer's number; 1 for an admin key.")
    ] = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="Reaches every customer, global policies and all jobs."),
    ] = False,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key; its secret is printed this once and kept nowhere."""
    if customer is None and not admin:
        raise InvalidInput("Say whose key it is: a customer's number, or --admin.")
    owner = FIRST_CUSTOMER if customer is None else customer
    made = with_services(
        settings_for(config, data),
        lambda services: services.catalog.keys.create(owner, admin=admin),
    )
    if as_json:
        show(asdict(made) | {"token": made.token})
        return
    say(f"id:     {made.id}\nsecret: {made.secret}\ntoken:  {made.token}")
    warn("The token is both in one, for `Authorization: Bearer`. Neither can be shown again.")


def revoke_key(
    key: Annotated[str, typer.Argument(help="The key's id.")],
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Revoke an API key; it is refused from now on."""
    with_services(settings_for(config, data), lambda services: services.catalog.keys.revoke(key))
    say(f"revoked {key}")


def list_keys(
    customer: Annotated[
        int | None, typer.Option("--customer", help="Of this customer only.")
    ] = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List API keys, never their secrets."""
    found = with_services(
        settings_for(config, data), lambda services: services.catalog.keys.list(customer)
    )
    rows = [asdict(each) for each in found]
    listing(rows, ("id", "customer", "admin", "created", "revoked"), as_json=as_json)


def create_token(
    roles: Annotated[
        str, typer.Option("--roles", help="Roles it gives, separated by commas; * for all.")
    ],
    expires: Annotated[
        str, typer.Option("--expires", help="How long it is good: 30m, 12h, 7d.")
    ] = "1h",
    customer: Annotated[
        int | None, typer.Option("--customer", help="Good for this customer's images only.")
    ] = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print a signed token that opens restricted images, as a bearer token or cookie."""
    from orchestrator.app import token_secret
    from orchestrator.routing.access_tokens import SignedTokens

    settings = settings_for(config, data)
    tokens = SignedTokens(token_secret(settings), settings.auth.cookie)
    named = [role.strip() for role in roles.split(",") if role.strip()]
    seconds = duration_s(expires)
    token = tokens.create(named, seconds, customer)
    if as_json:
        show({"token": token, "roles": named, "expires_s": seconds, "cookie": settings.auth.cookie})
    else:
        say(token)


def duration_s(text: str) -> float:
    """Seconds in `90`, `90s`, `30m`, `12h`, `7d`, `2w`. Raises InvalidInput."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"--expires {text} is not a time; write 30m, 12h or 7d")
    return float(int(match[1]) * _UNITS_S[match[2] or "s"])


CUSTOMERS: dict[str, Callable[..., None]] = {"create": create_customer, "list": list_customers}
KEYS: dict[str, Callable[..., None]] = {
    "create": create_key,
    "revoke": revoke_key,
    "list": list_keys,
}
TOKENS: dict[str, Callable[..., None]] = {"create": create_token}
