"""SQS queues for the `jobs` package: sends, receives and deletes messages, and translates errors.

These are standard queues: a message may arrive twice, late or out of order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import QueueUnavailable
from orchestrator.settings import Jobs
from orchestrator.storage.named_session import named_session

MAX_MESSAGES = 10
"""The most messages that one call to SQS can send or receive."""
LONGEST_POLL_S = 20
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 10
_MARK = "orchestrator-job"


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. `job` is the number of the job it announces, or "" if it was not sent by
    this product.
    """

    id: str
    receipt: str
    body: bytes
    job: str


class Sqs:
    """One queue. Every method raises QueueUnavailable."""

    def __init__(self, client: Any, name: str) -> None:
        """`name` is a name or an address; a name is resolved at the first use."""
        self._client = client
        self._name = name
        self._known = name if "://" in name else ""

    async def send(self, jobs: Sequence[str]) -> None:
        """Send a message for each job."""
        for start in range(0, len(jobs), MAX_MESSAGES):
            await self._send_batch(jobs[start : start + MAX_MESSAGES])

    async def receive(self, limit: int, wait_s: float, hidden_s: int) -> list[Message]:
        """Return at most `limit` messages (and at most ten), hidden from other receivers for
        `hidden_s`. Waits for the first one up to `wait_s`, rounded down to whole seconds.
        """
        address = await self._address()
        with translate_errors():
            answer = await self._client.receive_message(
                QueueUrl=address,
                MaxNumberOfMessages=min(limit, MAX_MESSAGES),
                WaitTimeSeconds=min(int(wait_s), LONGEST_POLL_S),
                VisibilityTimeout=hidden_s,
                MessageAttributeNames=[_MARK],
            )
        return [_message(each) for each in answer.get("Messages", ())]

    async def delete(self, message: Message) -> None:
        """Remove a received message from the queue."""
        address = await self._address()
        with translate_errors():
            await self._client.delete_message(QueueUrl=address, ReceiptHandle=message.receipt)

    async def check(self) -> None:
        """Check that the queue answers."""
        address = await self._address()
        with translate_errors():
            await self._client.get_queue_attributes(QueueUrl=address, AttributeNames=["QueueArn"])

    async def _send_batch(self, jobs: Sequence[str]) -> None:
        entries = [
            {
                "Id": str(place),
                "MessageBody": f'{{"job": {job}}}',
                "MessageAttributes": {_MARK: {"DataType": "Number", "StringValue": job}},
            }
            for place, job in enumerate(jobs)
        ]
        address = await self._address()
        with translate_errors():
            answer = await self._client.send_message_batch(QueueUrl=address, Entries=entries)
        if answer.get("Failed"):
            raise QueueUnavailable("The queue did not accept every message.")

    async def _address(self) -> str:
        if not self._known:
            with translate_errors():
                answer = await self._client.get_queue_url(QueueName=self._name)
            self._known = str(answer["QueueUrl"])
        return self._known


@asynccontextmanager
async def open_queues(settings: Jobs, names: Sequence[str]) -> AsyncIterator[list[Sqs]]:
    """Open the queues with these names or addresses over one client, without connecting to them."""
    config = AioConfig(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=LONGEST_POLL_S + _READ_TIMEOUT_S,
        max_pool_connections=64,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    async with named_session().create_client(
        "sqs",
        region_name=settings.sqs_region,
        endpoint_url=settings.sqs_endpoint or None,
        aws_access_key_id=settings.sqs_access_key.get_secret_value() or None,
        aws_secret_access_key=settings.sqs_secret_key.get_secret_value() or None,
        config=config,
    ) as client:
        yield [Sqs(client, name) for name in names]


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate the errors of the service and its client to QueueUnavailable."""
    try:
        yield
    except ClientError as error:
        raise QueueUnavailable("The queue answered with an error; see the log.") from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise QueueUnavailable("The queue does not answer.") from error


def _message(answer: Mapping[str, Any]) -> Message:
    mark = answer.get("MessageAttributes", {}).get(_MARK, {})
    return Message(
        answer["MessageId"],
        answer["ReceiptHandle"],
        answer["Body"].encode(),
        str(mark.get("StringValue", "")),
    )
