"""`worker`: a process that runs jobs and serves no images."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import Session, command


@command(json=False)
def worker(
    session: Session,
    workers: Annotated[
        int | None, typer.Option(help="Images converted at once [default: jobs.workers].", min=1)
    ] = None,
    private_port: Annotated[
        int | None, typer.Option(help="Answer /metrics and /health on this port.")
    ] = None,
) -> None:
    """Run jobs until SIGTERM or Ctrl-C. Run it on any machine to add capacity."""
    from orchestrator.catalog.embedded.database import database
    from orchestrator.processes.data_directory import check_writable
    from orchestrator.processes.stop_signals import ignore_stop
    from orchestrator.processes.worker import run_worker

    settings = session.load_installation(jobs__workers=workers)
    check_writable(settings.data_dir)
    with database(settings, watched=True) as reachable:
        try:
            run_worker(reachable, private_port)
        finally:
            ignore_stop()
