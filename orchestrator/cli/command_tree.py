"""All commands on one screen, and how an error reaches the user."""

from __future__ import annotations

import sys

import typer

from orchestrator.cli import cache_commands as cache
from orchestrator.cli import config_commands as config
from orchestrator.cli import customer_commands as customers
from orchestrator.cli import database_commands as database
from orchestrator.cli import ico_commands as ico
from orchestrator.cli import ico_result_commands as ico_results
from orchestrator.cli import image_commands as images
from orchestrator.cli import job_commands as jobs
from orchestrator.cli import origin_commands as origins
from orchestrator.cli import pyramid_bucket_commands as pyramid_buckets
from orchestrator.cli import pyramid_file_commands as pyramid_files
from orchestrator.cli import token_command as token
from orchestrator.cli import upload_commands as uploads
from orchestrator.cli.bench_command import bench
from orchestrator.cli.doctor_command import doctor
from orchestrator.cli.ingest_command import ingest
from orchestrator.cli.samples_command import samples
from orchestrator.cli.serve_command import serve
from orchestrator.cli.session import Commands
from orchestrator.cli.worker_command import worker
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
    app.command("serve")(serve)
    app.command("ingest")(ingest)
    app.command("worker")(worker)
    app.add_typer(_group("jobs", "List, retry and cancel jobs.", jobs.COMMANDS))
    app.add_typer(_group("images", "List, change and delete assets.", images.COMMANDS))
    ico_commands = {**ico.COMMANDS, **ico_results.COMMANDS}
    app.add_typer(_group("ico", "Pictures shaped by their URL.", ico_commands))
    pyramid_commands = {**pyramid_files.COMMANDS, **pyramid_buckets.COMMANDS}
    app.add_typer(_group("pyramid", "Pyramid TIFFs of files and buckets.", pyramid_commands))
    app.add_typer(_group("uploads", "Uploaded pictures.", uploads.COMMANDS))
    app.add_typer(_group("origins", "Configure and test how origins are read.", origins.COMMANDS))
    app.add_typer(_group("customers", "Create and list customers.", customers.CUSTOMERS))
    app.add_typer(_group("keys", "Create, list and revoke API keys.", customers.KEYS))
    app.add_typer(_group("token", "Give access to restricted assets.", token.COMMANDS))
    app.add_typer(_group("cache", "Inspect and clear the disk caches.", cache.COMMANDS))
    app.command("scavenge")(cache.scavenge)
    app.add_typer(_group("db", "Migrate, dump and restore the database.", database.COMMANDS))
    app.add_typer(_group("config", "Show and check the settings.", config.COMMANDS))
    app.command("doctor")(doctor)
    app.command("bench")(bench)
    app.command("samples")(samples)
    return app


def run() -> None:
    """Run the command line. The exit status is 0 (done), 1 (failed, with one clear line for each
    error on standard error) or 2 (usage).
    """
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
