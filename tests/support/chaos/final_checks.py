"""The checks of the chaos run after the rest: each job was done once, and each image is in the
state that was accepted last.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import asyncpg

from orchestrator.catalog.embedded.database import embedded
from tests.support.chaos.clients import Writer, check_state
from tests.support.chaos.image_states import GRACE_S, ChaosImage
from tests.support.chaos.site import Site
from tests.support.process_table import open_files
from tests.support.serve_process import processes_marked, wait_until

_WORK_S = 300.0
"""The jobs that are left are done within this time after the last fault."""
_LEFTOVERS_S = 60.0
_MAX_DESCRIPTORS = 250
"""A process has about 100 after its start."""
_MAX_TASKS = 150
"""Two serve processes and housekeeping have about 30 while they are idle."""
_IN_A_ROW = 3
"""Whole checks of an image without a fault: its requests are answered by both processes."""


def check_end(site: Site, writers: list[Writer]) -> None:
    """Raise AssertionError for a job that was lost or done twice, or for an image in another state
    than the one accepted last.
    """
    for writer in writers:
        for image in writer.images:
            writer.finish(image)
    batches = [writer.wait_for_batch(number) for writer in writers for number in writer.batches]
    wait_until(lambda: not _query(site, _WAITING), "no job is left", _WORK_S)
    _check_batches(site, batches, unclear=sum(writer.unclear for writer in writers))
    for name, query in _NEVER.items():
        assert not (rows := _query(site, query)), (name, rows[:10])
    _check_hooks(site)
    _check_leftovers(site)
    for writer in writers:
        assert not writer.faults, writer.faults
        for image in writer.images:
            _check_image(site, image)


_WAITING = "SELECT id, kind, state, fault FROM jobs WHERE state IN ('queued', 'running')"
_PUBLISHED = "outcome IN ('completed', 'unchanged')"
_NEVER = {
    "a job published twice": f"""SELECT job, count(*) FROM ingest_attempts
        WHERE {_PUBLISHED} AND job IS NOT NULL GROUP BY job HAVING count(*) > 1""",
    "a job of a batch done without a result": f"""SELECT id FROM jobs
        WHERE batch IS NOT NULL AND state = 'done' AND NOT EXISTS (
            SELECT FROM ingest_attempts WHERE job = jobs.id AND {_PUBLISHED})""",
    "a version published twice": """SELECT version, count(*) FROM ingest_attempts
        WHERE outcome = 'completed' GROUP BY version HAVING count(*) > 1""",
    "a batch whose counts are not those of its jobs": """SELECT batches.id FROM batches
        LEFT JOIN jobs ON jobs.batch = batches.id GROUP BY batches.id
        HAVING count(jobs.id) <> count OR batches.finished IS NULL
            OR completed <> count(*) FILTER (WHERE state = 'done')
            OR errors <> count(*) FILTER (WHERE state = 'failed')
            OR superseded <> count(*) FILTER (WHERE state = 'superseded')""",
    "a version without its webhook, or with two": """SELECT version, number
        FROM (SELECT version FROM ingest_attempts WHERE outcome = 'completed') AS published
        FULL JOIN (SELECT (payload ->> 'version')::bigint AS version, count(*) AS number FROM jobs
            WHERE kind = 'webhook' AND payload ->> 'event' = 'ingested' GROUP BY 1) AS told
        USING (version) WHERE number IS DISTINCT FROM 1""",
}
"""What must not be in the database, and the query that finds it."""


def _check_batches(site: Site, batches: list[dict[str, int]], *, unclear: int) -> None:
    for batch in batches:
        ended = batch["completed"] + batch["errors"] + batch["superseded"]
        assert (ended, batch["remaining"]) == (batch["count"], 0), batch
    (recorded,) = _query(site, "SELECT count(*) AS number FROM batches")
    assert len(batches) <= recorded["number"] <= len(batches) + unclear


def _check_hooks(site: Site) -> None:
    """Every webhook is done, and arrived; one may arrive twice, of a process that was killed."""
    jobs = _query(site, "SELECT state, payload FROM jobs WHERE kind = 'webhook'")
    assert Counter(job["state"] for job in jobs) == {"done": len(jobs)}
    told = {json.dumps(job["payload"], sort_keys=True) for job in jobs}
    assert told == {json.dumps(hook, sort_keys=True) for hook in site.hooks}


def _check_leftovers(site: Site) -> None:
    """No temporary file is left of any process, whether it was killed or not, and no process has
    more open than its connections and pictures, or more tasks than an idle one.
    """

    def most_descriptors() -> int:
        return max(map(open_files, processes_marked(site.server.mark)))

    wait_until(lambda: not site.server.temporary_files(), "no temporary file is left", _LEFTOVERS_S)
    wait_until(lambda: most_descriptors() < _MAX_DESCRIPTORS, "files are closed", _LEFTOVERS_S)
    wait_until(lambda: _tasks(site) < _MAX_TASKS, "tasks have ended", _LEFTOVERS_S)


def _tasks(site: Site) -> float:
    return site.server.metric("event_loop_tasks")


def _check_image(site: Site, image: ChaosImage) -> None:
    """Every process knows the last state within GRACE_S."""
    faults: list[str] = []
    right = 0

    def is_right() -> bool:
        nonlocal right
        faults[:] = check_state(site, image, image.last)
        right = 0 if faults else right + 1
        return right == _IN_A_ROW

    try:
        wait_until(is_right, f"{image.name} is {image.last}", 3 * GRACE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {faults}") from None


def _query(site: Site, query: str) -> list[dict[str, Any]]:
    async def fetch(dsn: str) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
            )
            return [dict(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    with embedded(site.server.data) as database:
        return asyncio.run(fetch(database.dsn))
