"""What a queue is to us: a doorbell with a lease (docs/adr/0011-jobs.md).

A ticket says "there is work"; which work, the table of jobs decides. Tickets may be lost, doubled
or late: none of that loses a job or does one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.catalog.batches import Lane

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the queue is told of a job."""

    job: int
    lane: Lane


class Ticket(Protocol):
    """One message received, kept from others until its lease ends."""

    @property
    def lane(self) -> Lane:
        """The lane it came by."""
        ...

    @property
    def message(self) -> str:
        """The id of a message that a stranger put into the queue, which is itself the work; "" for
        our own.
        """
        ...

    @property
    def body(self) -> bytes:
        """A stranger's message; empty for our own."""
        ...

    async def extend(self) -> None:
        """Renew the lease. Raises Unavailable."""
        ...

    async def done(self) -> None:
        """Take the message out of the queue for good. Raises Unavailable."""
        ...

    async def put_back(self, delay_s: float = 0.0) -> None:
        """Let anybody have the message again, not before `delay_s`. Raises Unavailable."""
        ...


class JobQueue(Protocol):
    """PgQueuer or SQS."""

    async def run(self) -> None:
        """Wait for messages until cancelled; whoever receives has this run beside."""
        ...

    @property
    def is_transactional(self) -> bool:
        """True if `announce` is part of the connection's transaction."""
        ...

    async def announce(
        self, connection: asyncpg.Connection | None, jobs: Sequence[Announcement]
    ) -> None:
        """Say that there is work: one message a job, in its lane. Raises Unavailable.

        A transactional queue needs the connection; to another it must not be announced before the
        jobs are committed.
        """
        ...

    async def receive(self, limit: int, wait_s: float) -> Sequence[Ticket]:
        """At most `limit` tickets; none after `wait_s` without any. Raises Unavailable."""
        ...

    async def check(self) -> None:
        """Ask the queue whether it is there. Raises Unavailable."""
        ...

    async def tidy(self) -> None:
        """Remove what the queue keeps of work done long ago. Raises Unavailable."""
        ...
