"""`config`: the settings in force, where each comes from, and their faults."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import SecretStr

from orchestrator.cli.output import print_line
from orchestrator.cli.session import Commands, Session, command
from orchestrator.settings import default_toml

MASK = "***"


@command()
def show_settings(
    session: Session,
    default: Annotated[
        bool,
        typer.Option("--default", help="Print a TOML file with all defaults and their meaning."),
    ] = False,
) -> None:
    """Print all settings with their values and where each value comes from. Secrets are masked."""
    if default:
        print_line(default_toml())
        return
    loaded = session.load()
    rows = []
    for name, origin in loaded.origins.items():
        section, _, key = name.partition(".")
        value = getattr(getattr(loaded.settings, section), key)
        if isinstance(value, SecretStr):
            value = MASK if value.get_secret_value() else ""
        elif isinstance(value, list):
            value = [item.model_dump() if hasattr(item, "model_dump") else item for item in value]
        rows.append({"setting": name, "value": value, "from": origin})
    session.print_rows(rows, ("setting", "value", "from"))


@command(json=False)
def check_settings(session: Session) -> None:
    """Check the settings. Print every fault with its place and a suggestion. Exit status 1 if there
    is a fault.
    """
    from orchestrator.transform.access import AccessRules

    loaded = session.load()
    AccessRules(loaded.settings.ico)  # raises for a preset that cannot be parsed
    changed = sum(origin != "default" for origin in loaded.origins.values())
    print_line(f"The settings are valid. {changed} of {len(loaded.origins)} are not the default.")


COMMANDS: Commands = {"show": show_settings, "check": check_settings}
