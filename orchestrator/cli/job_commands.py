"""`jobs`: the jobs that wait, run, or have ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, cast

import typer

from orchestrator.cli.session import Commands, CustomerOption, Session, command
from orchestrator.errors import InvalidInput, NotFound, OrchestratorError

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.catalog import Catalog
    from orchestrator.catalog.jobs import Job, State

_PAGE = 500
_COLUMNS = ("id", "state", "kind", "lane", "customer", "asset", "batch", "attempts", "due", "fault")
JobIds = Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Ids of the jobs.")]
BatchOption = Annotated[
    int | None, typer.Option("--batch", help="All jobs of this batch, instead of ids.")
]


@dataclass(slots=True)
class _Changes:
    """How many jobs were changed, and for each other job why it was not."""

    number: int = 0
    errors: dict[int, str] = field(default_factory=dict)


@command()
def list_jobs(
    session: Session,
    *,
    state: Annotated[
        str,
        typer.Option(
            help="States, separated by commas: queued, running, done, failed, cancelled, "
            "superseded [default: all]."
        ),
    ] = "",
    customer: CustomerOption = None,
    batch: Annotated[int | None, typer.Option(help="Restrict to this batch.")] = None,
    asset: Annotated[str | None, typer.Option(help="Restrict to this asset.")] = None,
    before: Annotated[
        int | None, typer.Option(help="Only jobs older than the job with this id.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most jobs to list.", min=1)] = 100,
) -> None:
    """List jobs, newest first. A failed job can be retried with `jobs retry`."""
    states = _parse_states(state)

    async def read(catalog: Catalog) -> list[Job]:
        jobs: list[Job] = []
        while len(jobs) < limit:
            size = min(_PAGE, limit - len(jobs))
            page = await catalog.jobs.page(
                size,
                before=jobs[-1].id if jobs else before,
                customer=customer,
                batch=batch,
                states=states,
                asset=asset,
            )
            jobs += page
            if len(page) < size:
                break
        return jobs

    rows = [asdict(job) for job in session.run_on_catalog(read)]
    if not session.as_json:
        for row in rows:
            row["fault"] = "" if row["fault"] is None else row["fault"]["code"]
    session.print_rows(rows, _COLUMNS)


@command()
def show_job(
    session: Session, job: Annotated[int, typer.Argument(metavar="ID", help="Id of the job.")]
) -> None:
    """Show one job with its payload and its last fault."""

    async def read(catalog: Catalog) -> Job:
        row = await catalog.jobs.get(job)
        if row is None:
            raise NotFound(f"There is no job {job}. `orchestrator jobs list` lists the jobs.")
        return row

    session.print_fields(asdict(session.run_on_catalog(read)))


@command()
def retry_jobs(session: Session, jobs: JobIds = None, batch: BatchOption = None) -> None:
    """Run jobs again that failed or were cancelled; with --batch, all failed jobs of the batch."""
    _require_jobs_or_batch(jobs, batch)

    async def retry(services: Services) -> _Changes:
        if batch is not None:
            return _Changes(len(await services.submitter.retry_batch(batch)))
        return await _change_each(jobs, services.submitter.retry)

    _print_changes(session, "retried", session.run(retry))


@command()
def cancel_jobs(session: Session, jobs: JobIds = None, batch: BatchOption = None) -> None:
    """Cancel jobs that wait or run; with --batch, all of the batch. Workers stop running jobs."""
    _require_jobs_or_batch(jobs, batch)

    async def cancel(services: Services) -> _Changes:
        if batch is not None:
            return _Changes(await services.submitter.cancel_batch(batch))
        return await _change_each(jobs, services.submitter.cancel)

    _print_changes(session, "cancelled", session.run(cancel))


def _require_jobs_or_batch(jobs: list[int] | None, batch: int | None) -> None:
    if bool(jobs) == (batch is not None):
        raise InvalidInput("Give the ids of jobs, or one batch with --batch.")


async def _change_each(
    jobs: list[int] | None, change: Callable[[int], Awaitable[object]]
) -> _Changes:
    changes = _Changes()
    for job in jobs or ():
        try:
            await change(job)
            changes.number += 1
        except OrchestratorError as error:
            changes.errors[job] = error.public
    return changes


def _print_changes(session: Session, verb: str, changes: _Changes) -> None:
    errors = {str(job): error for job, error in changes.errors.items()}
    session.print_result(
        {verb: changes.number, "errors": errors},
        "\n".join([*changes.errors.values(), f"{verb} {changes.number} jobs"]),
    )
    if changes.errors:
        raise typer.Exit(1)


def _parse_states(text: str) -> tuple[State, ...]:
    from orchestrator.catalog.jobs import STATES

    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in STATES]
    if unknown:
        raise InvalidInput(f"--state {unknown[0]} is not a state. Write {', '.join(STATES)}.")
    return cast("tuple[State, ...]", names) or STATES


COMMANDS: Commands = {
    "list": list_jobs,
    "show": show_job,
    "retry": retry_jobs,
    "cancel": cancel_jobs,
}
