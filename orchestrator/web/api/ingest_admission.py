"""Admission of ingests whose clients wait for the result: how many run at once, in total, for one
customer, and from one origin host. Everything above is refused at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import Overloaded

BUSY_RETRY_S = 5.0


class IngestAdmission:
    """Counts the ingests of this process whose clients wait."""

    def __init__(self, *, in_all: int, per_customer: int, per_host: int) -> None:
        """`in_all` is for everyone; a customer gets at most half of it."""
        self._in_all = in_all
        self._per_customer = min(per_customer, (in_all + 1) // 2)
        self._per_host = per_host
        self._running = 0
        self._customers: Counter[int] = Counter()
        self._hosts: Counter[str] = Counter()

    @contextmanager
    def admit(self, customer: int, host: str) -> Iterator[None]:
        """Count an ingest during the block; `host` is that of its origin, "" for none. Raises
        Overloaded.
        """
        if self._running >= self._in_all:
            raise _busy(f"{self._in_all} ingests run while their clients wait.")
        if self._customers[customer] >= self._per_customer:
            raise _busy(
                f"{self._per_customer} ingests of this customer run while their clients wait."
            )
        if host and self._hosts[host] >= self._per_host:
            raise _busy(
                f"{self._per_host} ingests from this origin host run while their clients wait."
            )
        self._running += 1
        self._customers[customer] += 1
        self._hosts[host] += 1
        try:
            yield
        finally:
            self._running -= 1
            self._customers[customer] -= 1
            self._hosts[host] -= 1
            if not self._customers[customer]:
                del self._customers[customer]
            if not self._hosts[host]:
                del self._hosts[host]


def _busy(reason: str) -> Overloaded:
    return Overloaded(
        f"{reason} Repeat the request after the seconds of Retry-After, or post a batch.",
        BUSY_RETRY_S,
    )
