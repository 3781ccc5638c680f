"""`pyramid run`, `rerun`, `import-docs` and `list`: pyramids of the pictures in a bucket."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from orchestrator.cli.output import track_progress
from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.app import Services
    from orchestrator.catalog.pyramid_values import SourceObject, SourceState
    from orchestrator.ingest.events.pyramid_scan import ScanItem

_PAGE = 500


@command()
def run(
    session: Session,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Make what waits in the queue, then end (the default).")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Work until SIGTERM or Ctrl-C, in the window.")
    ] = False,
) -> None:
    """Make the pyramids that wait in the queue. --once also receives the events that wait in SQS,
    works outside the window, prints a summary, and ends with exit status 1 if a pyramid failed or
    waits for another attempt.
    """
    if once and watch:
        raise InvalidInput("Give --once or --watch.")
    if watch:
        _watch(session)
        return
    from orchestrator.processes.pyramid_run import RunReport, run_once

    with track_progress("pyramids", quiet=session.as_json) as tracker:

        async def work(services: Services) -> RunReport:
            return await run_once(
                services,
                lambda key, reason: tracker.advance(f"{key} {reason}".strip(), failed=bool(reason)),
            )

        report = session.run(work)
    failed = sum(report.failed.values())
    text = (
        f"attempted: {report.attempted}, done: {report.done}, skipped: {report.skipped}, "
        f"failed: {failed}, waiting for another attempt: {report.waiting}"
    )
    session.print_result(asdict(report), text)
    if failed or report.waiting:
        raise typer.Exit(1)


@command()
def rerun(
    session: Session,
    *,
    prefix: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="Only keys that begin so; repeatable."),
    ] = None,
    ext: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Only these extensions, separated by commas "
            "[default: jpeg, jpg, bmp, tif, tiff, png, eps, pdf, webp, jp2].",
        ),
    ] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only objects written since then: 2026-01-31.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also objects whose pyramid is stored.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the objects and submit nothing.")
    ] = False,
) -> None:
    """Queue objects of the source bucket: those without a pyramid, those that failed, and those
    whose pyramid was made with another policy.
    """
    from orchestrator.ingest.events.pyramid_scan import RERUN_EXTENSIONS, Selection

    extensions = tuple(each.strip() for each in ext.split(",") if each.strip())
    selection = Selection(
        tuple(prefix or ()), extensions or RERUN_EXTENSIONS, _parse_time(since), force
    )

    async def work(services: Services) -> list[ScanItem]:
        from orchestrator.processes.pyramid_run import require_pyramids

        scan = require_pyramids(services).scan
        return await _collect(session, "objects", scan.rerun(selection, dry_run=dry_run))

    _print_scan(session, session.run(work))


@command()
def import_docs(
    session: Session,
    prefix: Annotated[
        str,
        typer.Argument(
            help="Begin of the keys of the notes, or s3://bucket/begin "
            "[default: pyramids.notes_prefix]."
        ),
    ] = "",
) -> None:
    """Queue the objects that the notes of the process bucket name. A note is deleted when its
    pyramid is stored. Exit status 1 if a note cannot be read, or if its pyramid failed before.
    """

    async def work(services: Services) -> list[ScanItem]:
        from orchestrator.processes.pyramid_run import require_pyramids

        scan = require_pyramids(services).scan
        bucket = services.settings.pyramids.process_bucket
        keys = _key_prefix(prefix, bucket) if prefix else None
        return await _collect(session, "notes", scan.import_notes(keys))

    _print_scan(session, session.run(work))


@command()
def list_pyramids(
    session: Session,
    *,
    state: Annotated[
        str,
        typer.Option(
            help="States, separated by commas: queued, done, failed, removed [default: all]."
        ),
    ] = "",
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    limit: Annotated[int, typer.Option(help="Most objects to list.", min=1)] = 1000,
) -> None:
    """List the objects of the source bucket that are known, and the reason of each that failed."""
    from orchestrator.catalog.pyramid_values import SOURCE_STATES

    states = [each.strip() for each in state.split(",") if each.strip()] or list(SOURCE_STATES)
    if unknown := sorted(set(states) - set(SOURCE_STATES)):
        known = ", ".join(SOURCE_STATES)
        raise InvalidInput(f"There is no state {unknown[0]}. Use one of: {known}.")

    async def read(services: Services) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after: SourceObject | None = None
        while len(rows) < limit:
            size = min(_PAGE, limit - len(rows))
            page = await services.catalog.pyramids.page(
                size,
                after=after,
                prefix=prefix,
                states=cast("list[SourceState]", states),
            )
            for each in page:
                after, fault = each.source, each.fault
                rows.append(
                    {
                        "bucket": each.source.bucket,
                        "key": each.source.key,
                        "state": each.state,
                        "pyramids": each.pyramids,
                        "base": each.base,
                        "etag": each.etag,
                        "attempts": each.attempts,
                        "code": "" if fault is None else fault.code,
                        "reason": "" if fault is None else fault.detail,
                        "job": each.job,
                    }
                )
            if len(page) < size:
                break
        return rows

    session.print_rows(session.run(read), ("key", "state", "pyramids", "attempts", "reason"))


async def _collect(session: Session, title: str, items: AsyncIterator[ScanItem]) -> list[ScanItem]:
    found = []
    with track_progress(title, quiet=session.as_json) as tracker:
        async for item in items:
            found.append(item)
            tracker.advance(
                f"{item.key} {item.reason or item.outcome}", failed=item.outcome == "failed"
            )
    return found


def _print_scan(session: Session, items: list[ScanItem]) -> None:
    counts = Counter(item.outcome for item in items)
    names = ("selected", "queued", "waiting", "done", "failed")
    numbers = {name: counts[name] for name in names}
    failures = [asdict(item) for item in items if item.outcome == "failed"]
    text = ", ".join(f"{name}: {number}" for name, number in numbers.items() if number)
    session.print_result(
        {**numbers, "failures": failures, "keys": [item.key for item in items]}, text or "nothing"
    )
    if failures:
        raise typer.Exit(1)


def _watch(session: Session) -> None:
    from orchestrator.catalog.embedded.database import database
    from orchestrator.processes.data_directory import check_writable
    from orchestrator.processes.pyramid_run import run_watch
    from orchestrator.processes.stop_signals import ignore_stop

    settings = session.load_installation()
    check_writable(settings.data_dir)
    with database(settings, watched=True) as reachable:
        try:
            run_watch(reachable)
        finally:
            ignore_stop()


def _key_prefix(text: str, bucket: str) -> str:
    """The begin of keys in `s3://bucket/begin`, or in a text without a bucket."""
    if not text.startswith("s3://"):
        return text
    name, _, prefix = text.removeprefix("s3://").partition("/")
    if name != bucket:
        raise InvalidInput(f"Notes are read from the bucket {bucket or '(none)'}, not from {name}.")
    return prefix


def _parse_time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("--since needs a date or time, such as 2026-01-31.") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


COMMANDS: Commands = {
    "run": run,
    "rerun": rerun,
    "import-docs": import_docs,
    "list": list_pyramids,
}
