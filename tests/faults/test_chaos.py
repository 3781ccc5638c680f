"""Clients read, ingest, patch and delete images while every process is killed and every dependency
is paused at random: no answer has a wrong picture or rights that were taken away, no status is
other than a deliberate one, and no job is lost or done twice.

`CHAOS_SEED` repeats a run. The order of events still depends on the machine.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chaos.actors import Reader, Writer, check_end
from tests.support.chaos.faults import FAULTS
from tests.support.chaos.site import chaos_site


def run_chaos(folder: Path, *, seconds: float, longest_pause_s: float) -> None:
    """Load and faults for about `seconds`, then rest, then the exact state of every image."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    with chaos_site(folder) as site:
        rest = threading.Event()
        writers = [Writer(site, random.Random(seed + n), rest, f"w{n}") for n in range(2)]
        images = [image for writer in writers for image in writer.images]
        readers = [Reader(site, random.Random(~seed - n), rest, images) for n in range(3)]
        actors = [*writers, *readers]
        for actor in actors:
            actor.start()
        try:
            _break_things(dice, seconds, lambda fault: FAULTS[fault](site, dice, longest_pause_s))
            site.repair()
        finally:
            rest.set()
            for actor in actors:
                actor.join(180)
        report = f"CHAOS_SEED={seed}\n{site.faults}\n{site.server.log_tail(20)}"
        faults = [fault for actor in actors for fault in actor.faults]
        assert not faults, "\n".join([*faults[:20], report])
        assert not any(actor.is_alive() for actor in actors), report
        check_end(site, writers)
        assert sum(reader.pictures for reader in readers) > 0, report
        assert sum(writer.accepted for writer in writers) > 0, report


def _break_things(dice: random.Random, seconds: float, cause: Callable[[str], None]) -> None:
    """Cause every fault once, in any order, and again in another order until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fault in dice.sample(sorted(FAULTS), len(FAULTS)):
            time.sleep(dice.uniform(0.5, 3))
            cause(fault)


@pytest.mark.timeout(400)
def test_each_kill_and_pause_once_under_load_changes_no_answer(tmp_path: Path) -> None:
    run_chaos(tmp_path, seconds=15, longest_pause_s=2)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_ten_minutes_of_kills_and_pauses_under_load_change_no_answer(tmp_path: Path) -> None:
    run_chaos(tmp_path, seconds=600, longest_pause_s=8)
