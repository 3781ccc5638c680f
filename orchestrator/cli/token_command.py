"""`token`: signed tokens that give access to restricted assets, and the passwords of users."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from orchestrator.cli.session import Commands, CustomerOption, Session, command
from orchestrator.errors import InvalidInput

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@command()
def create_token(
    session: Session,
    roles: Annotated[
        str,
        typer.Option("--roles", help="Roles that the token gives, separated by commas; * for all."),
    ],
    expires: Annotated[
        str, typer.Option("--expires", help="How long the token is valid: 30m, 12h, 7d.")
    ] = "1h",
    customer: CustomerOption = None,
) -> None:
    """Print a signed token for restricted assets. A client sends it as bearer token or cookie."""
    from orchestrator.app import token_secret
    from orchestrator.routing.access_tokens import SignedTokens

    settings = session.settings()
    cookie = settings.auth.cookie
    tokens = SignedTokens(token_secret(settings), cookie)
    names = [role.strip() for role in roles.split(",") if role.strip()]
    seconds = parse_duration_s(expires)
    token = tokens.create(names, seconds, customer)
    result = {"token": token, "roles": names, "expires_s": seconds, "cookie": cookie}
    session.print_result(result, token)


@command()
def hash_a_password(
    session: Session,
    password: Annotated[
        str,
        typer.Option(
            "--password",
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
            envvar="ORCHESTRATOR_PASSWORD",
            help="The password [default: asked for, or the variable].",
        ),
    ],
) -> None:
    """Print the hash of a password, for auth.users and auth.services. No service is opened."""
    from orchestrator.sign_in.password_check import hash_password

    if not password:
        raise InvalidInput("The password is empty.")
    hashed = hash_password(password)
    session.print_result({"password": hashed}, hashed)


def parse_duration_s(text: str) -> float:
    """Seconds in `90`, `90s`, `30m`, `12h`, `7d`, `2w`. Raises InvalidInput."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"--expires {text} is not a duration. Write 30m, 12h or 7d.")
    return float(int(match[1]) * _UNITS_S[match[2] or "s"])


COMMANDS: Commands = {"create": create_token, "hash-password": hash_a_password}
