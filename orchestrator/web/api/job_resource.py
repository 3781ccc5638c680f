"""Handlers of jobs. A customer's key gives access to the jobs of that customer, an admin key to
all.
"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from orchestrator.catalog.jobs import STATES, Job, Jobs
from orchestrator.errors import NotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.loop_turns import in_turns
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import JobsQuery
from orchestrator.web.api.work_models import JobList, JobOut


class JobResource:
    """Handlers of `/jobs/...`."""

    def __init__(self, jobs: Jobs, submitter: Submitter) -> None:
        self._jobs = jobs
        self._submitter = submitter

    async def list_jobs(self, call: ApiCall) -> web.Response:
        """Answer 200 with jobs, newest first."""
        query = call.query_as(JobsQuery)
        if query.customer is not None:
            call.caller.require_access(query.customer)
        jobs = await self._jobs.page(
            query.limit + 1,
            before=query.before,
            customer=query.customer or call.caller.only_customer,
            batch=query.batch,
            states=(query.state,) if query.state else STATES,
            asset=query.image,
        )
        page = jobs[: query.limit]
        next_page = None
        if len(jobs) > query.limit:
            parameters = query.model_dump(by_alias=True, exclude_none=True)
            next_page = f"/jobs?{urlencode({**parameters, 'before': page[-1].id})}"
        shown = [JobOut.model_validate(job) async for job in in_turns(page)]
        return json_response(JobList(jobs=shown, next=next_page))

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the job."""
        return json_response(JobOut.model_validate(await self._get_job(call)))

    async def retry(self, call: ApiCall) -> web.Response:
        """Answer 200 with the failed or cancelled job, which is queued again; 409 in any other
        state, and after a later change of its asset.
        """
        job = await self._get_job(call)
        return json_response(JobOut.model_validate(await self._submitter.retry(job.id)))

    async def cancel(self, call: ApiCall) -> web.Response:
        """Answer 200 with the waiting or running job, which is cancelled; 409 if it has ended."""
        job = await self._get_job(call)
        return json_response(JobOut.model_validate(await self._submitter.cancel(job.id)))

    async def _get_job(self, call: ApiCall) -> Job:
        number = call.path_number("job")
        job = await self._jobs.get(number, customer=call.caller.only_customer)
        if job is None:
            raise NotFound(f"There is no job {number}. GET /jobs lists the jobs.")
        return job
