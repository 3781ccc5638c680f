"""Due times of queued jobs that wait for a window."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.catalog.connection import Pool


class DueTimes:
    """The repository of due times. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def delay(self, kinds: Sequence[str], delay_s: float) -> None:
        """Queued jobs of these kinds are not due before `delay_s` seconds from now; with 0, those
        that have not started are due now.
        """
        condition = "due < clock_timestamp() + make_interval(secs => $2 - 1)"
        if not delay_s:
            condition = "attempts = 0 AND due > clock_timestamp()"
        await self._pool.fetch(
            f"""UPDATE jobs SET state = 'queued',  -- named, so that workers are notified
                    due = clock_timestamp() + make_interval(secs => $2), wait_s = $2
                WHERE state = 'queued' AND kind = ANY ($1::text[]) AND {condition}""",  # noqa: S608
            list(kinds),
            float(delay_s),
        )
