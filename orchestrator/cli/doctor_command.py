"""`doctor`: checks an installation and says how to repair what is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from orchestrator.cli.session import Session, command


@command()
def doctor(session: Session) -> None:
    """Check everything this installation needs. For each problem, print the command or setting
    that repairs it. Exit status 1 if a check fails.
    """
    from orchestrator.catalog.embedded.database import database
    from orchestrator.doctor import examine

    with database(session.settings()) as settings:
        findings = asyncio.run(examine(settings))
    rows = [asdict(each) for each in findings]
    session.print_rows(rows, ("check", "status", "detail", "mend"))
    if any(each.status == "broken" for each in findings):
        raise typer.Exit(1)
