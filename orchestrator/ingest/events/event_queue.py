"""Receives the events of the source bucket from an SQS queue.

A message is deleted when its events are recorded as jobs. A message that is not an event is logged
and stays in the queue, for the dead-letter queue of its redrive policy.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.ingest.events.event_acceptance import EventAcceptor
from orchestrator.ingest.events.s3_events import MAX_EVENT_BYTES, read_events
from orchestrator.ingest.payload.envelopes import read_json
from orchestrator.jobs.settler import ERROR_FIRST_S, ERROR_LONGEST_S
from orchestrator.storage.sqs_client import LONGEST_POLL_S, MAX_MESSAGES, Message, Sqs

log = logging.getLogger(__name__)
_HIDDEN_S = 60
"""How long a received message is hidden from other receivers: ample time to record its events."""


class EventReceiver:
    """Receives events until cancelled."""

    def __init__(self, queue: Sqs, acceptor: EventAcceptor) -> None:
        self._queue = queue
        self._acceptor = acceptor
        self._faults = FaultLog(log, "events not received", "events received again")

    async def run(self) -> None:
        """Receive until cancelled. After a failure it waits, longer each time."""
        failures = 0
        while True:
            try:
                await self.receive(LONGEST_POLL_S)
            except Unavailable as error:
                failures += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                wait_s = backoff_s(failures, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                self._faults.report(reason=error.public, retry_s=round(wait_s, 1))
                await asyncio.sleep(wait_s)
            else:
                failures = 0
                self._faults.clear()

    async def receive(self, wait_s: float) -> int:
        """Record the events of at most ten messages; waits for the first one up to `wait_s`.
        Returns the number of messages. Raises Unavailable.
        """
        messages = await self._queue.receive(MAX_MESSAGES, wait_s, _HIDDEN_S)
        for message in messages:
            if await self._accept(message):
                await self._queue.delete(message)
        return len(messages)

    async def _accept(self, message: Message) -> bool:
        """Record the events of a message. False if it cannot be read or accepted."""
        try:
            await self._acceptor.accept_events(
                read_events(read_json(message.body, MAX_EVENT_BYTES))
            )
        except Unavailable:
            raise
        except OrchestratorError as error:
            level = logging.WARNING if isinstance(error, InvalidInput) else logging.ERROR
            fields = {"message_id": message.id, "reason": error.public}
            log.log(level, "event message not accepted", extra=fields)
            return False
        return True
