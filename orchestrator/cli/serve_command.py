"""`serve`: the whole product on one machine."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import print_warning, track_progress
from orchestrator.cli.session import Session, command
from orchestrator.errors import InvalidInput
from orchestrator.log import set_up_logging
from orchestrator.progress import CONVERTING, READING_HEADERS, delete_progress, read_progress
from orchestrator.settings import Server

_ALL_INTERFACES = ("0.0.0.0", "::", "")  # noqa: S104  compared with, not bound to
_POLL_S = 0.2


@command(json=False)
def serve(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder whose images are registered and served at once."),
    ] = None,
    *,
    port: Annotated[int | None, typer.Option(help="Public port.")] = None,
    private_port: Annotated[int | None, typer.Option(help="Private port.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of serve processes.")] = None,
) -> None:
    """Serve images until SIGTERM or Ctrl-C."""
    from orchestrator.processes import supervisor
    from orchestrator.transform.access import AccessRules

    if folder is not None and not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder. Give the folder that holds the images.")
    settings = session.load(
        server__port=port,
        server__private_port=private_port,
        server__workers=workers,
        ingest__folder=None if folder is None else str(folder.resolve()),
    ).settings
    AccessRules(settings.ico)  # raises for a preset that cannot be parsed
    set_up_logging(settings.log.level)
    delete_progress(settings.data_dir)
    announcer = threading.Thread(target=_announce_ready, args=(settings.server,), daemon=True)
    announcer.start()
    if folder is not None:
        threading.Thread(target=_show_progress, args=(settings.data_dir,), daemon=True).start()
    status = supervisor.run(settings)
    if status:
        raise typer.Exit(status)


def _announce_ready(server: Server) -> None:
    """Print the address of the images once the installation is ready. Runs in a thread of the
    supervisor, which needs no part in it.
    """
    if server.port == 0:
        return
    host = "localhost" if server.host in _ALL_INTERFACES else server.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{server.port}/"
    while True:
        with suppress(OSError), urllib.request.urlopen(address + "health/ready", timeout=2):  # noqa: S310
            print_warning(f"ready: the images are at {address}")
            return
        time.sleep(_POLL_S)


def _show_progress(data_dir: Path) -> None:
    """Show the progress of the folder: reading of headers, then conversions. Returns when the last
    conversion is done.
    """
    if _show_stage(data_dir, READING_HEADERS, start_timeout_s=600):
        _show_stage(data_dir, CONVERTING, start_timeout_s=10)


def _show_stage(data_dir: Path, name: str, start_timeout_s: float) -> bool:
    """Show one stage until it is done; False if it does not begin in time, as when there is nothing
    to do.
    """
    deadline = time.monotonic() + start_timeout_s
    while (stage := read_progress(data_dir)) is None or stage.name != name:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    with track_progress(name) as tracker:
        shown = 0
        while stage is not None and stage.name == name:
            tracker.set_total(stage.total)
            for _ in range(stage.done - shown):
                tracker.advance(name)
            shown = max(shown, stage.done)
            if stage.done >= stage.total:
                break
            time.sleep(_POLL_S)
            stage = read_progress(data_dir)
    return True
