"""Clients read, ingest, patch and delete images while every process is killed and every process and
dependency is paused at random: no answer has a wrong picture or rights that were taken away, no
status is other than a deliberate one, and no job is lost or done twice.

`CHAOS_SEED` repeats a long run. The order of events still depends on the machine.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.chaos.clients import BatchWriter, Client, Reader, Writer
from tests.support.chaos.faults import KILLS, PAUSES, pause
from tests.support.chaos.final_checks import check_end
from tests.support.chaos.site import Site, chaos_site
from tests.support.memory_slope import MemorySamples

WORK_S = 20.0
"""How long a fault waits at most until the clients have worked since the one before."""
_SAMPLE_S = 2.0
_SHORT_S = 60.0
"""A shorter run says nothing about the growth of memory."""
_GROWTH_MB = 150.0
"""Each process is killed and started again many times, so that the sum goes up and down."""


@dataclass(frozen=True)
class Load:
    """The clients, and what they have done so far."""

    writers: list[Writer]
    readers: list[Reader]

    @classmethod
    def on(cls, site: Site, seed: int, rest: threading.Event) -> Load:
        """Clients of this site that act until the rest begins."""
        writers = [Writer(site, random.Random(seed + n), rest, f"w{n}") for n in range(2)]
        writers.append(BatchWriter(site, random.Random(seed + 2), rest, "b"))
        images = [image for writer in writers for image in writer.images]
        readers = [Reader(site, random.Random(~seed - n), rest, images) for n in range(3)]
        return cls(writers, readers)

    @property
    def clients(self) -> list[Client]:
        return [*self.writers, *self.readers]

    @property
    def faults(self) -> list[str]:
        """The answers that must not be."""
        return [fault for client in self.clients for fault in client.faults]

    @property
    def changes(self) -> int:
        """Changes that were accepted."""
        return sum(writer.accepted for writer in self.writers)

    @property
    def seen(self) -> Counter[str]:
        """Answers with status 200, by the route."""
        return sum((reader.seen for reader in self.readers), Counter())

    def wait_for_work(self, timeout_s: float) -> None:
        """Wait until a change was accepted and twenty images were seen."""
        changes, seen, end = self.changes, self.seen.total(), time.monotonic() + timeout_s
        while (self.changes <= changes or self.seen.total() < seen + 20) and time.monotonic() < end:
            time.sleep(0.05)


def run_chaos(folder: Path, seed: int, *, seconds: float, longest_pause_s: float) -> str:
    """Load and faults for about `seconds`, then rest, then the exact state of every image. Returns
    a line with what was done.
    """
    with chaos_site(folder) as site:
        rest = threading.Event()
        load = Load.on(site, seed, rest)
        memory = MemorySamples(site.resident_bytes)
        sampler = threading.Thread(target=_sample, args=(memory, rest), daemon=True)
        for thread in (*load.clients, sampler):
            thread.start()
        try:
            _cause_faults(site, load, seed, seconds, longest_pause_s)
            site.repair()
            load.wait_for_work(5 * WORK_S)
            rest.set()
            for thread in (*load.clients, sampler):
                thread.join()
            assert not load.faults
            check_end(site, load.writers)
            site.known.check()
            assert seconds < _SHORT_S or memory.growth < _GROWTH_MB, str(memory)
            assert {"iiif", "iiif-img", "thumbs"} == load.seen.keys()
            assert load.changes > 10
        except BaseException as error:
            notes = [f"CHAOS_SEED={seed}", *load.faults[:20], *site.faults[-40:]]
            error.add_note("\n".join([*notes, site.server.log_tail(20)]))
            raise
        finally:
            rest.set()
    return (
        f"CHAOS_SEED={seed}: {len(site.faults)} faults, {load.changes} changes accepted,"
        f" answers with status 200: {dict(load.seen)}; {site.known}; {memory}"
    )


def _sample(memory: MemorySamples, rest: threading.Event) -> None:
    while not rest.wait(_SAMPLE_S):
        memory.take()


def _cause_faults(
    site: Site, load: Load, seed: int, seconds: float, longest_pause_s: float
) -> None:
    """Kill processes and, at the same time, pause processes, for `seconds`: each kind once, in any
    order, and again in another order until the time is over.
    """
    end = time.monotonic() + seconds
    killing, pausing = random.Random(f"kill {seed}"), random.Random(f"pause {seed}")
    has_failed = threading.Event()

    def kill(name: str) -> None:
        site.note(f"kill {name}")
        KILLS[name](site, killing)
        site.check_alive()

    def stop(name: str) -> None:
        site.note(f"pause {name}")
        pause(site, pausing, name, longest_pause_s)

    def repeat(dice: random.Random, kinds: Iterable[str], cause: Callable[[str], None]) -> None:
        kinds, left, caused = sorted(kinds), list[str](), 0
        while (caused < len(kinds) or time.monotonic() < end) and not has_failed.is_set():
            left = left or dice.sample(kinds, len(kinds))
            load.wait_for_work(WORK_S)
            time.sleep(dice.uniform(0, 1))
            try:
                cause(left.pop())
            except BaseException:
                has_failed.set()
                raise
            caused += 1

    with ThreadPoolExecutor(2) as threads:
        both = [
            threads.submit(repeat, killing, KILLS, kill),
            threads.submit(repeat, pausing, PAUSES, stop),
        ]
    for one in both:
        one.result()


@pytest.mark.timeout(900)
def test_each_kill_and_pause_once_under_load_changes_no_answer(tmp_path: Path) -> None:
    print(run_chaos(tmp_path, 1, seconds=1, longest_pause_s=4))


@pytest.mark.soak
@pytest.mark.timeout(2700)
def test_ten_minutes_of_kills_and_pauses_under_load_change_no_answer(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    print(run_chaos(tmp_path, seed, seconds=600, longest_pause_s=8))
