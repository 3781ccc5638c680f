"""`serve` and `samples`: the whole product on one machine, and pictures to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import supervisor
from orchestrator.catalog.embedded import database
from orchestrator.cli.output import progress, say, warn
from orchestrator.cli.session import ConfigFile, DataDir, loaded
from orchestrator.errors import InvalidInput
from orchestrator.imaging.samples import make_samples
from orchestrator.log import set_up_logging


def serve(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A folder whose pictures are registered and served at once."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The public port.")] = None,
    private_port: Annotated[int | None, typer.Option(help="The private port.")] = None,
    workers: Annotated[int | None, typer.Option(help="Serve processes.")] = None,
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Serve until told to end (SIGTERM, Ctrl-C)."""
    if folder is not None and not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; give the folder that holds the pictures.")
    settings = loaded(
        config,
        data,
        server__port=port,
        server__private_port=private_port,
        server__workers=workers,
        ingest__folder=None if folder is None else str(folder.resolve()),
    ).settings
    set_up_logging(settings.log.level)
    warn(f"The pictures: http://localhost:{settings.server.port}/")
    with database(settings) as reachable:
        status = supervisor.run(reachable)
    if status:
        raise typer.Exit(status)


def samples(
    folder: Annotated[Path, typer.Argument(help="Where the pictures are to be.")],
) -> None:
    """Make the sample collection, with a fractal of a hundred megapixels; what is there is kept."""
    with progress("samples") as tracker:
        made = 0
        for path in make_samples(folder):
            made += 1
            tracker.found(made)
            tracker.done(path.name)
    say(f"{made} pictures in {folder}")
