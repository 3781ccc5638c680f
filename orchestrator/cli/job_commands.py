"""`worker` and `jobs`: posted work, who does it and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from orchestrator.cli.output import listing, say, show
from orchestrator.cli.session import (
    AsJson,
    ConfigFile,
    DataDir,
    loaded,
    settings_for,
    with_services,
)
from orchestrator.errors import InvalidInput, NotFound, OrchestratorError

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.jobs import Job, State

_PAGE = 500
_COLUMNS = ("id", "state", "kind", "lane", "customer", "asset", "batch", "attempts", "due", "fault")
Numbers = Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Jobs.")]
OfBatch = Annotated[int | None, typer.Option("--batch", help="All of this batch instead.")]


@dataclass(slots=True)
class _Changed:
    """How many jobs were changed, and why the others were not."""

    number: int = 0
    problems: dict[int, str] = field(default_factory=dict)


def worker(
    workers: Annotated[
        int | None, typer.Option(help="Jobs done at once; default: the setting's.", min=1)
    ] = None,
    private_port: Annotated[
        int | None, typer.Option(help="Answer /metrics and /health on this port, too.")
    ] = None,
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Do posted work until told to end (SIGTERM, Ctrl-C); run as many as wanted, anywhere."""
    from orchestrator.catalog.embedded.database import database
    from orchestrator.processes.worker import run_worker

    settings = loaded(config, data, jobs__workers=workers).settings
    with database(settings, watched=True) as reachable:
        run_worker(reachable, private_port)


def list_jobs(  # noqa: PLR0913, PLR0917  one parameter an option
    state: Annotated[
        str, typer.Option(help="queued, running, done, failed or cancelled; several with commas.")
    ] = "",
    customer: Annotated[int | None, typer.Option(help="Of this customer only.")] = None,
    batch: Annotated[int | None, typer.Option(help="Of this batch only.")] = None,
    asset: Annotated[str | None, typer.Option(help="Of this image only.")] = None,
    before: Annotated[int | None, typer.Option(help="Only those older than this job.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first; failed ones are dead letters, to be retried."""
    states = _states(state)

    async def read(services: Services) -> list[Job]:
        found: list[Job] = []
        while len(found) < limit:
            wanted = min(_PAGE, limit - len(found))
            page = await services.catalog.jobs.page(
                wanted,
                before=found[-1].id if found else before,
                customer=customer,
                batch=batch,
                states=states,
                asset=asset,
            )
            found += page
            if len(page) < wanted:
                break
        return found

    rows = [asdict(job) for job in with_services(settings_for(config, data), read)]
    if not as_json:
        for row in rows:
            row["fault"] = "" if row["fault"] is None else row["fault"]["code"]
    listing(rows, _COLUMNS, as_json=as_json)


def show_job(
    job: Annotated[int, typer.Argument(metavar="ID", help="The job's number.")],
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one job, its payload and its last fault included."""

    async def read(services: Services) -> Job:
        found = await services.catalog.jobs.get(job)
        if found is None:
            raise NotFound(f"There is no job {job}; see `orchestrator jobs list`.")
        return found

    row = asdict(with_services(settings_for(config, data), read))
    if as_json:
        show(row)
    else:
        fields = [{"field": name, "value": value} for name, value in row.items()]
        listing(fields, ("field", "value"), as_json=False)


def retry_jobs(
    jobs: Numbers = None,
    batch: OfBatch = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have jobs that failed or were cancelled, or the failures of a batch, done again."""

    async def retry(services: Services) -> _Changed:
        if batch is not None:
            return _Changed(len(await services.submitter.retry_batch(batch)))
        return await _each(jobs, services.submitter.retry)

    _tell("retried", _with(jobs, batch, config, data, retry), as_json)


def cancel_jobs(
    jobs: Numbers = None,
    batch: OfBatch = None,
    config: ConfigFile = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give up jobs, or what of a batch still waits; what is running goes on."""

    async def cancel(services: Services) -> _Changed:
        if batch is not None:
            return _Changed(await services.submitter.cancel_batch(batch))
        return await _each(jobs, services.submitter.cancel)

    _tell("cancelled", _with(jobs, batch, config, data, cancel), as_json)


def _with(
    jobs: list[int] | None,
    batch: int | None,
    config: Path | None,
    data: Path | None,
    work: Callable[[Services], Awaitable[_Changed]],
) -> _Changed:
    if bool(jobs) == (batch is not None):
        raise InvalidInput("Name jobs by their ids, or one batch with --batch.")
    return with_services(settings_for(config, data), work)


async def _each(jobs: list[int] | None, change: Callable[[int], Awaitable[object]]) -> _Changed:
    changed = _Changed()
    for job in jobs or ():
        try:
            await change(job)
            changed.number += 1
        except OrchestratorError as error:
            changed.problems[job] = error.public
    return changed


def _tell(done: str, changed: _Changed, as_json: bool) -> None:
    if as_json:
        errors = {str(job): problem for job, problem in changed.problems.items()}
        show({done: changed.number, "errors": errors})
    else:
        say("\n".join([*changed.problems.values(), f"{done} {changed.number} jobs"]))
    if changed.problems:
        raise typer.Exit(1)


def _states(text: str) -> tuple[State, ...]:
    from orchestrator.catalog.jobs import STATES

    named = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in named if name not in STATES]
    if unknown:
        raise InvalidInput(f"--state {unknown[0]} is none of {', '.join(STATES)}")
    return cast("tuple[State, ...]", named) or STATES


JOBS: dict[str, Callable[..., None]] = {
    "list": list_jobs,
    "show": show_job,
    "retry": retry_jobs,
    "cancel": cancel_jobs,
}
