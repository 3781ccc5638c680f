"""The one thread of a process that speaks to a cache's index: jobs in order, puts in batches.

After jobs and uses it tends the cache, every few seconds as long as there is something to tend:
records uses, renews the leases of what is being read, gives unneeded room back, and goes on with a
rebuild, a step at a time. With nothing to tend it sleeps. Nothing here runs on the event loop.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orchestrator import metrics
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.index import is_full
from orchestrator.cache.disk.ledger import Ledger, Publication, room_for
from orchestrator.cache.disk.maintenance import Swept, Upkeep
from orchestrator.cache.disk.pins import Pins
from orchestrator.errors import NoRoom

log = logging.getLogger(__name__)
R = TypeVar("R")

_BATCH_FILES, _BATCH_BYTES = 64, 8 * 1024**2
_SWEEP_PAUSE_S = 1.0
MISSES_KEPT = 1000
"""Misses looked into each time; more are not worth it, and would pile up without an index."""
_SAID_EVERY_S = 60.0


@dataclass(slots=True)
class Counts:
    """What came of looking up and writing, since the start of this process."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    refused: int = 0
    """No room within quota and free-space floor: served uncached."""
    oversized: int = 0
    """Too large, or too much waiting to be written: served uncached."""
    failed: int = 0
    """The disk or the index could not be written: served uncached."""


@dataclass(slots=True)
class _Put:
    place: Place
    body: bytes
    extension: str
    pinned: bool = False
    done: Future[bool] = field(default_factory=Future)


@dataclass(slots=True)
class _Call:
    work: Callable[[], None]


class Worker:
    """Owns ledger and upkeep from `start` to `stop`."""

    def __init__(
        self, name: str, ledger: Ledger, upkeep: Upkeep, tend_s: float, lease_s: float
    ) -> None:
        self.uses: dict[str, float] = {}
        """Path in the cache -> time last used; the event loop writes, this thread takes away."""
        self.missed: set[str] = set()
        """Paths looked for in vain, likewise."""
        self.pinned: set[str] = set()
        """Ids of assets whose products were used and are pinned, likewise."""
        self.held: dict[str, int] = {}
        """Path in the cache -> how many read it now; leased for as long as that is."""
        self.counts = Counts()
        self.ledger = ledger
        self.upkeep = upkeep
        self.pins = Pins(ledger.index)
        self._name = name
        self._tend_s = tend_s
        self._lease_s = lease_s
        self._leased: dict[str, float] = {}
        self._told = Counts()
        self._untended = True
        self._jobs: queue.SimpleQueue[_Put | _Call | None] = queue.SimpleQueue()
        self._held_back: _Put | _Call | None = None
        """Taken off the queue, to be done next."""
        self._stopping = False
        quota = ledger.limits.quota
        self._batch_bytes = min(_BATCH_BYTES, quota // 16) if quota else _BATCH_BYTES
        self._walk: Iterator[None] | None = None
        self._trouble = ""
        self._swept_at = 0.0
        self._said_full_at = float("-inf")
        self._puts_tended = 0
        self._thread = threading.Thread(target=self._run, name=f"cache-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the first job opens the index."""
        self._jobs.put(_Call(self._open))
        self._thread.start()

    def stop(self) -> None:
        """Finish what was asked for, tend once more and end. Blocking."""
        self._jobs.put(None)
        self._thread.join()

    def call(self, work: Callable[[], R]) -> Future[R]:
        """Run `work` on the thread; it is done in any case, for the future cannot be cancelled."""
        done: Future[R] = Future()
        done.set_running_or_notify_cancel()
        self._jobs.put(_Call(lambda: _settle(done, work)))
        return done

    def wake(self) -> None:
        """There is something to tend: it is done within `tend_s` seconds."""
        self._jobs.put(_Call(_nothing))

    def put(
        self, place: Place, body: bytes, extension: str, *, pinned: bool = False
    ) -> Future[bool]:
        """Keep `body`; the future says whether it was kept."""
        job = _Put(place, body, extension, pinned)
        job.done.set_running_or_notify_cancel()
        self._jobs.put(job)
        return job.done

    def claim(self, need: int) -> bool:
        """`Ledger.claim`, with the uses recorded before anything is evicted, and after the dead."""
        if self.ledger.free >= need:
            return self.ledger.claim(need)
        self._record_uses()
        claimed = self.ledger.claim(need) or (self._sweep_dead() and self.ledger.claim(need))
        if not claimed:
            self.counts.refused += 1
            self._no_room(need)
        return claimed

    def tend(self) -> None:
        """What is done every few seconds; an index that cannot be used now is tried again then."""
        self._tell()
        try:
            self._record_uses()
            self._reconcile_missed()
            self._renew_leases()
            if self.counts.puts == self._puts_tended:
                self.ledger.release_free()
            self._puts_tended = self.counts.puts
            self._look_for_walk()
        except (NoRoom, OSError) as error:
            self._failed("index", error)

    def _look_for_walk(self) -> None:
        """Begin a rebuild where one is due; where it is to come, look again."""
        if self._walk is not None:
            return
        due_in_s = self.upkeep.walk_due_in(2 * self._tend_s)
        if due_in_s is None:
            return
        self._untended = True
        if due_in_s <= 0 and (walk := self.upkeep.begin_walk()) is not None:
            log.info("cache index rebuilding", extra={"cache": self._name})
            self._walk = walk

    @property
    def _is_idle(self) -> bool:
        waiting = self.uses or self.missed or self.pinned or self.held or self.ledger.free > 0
        return not (waiting or self._untended or self._walk or self._stopping)

    def walk_through(self) -> None:
        """Finish a rebuild that is going on."""
        while self._walk is not None:
            self._step()

    def _run(self) -> None:
        due = time.monotonic() + self._tend_s
        while True:
            slept = self._is_idle
            job, self._held_back = self._held_back or self._next(due), None
            if job is None and self._stopping:
                break
            if slept:
                due = time.monotonic() + self._tend_s
            try:
                self._untended = self._untended or job is not None
                self._do(job)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._tend_s
                    self._untended = False
                    self.tend()
                self._step()
            except Exception:
                log.exception("cache thread failed", extra={"cache": self._name})
        self.tend()
        self.ledger.index.close()

    def _do(self, job: _Put | _Call | None) -> None:
        if isinstance(job, _Put):
            self._put_with_followers(job)
        if isinstance(job, _Call):
            job.work()

    def _next(self, due: float) -> _Put | _Call | None:
        try:
            if self._is_idle:
                job = self._jobs.get()
            else:
                busy = self._walk is not None or self._stopping
                wait_s = 0.0 if busy else due - time.monotonic()
                job = self._jobs.get(timeout=wait_s) if wait_s > 0 else self._jobs.get_nowait()
        except queue.Empty:
            return None
        self._stopping = self._stopping or job is None
        return job

    def _at_hand(self) -> _Put | _Call | None:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        self._stopping = self._stopping or job is None
        return job

    def _put_with_followers(self, first: _Put) -> None:
        """Do this put and those queued behind it at once, up to a job of another kind."""
        batch, size = [first], room_for(len(first.body))
        while len(batch) < _BATCH_FILES and size < self._batch_bytes:
            job = self._at_hand()
            if not isinstance(job, _Put):
                self._held_back = job
                break
            batch.append(job)
            size += room_for(len(job.body))
        self._put_batch(batch)

    def _put_batch(self, batch: list[_Put]) -> None:
        kept: set[int] = set()
        try:
            written = [(job, p) for job in batch if (p := self._written(job)) is not None]
            published = self.ledger.settle([p for _, p in written]) if written else []
            kept = {id(job) for job, p in written if any(p is q for q in published)}
            self.counts.failed += len(written) - len(kept)
            if kept:
                self._works()
        except NoRoom as error:
            self._failed("write", error)
            self.counts.failed += len(batch)
        finally:
            self.counts.puts += len(kept)
            for job in batch:
                job.done.set_result(id(job) in kept)

    def _written(self, job: _Put) -> Publication | None:
        need = room_for(len(job.body))
        try:
            if not self.claim(need):
                return None
        except NoRoom as error:
            self._failed("index", error)
            self.counts.failed += 1
            return None
        try:
            temp = self.ledger.tree.write_temp(job.body, job.extension)
        except OSError as error:
            self.ledger.unclaim(need)
            self._failed("write", error)
            self.counts.failed += 1
            return None
        return Publication(job.place, temp, need, job.pinned)

    def _open(self) -> None:
        try:
            self.ledger.tree.prepare()
            self.ledger.open()
            self._swept()
        except (NoRoom, OSError) as error:
            self._failed("open", error)

    def _record_uses(self) -> None:
        uses, self.uses = self.uses, {}
        if uses:
            self.upkeep.record(uses)

        pinned, self.pinned = self.pinned, set()
        if pinned:
            self.pins.pin(pinned)

    def _renew_leases(self) -> None:
        """Of what is being read, well before they end."""
        now, held = self.ledger.now(), list(self.held)
        soon = now + max(self._lease_s / 2, 2 * self._tend_s)
        due = {path: now + self._lease_s for path in held if self._leased.get(path, 0.0) < soon}
        if due:
            self.upkeep.lease(due)
        self._leased = {path: due.get(path, self._leased.get(path, 0.0)) for path in held}

    def _tell(self) -> None:
        """Add to the metrics what was counted since: look-ups are too many to be told each."""
        now, told = replace(self.counts), self._told
        self._told = now
        name = self._name
        for outcome in ("hit", "miss"):
            count = now.hits - told.hits if outcome == "hit" else now.misses - told.misses
            metrics.CACHE_LOOKUPS.labels(cache=name, outcome=outcome).inc(count)
        metrics.CACHE_PUTS.labels(cache=name).inc(now.puts - told.puts)
        refused = metrics.CACHE_REFUSED
        refused.labels(cache=name, why="room").inc(now.refused - told.refused)
        refused.labels(cache=name, why="size").inc(now.oversized - told.oversized)
        refused.labels(cache=name, why="failed").inc(now.failed - told.failed)

    def _reconcile_missed(self) -> None:
        missed, self.missed = self.missed, set()
        gone, self.ledger.vanished = self.ledger.vanished, 0
        if missed:
            gone += self.upkeep.reconcile(missed)
        if gone:
            fields = {"cache": self._name, "files": gone}
            log.warning("cached files were removed by somebody else", extra=fields)

    def _sweep_dead(self) -> bool:
        """True if room came free; not more often than once a second."""
        if time.monotonic() < self._swept_at + _SWEEP_PAUSE_S:
            return False
        self._swept_at = time.monotonic()
        return self._swept().bytes > 0

    def _swept(self) -> Swept:
        swept = self.upkeep.sweep()
        if swept.holders or swept.temporaries:
            fields = {"dead": swept.holders, "temporaries": swept.temporaries}
            log.info("cache swept", extra={"cache": self._name, **fields})
        return swept

    def _no_room(self, need: int) -> None:
        """Say so, but not for every file."""
        now = time.monotonic()
        if now < self._said_full_at + _SAID_EVERY_S:
            return
        self._said_full_at = now
        free, limits = self.ledger.tree.free_bytes(), self.ledger.limits
        fields = {"bytes": need, "free": free, "quota": limits.quota, "floor": limits.floor}
        log.warning("cache has no room", extra={"cache": self._name, **fields})

    def _step(self) -> None:
        walk = self._walk
        if walk is None:
            return
        try:
            next(walk)
        except StopIteration:
            self._walk = None
            log.info("cache index rebuilt", extra={"cache": self._name})
        except (NoRoom, OSError) as error:
            self._walk = None
            self._failed("rebuild", error)

    def _failed(self, what: str, error: BaseException) -> None:
        """Log the first of a row of like failures."""
        cause = error.__cause__ or error
        if is_full(cause):
            with suppress(NoRoom):
                self.ledger.relieve()
        trouble = f"{what}: {cause!r}"
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("cache cannot be written", extra={"cache": self._name, "error": trouble})

    def _works(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("cache written again", extra={"cache": self._name})


def _nothing() -> None:
    """A job that only wakes the thread."""


def _settle(done: Future[R], work: Callable[[], R]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # handed to whoever waits for it
        done.set_exception(error)
