"""The faults of the chaos run, by name: a process killed, a dependency stopped for a while."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from tests.support.chaos.site import Site

Fault = Callable[[Site, random.Random, float], None]


def _kill_process(site: Site, dice: random.Random, _longest_s: float) -> None:
    """One process below the supervisor: it serves, keeps house, or decodes."""
    victim = dice.choice(sorted(site.own_processes()))
    site.note(f"kill {victim}")
    site.kill([victim])


def _kill_database(site: Site, _dice: random.Random, _longest_s: float) -> None:
    site.note("kill the database")
    site.kill(site.database_processes())


def _kill_all(site: Site, _dice: random.Random, _longest_s: float) -> None:
    site.note("kill the whole installation")
    site.restart()


def _stop_database(site: Site, dice: random.Random, longest_s: float) -> None:
    seconds = dice.uniform(0.5, longest_s)
    site.note(f"stop the database for {seconds:.1f} s")
    site.stop_for(site.database_processes(), seconds)


def _stop_store(site: Site, dice: random.Random, longest_s: float) -> None:
    seconds = dice.uniform(0.5, longest_s)
    site.note(f"stop the object store for {seconds:.1f} s")
    site.stop_for(site.store_processes(), seconds)


def _stop_origin(site: Site, dice: random.Random, longest_s: float) -> None:
    seconds = dice.uniform(0.5, longest_s)
    site.note(f"stop the origin for {seconds:.1f} s")
    site.stop_for([site.origin.pid], seconds)


FAULTS: Mapping[str, Fault] = {
    "kill one process": _kill_process,
    "kill the database": _kill_database,
    "kill everything": _kill_all,
    "stop the database": _stop_database,
    "stop the store": _stop_store,
    "stop the origin": _stop_origin,
}
