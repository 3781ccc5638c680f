"""Every command on one screen, and how an error of ours reaches the person who typed it."""

from __future__ import annotations

import sys

import typer

from orchestrator.cli import account_commands as accounts
from orchestrator.cli import config_commands as configuration
from orchestrator.cli import image_commands as images
from orchestrator.cli import ingest_command as ingesting
from orchestrator.cli import job_commands as working
from orchestrator.cli import maintenance_commands as upkeep
from orchestrator.cli import origin_commands as origins
from orchestrator.cli import serve_command as serving
from orchestrator.cli.session import Commands
from orchestrator.errors import OrchestratorError


def build() -> typer.Typer:
    """The command with all its subcommands."""
    app = typer.Typer(
        name="orchestrator",
        help="An image-serving platform: IIIF from object storage as fast as a static file server.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command("serve")(serving.serve)
    app.command("ingest")(ingesting.ingest)
    app.command("worker")(working.worker)
    app.add_typer(_group("jobs", "Posted work: what waits, runs and failed.", working.JOBS))
    app.add_typer(_group("images", "Look at, change and remove images.", images.COMMANDS))
    app.add_typer(_group("origins", "How origins are read, and whether.", origins.COMMANDS))
    app.add_typer(_group("customers", "Whose images they are.", accounts.CUSTOMERS))
    app.add_typer(_group("keys", "API keys of a customer.", accounts.KEYS))
    app.add_typer(_group("token", "Rights to restricted images.", accounts.TOKENS))
    app.add_typer(_group("cache", "The disk caches of this host.", upkeep.CACHE))
    app.command("scavenge")(upkeep.scavenge)
    app.add_typer(_group("db", "The database.", upkeep.DATABASE))
    app.add_typer(_group("config", "The settings in force.", configuration.COMMANDS))
    app.command("doctor")(upkeep.doctor)
    app.command("bench")(upkeep.bench)
    app.command("samples")(serving.samples)
    return app


def run() -> None:
    """Run the command line; 0 done, 1 failed with one clear line on standard error, 2 usage."""
    try:
        build()()
    except OrchestratorError as error:
        for line in error.public.splitlines():
            print(f"orchestrator: {line}", file=sys.stderr)
        sys.exit(1)


def _group(name: str, text: str, commands: Commands) -> typer.Typer:
    group = typer.Typer(name=name, help=text, no_args_is_help=True)
    for each, function in commands.items():
        group.command(each)(function)
    return group
