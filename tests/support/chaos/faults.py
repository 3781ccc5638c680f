"""The faults of the chaos run, by name: processes killed, and processes stopped for a while."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping
from functools import partial

from tests.support.chaos.processes_of_site import (
    database,
    decode_workers,
    housekeeping,
    object_store,
    origin,
    resource_trackers,
    serve_processes,
    supervisor,
    worker,
)
from tests.support.chaos.site import Site, send

Kill = Callable[[Site, random.Random], None]
Pids = Callable[[Site], list[int]]


def _kill_one(pids_of: Pids, site: Site, dice: random.Random) -> None:
    """Kill one of these processes; its supervisor or its user starts it again."""
    pids = pids_of(site)
    send(dice.sample(pids, 1) if pids else [], signal.SIGKILL)


def _kill_database(site: Site, _dice: random.Random) -> None:
    send(database(site), signal.SIGKILL)


KILLS: Mapping[str, Kill] = {
    "a serve process": partial(_kill_one, serve_processes),
    "housekeeping": partial(_kill_one, housekeeping),
    "a decode worker": partial(_kill_one, decode_workers),
    "a resource tracker": partial(_kill_one, resource_trackers),
    "the worker": lambda site, _: site.restart_worker(),
    "the supervisor": lambda site, _: site.restart_supervisor(),
    "everything": lambda site, _: site.restart(),
    "the database": _kill_database,
    "the object store": lambda site, _: site.store.restart(),
    "the origin": lambda site, _: site.restart_origin(),
}
"""What each does, and starts again what has no supervisor."""
PAUSES: Mapping[str, tuple[Pids, bool]] = {
    "a serve process": (serve_processes, False),
    "housekeeping": (housekeeping, False),
    "a decode worker": (decode_workers, False),
    "the worker": (worker, False),
    "the supervisor": (supervisor, False),
    "the database": (database, True),
    "the object store": (object_store, True),
    "the origin": (origin, True),
}
"""The processes that are stopped, and whether all of them are or one."""


def pause(site: Site, dice: random.Random, name: str, longest_s: float) -> None:
    """Stop processes of this name for at most `longest_s` seconds."""
    pids_of, is_whole = PAUSES[name]
    pids = pids_of(site)
    seconds = dice.uniform(0.5, longest_s)
    if pids:
        site.stop_for(pids if is_whole else dice.sample(pids, 1), seconds)
