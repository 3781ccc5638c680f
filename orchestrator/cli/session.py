"""What every command begins with: its common options, the settings they make, the services open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.log import set_up_logging
from orchestrator.settings import Loaded, Settings, load_with_origins

if TYPE_CHECKING:
    from orchestrator.app import Services

T = TypeVar("T")
Commands = Mapping[str, Callable[..., None]]
"""The subcommands of a group, by name."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="ORCHESTRATOR_CONFIG",
        help="A TOML file with settings (config/default.toml shows all).",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Everything written is below it [default: the user's data directory].",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def loaded(config: Path | None, data: Path | None, **overrides: Any) -> Loaded:
    """The settings with their origins; `overrides` name a setting with __ for the dot, None is
    unset.

    Raises SettingsError with every fault.
    """
    given = {"server__data_dir": data, **overrides}
    named = {
        name.replace("__", ".", 1): value for name, value in given.items() if value is not None
    }
    return load_with_origins(config, os.environ, named)


def settings_for(config: Path | None, data: Path | None) -> Settings:
    """The settings of a command that works on services; warnings and worse are logged."""
    settings = loaded(config, data).settings
    set_up_logging("warning")
    return settings


def with_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    """What `work` gives, with all services open; the embedded database is started where needed."""
    # Late, here and in the commands: what needs no service (--help, config) answers at once.
    from orchestrator.catalog.embedded.database import database

    with database(settings) as reachable:
        return asyncio.run(_work(reachable, work))


async def _work(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    from orchestrator.app import open_services

    async with open_services(settings) as services:
        return await work(services)
