"""Does the same work on many pictures, some at a time. A failure is counted and logged, and the
others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from orchestrator.backoff import backoff_s
from orchestrator.errors import OrchestratorError, is_retryable

log = logging.getLogger(__name__)
_TRIES = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0

Work = Callable[[str], Awaitable[bool]]
"""Works on the picture with this key; False if there was nothing to do."""
OnDone = Callable[[str, str], None]
"""Receives the key of a picture, and "processed", "skipped" or the error."""


@dataclass(slots=True)
class Counts:
    """What became of the pictures."""

    total: int = 0
    skipped: int = 0
    processed: int = 0
    errors: int = 0

    def __str__(self) -> str:
        """Return the summary in the form of the replaced commands."""
        return (
            f"Images: {self.total}, skipped: {self.skipped}, processed: {self.processed}, "
            f"errors: {self.errors}"
        )


async def run_bulk(
    keys: AsyncIterator[str], work: Work, *, at_once: int, on_done: OnDone
) -> Counts:
    """Work on every picture, `at_once` at a time. Passing faults are retried. Raises nothing of one
    picture; what `keys` raises.
    """
    counts = Counts()
    turn = asyncio.Lock()

    async def take_turns() -> None:
        while True:
            async with turn:  # an iterator gives one item at a time
                key = await anext(keys, None)
            if key is None:
                return
            counts.total += 1
            on_done(key, await _work(key, work, counts))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(take_turns())
    return counts


async def _work(key: str, work: Work, counts: Counts) -> str:
    try:
        is_done = await _retried(key, work)
    except OrchestratorError as error:
        counts.errors += 1
        log.warning("picture failed", extra={"key": key, "reason": error.public})
        return error.public
    if is_done:
        counts.processed += 1
        return "processed"
    counts.skipped += 1
    return "skipped"


async def _retried(key: str, work: Work) -> bool:
    for tries in range(1, _TRIES):
        try:
            return await work(key)
        except OrchestratorError as error:
            if not is_retryable(error):
                raise
            await asyncio.sleep(backoff_s(tries, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))
    return await work(key)
