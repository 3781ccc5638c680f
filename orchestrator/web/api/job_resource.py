"""Jobs: what waits, runs and failed. A key sees its own customer's, an admin key all."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from orchestrator.catalog.jobs import STATES, Job
from orchestrator.catalog.jobs import Jobs as StoredJobs
from orchestrator.errors import NotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.web.api.json_responses import answer
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import JobsQuery
from orchestrator.web.api.work_models import JobList, JobOut


class JobResource:
    """Handlers of `/jobs/...`."""

    def __init__(self, jobs: StoredJobs, submitter: Submitter) -> None:
        self._jobs = jobs
        self._submitter = submitter

    async def page(self, call: ApiCall) -> web.Response:
        """200 with jobs, newest first."""
        query = call.asked(JobsQuery)
        if query.customer is not None:
            call.caller.check(query.customer)
        customer = query.customer or call.caller.scope
        found = await self._jobs.page(
            query.limit + 1,
            before=query.before,
            customer=customer,
            batch=query.batch,
            states=(query.state,) if query.state else STATES,
            asset=query.image,
        )
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            kept = query.model_dump(by_alias=True, exclude_none=True)
            following = f"/jobs?{urlencode({**kept, 'before': page[-1].id})}"
        return answer(JobList(jobs=[JobOut.model_validate(job) for job in page], next=following))

    async def show(self, call: ApiCall) -> web.Response:
        """200 with one."""
        return answer(JobOut.model_validate(await self._known(call)))

    async def retry(self, call: ApiCall) -> web.Response:
        """200 with a job that failed or was cancelled and now waits again; else 409."""
        job = await self._known(call)
        return answer(JobOut.model_validate(await self._submitter.retry(job.id)))

    async def cancel(self, call: ApiCall) -> web.Response:
        """200 with a job that waited and is given up; else 409."""
        job = await self._known(call)
        return answer(JobOut.model_validate(await self._submitter.cancel(job.id)))

    async def _known(self, call: ApiCall) -> Job:
        number = call.number("job")
        job = await self._jobs.get(number, customer=call.caller.scope)
        if job is None:
            raise NotFound(f"There is no job {number}.")
        return job
