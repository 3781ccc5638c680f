"""Handler of the warm-up of pictures that are shaped by their URL."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.transform.transformer import Transformer
from orchestrator.transform.warm_up import warm_up_jobs
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import WarmUpIn
from orchestrator.web.api.work_models import WarmUpOut


class IcoResource:
    """Handlers of `/ico/...` on the private port."""

    def __init__(self, transformer: Transformer | None, submitter: Submitter) -> None:
        """`transformer` is None if /ico is not configured."""
        self._transformer = transformer
        self._submitter = submitter

    async def warm(self, call: ApiCall) -> web.Response:
        """Answer 202 with the jobs that make the results. Raises NotFound, InvalidInput."""
        if self._transformer is None:
            raise NotFound("This installation has no /ico. Configure it in the section ico.")
        body = call.body_as(WarmUpIn)
        drafts = warm_up_jobs(self._transformer, body.paths, body.params)
        recorded = await self._submitter.submit(drafts)
        return json_response(WarmUpOut(jobs=list(recorded.ids)), 202)
