"""`config show` and `config check`: what is in force, where it comes from, and what is wrong with
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from pydantic import SecretStr

from orchestrator.cli.output import listing, say
from orchestrator.cli.session import AsJson, ConfigFile, DataDir, loaded
from orchestrator.settings import default_toml

MASK = "***"


def show(
    config: ConfigFile = None,
    data: DataDir = None,
    default: Annotated[
        bool, typer.Option("--default", help="Print a commented file with every default instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its value and where that comes from; secrets are masked."""
    if default:
        say(default_toml())
        return
    found = loaded(config, data)
    rows = []
    for name, origin in found.origins.items():
        section, _, key = name.partition(".")
        value = getattr(getattr(found.settings, section), key)
        if isinstance(value, SecretStr):
            value = MASK if value.get_secret_value() else ""
        elif isinstance(value, list):
            value = [item.model_dump() if hasattr(item, "model_dump") else item for item in value]
        rows.append({"setting": name, "value": value, "from": origin})
    listing(rows, ("setting", "value", "from"), as_json=as_json)


def check(config: ConfigFile = None, data: DataDir = None) -> None:
    """Name every fault of the settings at once, with its place and a suggestion; exit 1 if any."""
    found = loaded(config, data)
    changed = sum(origin != "default" for origin in found.origins.values())
    say(f"The settings can be used: {changed} of {len(found.origins)} differ from their defaults.")


COMMANDS: dict[str, Callable[..., None]] = {"show": show, "check": check}
