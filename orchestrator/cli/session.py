"""The options that commands share (`--config`, `--data`, `--json`), declared once, and the session
of a command: it loads the settings, opens the services and prints the result.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.cli.output import print_json, print_line, print_table, print_warning
from orchestrator.errors import StateConflict
from orchestrator.log import set_up_logging
from orchestrator.processes.running_installations import (
    EMBEDDED,
    Installation,
    find_running,
    installation_of,
    records_folder,
)
from orchestrator.settings import Loaded, Settings, load_with_origins
from orchestrator.settings.loader import DEFAULT

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.catalog import Catalog

T = TypeVar("T")
Commands = Mapping[str, Callable[..., None]]
"""The subcommands of a group, by name."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="ORCHESTRATOR_CONFIG",
        help="TOML file with settings. config/default.toml lists all settings.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Directory that holds everything this installation writes [default: the one of the "
        "installation that runs, else (and for serve) orchestrator in the user's data directory].",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CustomerOption = Annotated[
    int | None,
    typer.Option("--customer", metavar="NUMBER", help="Restrict to this customer."),
]


class Session:
    """One run of a command, with its common options."""

    def __init__(self, config: Path | None, data: Path | None, as_json: bool = False) -> None:
        self._config = config
        self._data = data
        self.as_json = as_json
        self.installation = ""
        """The installation that the command works on, once its settings are loaded."""

    def load(self, **overrides: Any) -> Loaded:
        """The settings, and where each value comes from. `overrides` name a setting with `__` for
        the dot; None leaves it unset. Raises SettingsError with every fault.
        """
        values = {"server__data_dir": self._data, **overrides}
        named = {
            name.replace("__", ".", 1): value for name, value in values.items() if value is not None
        }
        return load_with_origins(self._config, os.environ, named)

    def load_installation(self, **overrides: Any) -> Settings:
        """The settings of a command that works on an installation. Where neither the data directory
        nor the database is given, it is the one that runs on this machine, else the default one;
        standard error says which. Raises SettingsError, and Conflict if several run.
        """
        loaded = self.load(**overrides)
        is_chosen = any(
            loaded.origins[name] != DEFAULT for name in ("server.data_dir", "database.dsn")
        )
        running = None if is_chosen else _running_installation()
        if running is not None:
            loaded = self.load(**overrides, server__data_dir=running.data_dir)
        self.installation = str(installation_of(loaded.settings))
        if not is_chosen:
            state = "it runs" if running else "none runs; choose another with --data"
            print_warning(f"installation: {self.installation} ({state})")
        return loaded.settings

    def settings(self) -> Settings:
        """The settings of a command that uses services. From now on, warnings and errors are logged
        to standard error.
        """
        settings = self.load_installation()
        set_up_logging("warning")
        return settings

    def run(self, work: Callable[[Services], Awaitable[T]]) -> T:
        """Open all services, return the result of `work`, and close the services again. Starts the
        embedded database if no other is configured.
        """
        # Imported here and in the commands: commands that need no service (--help, config) stay
        # fast.
        from orchestrator.catalog.embedded.database import database

        with database(self.settings()) as settings:
            return asyncio.run(_run_with_services(settings, work))

    def run_on_catalog(self, work: Callable[[Catalog], Awaitable[T]]) -> T:
        """As `run`, but open the catalogue alone, in a quarter of the processor time. `work` must
        change no version of an asset: no hook would follow.
        """
        from orchestrator.catalog.embedded.database import database

        with database(self.settings()) as settings:
            return asyncio.run(_run_with_catalog(settings, work))

    def print_rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Print `rows`: as a table of `columns`, or with `--json` with all their fields."""
        if self.as_json:
            print_json(list(rows))
        else:
            print_table(rows, columns)

    def print_fields(self, row: Mapping[str, Any]) -> None:
        """Print one record: a line for each field, or with `--json` an object."""
        if self.as_json:
            print_json(row)
        else:
            fields = [{"field": name, "value": value} for name, value in row.items()]
            print_table(fields, ("field", "value"))

    def print_result(self, result: Any, text: str) -> None:
        """Print `text`, or with `--json` the `result`."""
        if self.as_json:
            print_json(result)
        else:
            print_line(text)


def _running_installation() -> Installation | None:
    """The one that runs on this machine. Raises Conflict if several run, or if its settings must be
    given to reach its database.
    """
    running = find_running(records_folder(os.environ))
    if len(running) > 1:
        folders = ", ".join(str(each.data_dir) for each in running)
        raise StateConflict(f"Several installations run: {folders}. Choose one with --data.")
    if not running:
        return None
    [installation] = running
    if installation.database != EMBEDDED:
        raise StateConflict(
            f"An installation runs in {installation}. Give the command the same --config, or "
            "the same variables."
        )
    return installation


async def _run_with_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    from orchestrator.app import open_services

    async with open_services(settings) as services:
        result = await work(services)
        if services.hook_jobs.is_used:
            # Imported only now: it takes a third of a second, and most commands make no job.
            from orchestrator.processes.worker import run_new_hooks

            await run_new_hooks(services)
        return result


async def _run_with_catalog(settings: Settings, work: Callable[[Catalog], Awaitable[T]]) -> T:
    from orchestrator.catalog.migrated_catalog import open_migrated

    catalog = await open_migrated(settings.database)
    try:
        return await work(catalog)
    finally:
        await catalog.close()


def command(*, json: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function whose first parameter is a Session a command: it gets the options `--config`
    and `--data`, and `--json` if `json`, after its own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run_command(
            config: Path | None, data: Path | None, as_json: bool = False, **own: Any
        ) -> None:
            function(Session(config, data, as_json), **own)

        shared: dict[str, tuple[Any, Any]] = {"config": (ConfigFile, None), "data": (DataDir, None)}
        if json:
            shared["as_json"] = (AsJson, False)
        # Typer reads the options of a command from its signature.
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        options = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
            )
            for name, (annotation, default) in shared.items()
        ]
        run_command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        run_command.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
        return run_command

    return decorate
