"""`serve` and `samples`: the whole product on one machine, and pictures to begin with."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import progress, say, warn
from orchestrator.cli.session import ConfigFile, DataDir, loaded
from orchestrator.errors import InvalidInput
from orchestrator.log import set_up_logging
from orchestrator.progress import forget, told
from orchestrator.settings import Server

_ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  compared with, not bound to
_ASK_EVERY_S = 0.2


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
    from orchestrator.processes import supervisor

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
    forget(settings.data_dir)
    announcer = threading.Thread(target=_announce, args=(settings.server,), daemon=True)
    announcer.start()
    if folder is not None:
        threading.Thread(target=_follow, args=(settings.data_dir,), daemon=True).start()
    status = supervisor.run(settings)
    if status:
        raise typer.Exit(status)


def samples(
    folder: Annotated[Path, typer.Argument(help="Where the pictures are to be.")],
) -> None:
    """Make the sample collection, with a fractal of a hundred megapixels; what is there is kept."""
    from orchestrator.imaging.samples import COLLECTION, make_samples

    with progress("samples") as tracker:
        tracker.found(len(COLLECTION))
        for path in make_samples(folder):
            tracker.done(path.name)
    say(f"{len(COLLECTION)} pictures in {folder}")


def _announce(server: Server) -> None:
    """Once it is ready, print where the pictures are; whoever serves them need not know of us."""
    if server.port == 0:
        return
    host = "localhost" if server.host in _ANYWHERE else server.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{server.port}/"
    while True:
        with suppress(OSError), urllib.request.urlopen(address + "health/ready", timeout=2):  # noqa: S310
            warn(f"ready, the pictures are at {address}")
            return
        time.sleep(_ASK_EVERY_S)


def _follow(data_dir: Path) -> None:
    """Show how far the folder is: its headers, then the conversions behind; ends with the last."""
    if _show_stage(data_dir, "reading headers", patience_s=600):
        _show_stage(data_dir, "converting", patience_s=10)


def _show_stage(data_dir: Path, name: str, patience_s: float) -> bool:
    """Show one stage until it is done; False when it does not begin, as with nothing to do."""
    give_up = time.monotonic() + patience_s
    while (stage := told(data_dir)) is None or stage.name != name:
        if time.monotonic() > give_up:
            return False
        time.sleep(_ASK_EVERY_S)
    with progress(name) as tracker:
        shown = 0
        while stage is not None and stage.name == name:
            tracker.found(stage.total)
            for _ in range(stage.done - shown):
                tracker.done(name)
            shown = max(shown, stage.done)
            if stage.done >= stage.total:
                break
            time.sleep(_ASK_EVERY_S)
            stage = told(data_dir)
    return True
