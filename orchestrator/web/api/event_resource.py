"""Handler of the events of the bucket whose pictures become pyramids."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.ingest.events.event_acceptance import EventReport
from orchestrator.ingest.events.pyramid_services import PyramidServices
from orchestrator.ingest.events.s3_events import is_sns, read_events
from orchestrator.settings import Pyramids
from orchestrator.web.api.authentication import (
    KeyVerifier,
    authenticate,
    has_secret,
    refuse_cross_site_change,
)
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.work_models import EventsOut


class EventResource:
    """Handler of `/events/s3`."""

    def __init__(
        self, pyramids: PyramidServices | None, settings: Pyramids, keys: KeyVerifier
    ) -> None:
        """`pyramids` is None if no bucket is configured."""
        self._pyramids = pyramids
        self._settings = settings
        self._keys = keys

    async def post(self, call: ApiCall) -> web.Response:
        """Answer 200 when the events are recorded as jobs; a sender repeats any other message.

        Raises NotFound, InvalidInput, KeyRequired, Forbidden, OriginUnavailable (a certificate or
        confirmation of SNS), Unavailable.
        """
        if self._pyramids is None:
            raise NotFound(
                "This installation makes no pyramids of a bucket. Configure it in the section "
                "pyramids."
            )
        if is_sns(call.body):
            if not await self._pyramids.sns.check(call.body):
                return json_response(_out(EventReport()))
        else:
            await self._check_sender(call.request)
        report = await self._pyramids.acceptor.accept_events(read_events(call.body))
        return json_response(_out(report))

    async def _check_sender(self, request: web.Request) -> None:
        """Raise KeyRequired or Forbidden unless the request carries the secret or a key."""
        if has_secret(request, self._settings.event_secret.get_secret_value()):
            return
        refuse_cross_site_change(request)
        caller = await authenticate(request, self._keys)
        caller.require_access(self._settings.customer)


def _out(report: EventReport) -> EventsOut:
    return EventsOut(
        accepted=report.accepted,
        repeated=report.repeated,
        outdated=report.outdated,
        ignored=report.ignored,
    )
