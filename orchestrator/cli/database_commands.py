"""`db`: the schema of the database."""

from __future__ import annotations

import asyncio

from orchestrator.cli.session import Commands, Session, command


@command()
def migrate_database(session: Session) -> None:
    """Apply the migrations of this release that the database does not have yet."""
    from orchestrator.catalog.embedded.database import database
    from orchestrator.catalog.migrator import migrate

    with database(session.settings()) as settings:
        applied = asyncio.run(migrate(settings.database))
    text = f"applied {', '.join(applied)}" if applied else "the database is up to date"
    session.print_result({"applied": applied}, text)


COMMANDS: Commands = {"migrate": migrate_database}
