"""`db`: the schema of the database, its dumps and their restoration."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import InvalidInput


@command()
def migrate_database(session: Session) -> None:
    """Apply the migrations of this release that the database does not have yet."""
    from orchestrator.catalog.embedded.database import database
    from orchestrator.catalog.migrator import migrate

    with database(session.settings()) as settings:
        applied = asyncio.run(migrate(settings.database))
    text = f"applied {', '.join(applied)}" if applied else "the database is up to date"
    session.print_result({"applied": applied}, text)


@command()
def dump_database(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that is written.")],
) -> None:
    """Write a dump of the database, also while it is used. Copy the object store after it."""
    from orchestrator.catalog.dumps import dump, programs_for
    from orchestrator.catalog.embedded.database import database

    configured = session.settings()
    with database(configured) as settings:
        try:
            asyncio.run(dump(settings.database, file, programs_for(configured, os.environ)))
            size = file.stat().st_size
        except OSError as error:
            raise InvalidInput(f"{file} cannot be written: {error.strerror}.") from error
    session.print_result({"file": str(file), "bytes": size}, f"{file}: {size} bytes")


@command()
def restore_database(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A dump that `db dump` wrote.")],
) -> None:
    """Restore a dump into an empty database, all of it or nothing. Versions, jobs and batches
    continue a million numbers later, so that no number that was used after the dump is used again.
    """
    from orchestrator.catalog.dumps import programs_for, restore
    from orchestrator.catalog.embedded.database import database

    configured = session.settings()
    with database(configured) as settings:
        missing = asyncio.run(
            restore(settings.database, file, programs_for(configured, os.environ))
        )
    text = f"restored; the next start applies {', '.join(missing)}" if missing else "restored"
    session.print_result({"pending": missing}, text)


@command()
def skip_database_numbers(session: Session) -> None:
    """Continue versions, jobs and batches a million numbers later. Run it once after a backup was
    restored by other means than `db restore`, before the first start.
    """
    from orchestrator.catalog.dumps import skip_numbers
    from orchestrator.catalog.embedded.database import database

    with database(session.settings()) as settings:
        asyncio.run(skip_numbers(settings.database))
    session.print_result({"skipped": True}, "numbers skipped")


COMMANDS: Commands = {
    "migrate": migrate_database,
    "dump": dump_database,
    "restore": restore_database,
    "skip-numbers": skip_database_numbers,
}
