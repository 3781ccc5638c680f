"""Every instrument, named and documented once; `docs/metrics.md` is written from INSTRUMENTS and a
test compares them.

Counters and gauges live in a registry of our own, never the library's default one. With
PROMETHEUS_MULTIPROC_DIR in the environment when this module is first imported (the supervisor sets
it for its children), values live in memory-mapped files, one per process, and `render_metrics` sums
them (docs/adr/0008-multi-process-metrics.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics import MetricWrapperBase

PREFIX = "orchestrator_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGISTRY = CollectorRegistry()
LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)
AGE_BUCKETS_S = (1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000)
COPY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One line of docs/metrics.md."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_documented: list[Instrument] = []


def _counter(name: str, text: str, *labels: str) -> Counter:
    _documented.append(Instrument(f"{PREFIX}{name}_total", "counter", labels, text))
    return Counter(PREFIX + name, text, labels, registry=REGISTRY)


def _gauge(
    name: str,
    text: str,
    *labels: str,
    over: Literal["livesum", "livemax", "livemostrecent"] = "livesum",
) -> Gauge:
    """`over` says what the figure of several processes is: their sum, the largest, or whichever was
    set last.
    """
    _documented.append(Instrument(PREFIX + name, "gauge", labels, text))
    return Gauge(PREFIX + name, text, labels, registry=REGISTRY, multiprocess_mode=over)


def _histogram(
    name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_S
) -> Histogram:
    _documented.append(Instrument(PREFIX + name, "histogram", labels, text))
    return Histogram(PREFIX + name, text, labels, registry=REGISTRY, buckets=buckets)


# --- answers --------------------------------------------------------------------------------------

REQUESTS = _counter(
    "requests",
    "Answers by tier (X-Served-From), status and request class.",
    "tier",
    "status",
    "request_class",
)
REQUEST_SECONDS = _histogram(
    "request_seconds",
    "Time from a request's complete head to its answer handed to the kernel; "
    "answers from memory are counted in the first bucket.",
    "tier",
    "request_class",
)
RESPONSE_BYTES = _counter("response_bytes", "Body bytes sent, by tier.", "tier")
REQUESTS_IN_PROGRESS = _gauge("requests_in_progress", "Requests being handled now.")
CONNECTIONS = _gauge("connections", "Open connections to the public port.")
REFUSED = _counter(
    "refused",
    "Work refused to protect work in hand: requests or connections over their bound.",
    "what",
)
PROTOCOL_ERRORS = _counter(
    "protocol_errors", "Broken HTTP messages answered below the application, by status.", "status"
)
ACCESS_LOG_DROPPED = _counter(
    "access_log_dropped", "Access log lines dropped because the disk was slower than we are."
)

# --- tiers ----------------------------------------------------------------------------------------

TIER_LOOKUPS = _counter(
    "tier_lookups",
    "Tries of each tier: outcome is hit or miss (failures are in tier_failures).",
    "tier",
    "outcome",
)
TIER_FAILURES = _counter(
    "tier_failures", "A tier failed and the next one was tried, by kind of error.", "tier", "error"
)
RENDERS = _counter(
    "renders", "Pictures cut by the image server: one per product, however many asked."
)
DECODES = _counter("decodes", "Decodes begun by the built-in imaging, by kind of source.", "kind")
DECODE_FAILURES = _counter(
    "decode_failures", "Decodes that ended badly: broken, timeout, crash, memory.", "reason"
)
UPSTREAM_REFUSED = _counter(
    "upstream_refused",
    "Answers of an image server that did not verify and were not used.",
    "reason",
)
UNCACHED = _counter(
    "uncached", "Answers sent but not kept, because no room could be reserved.", "cache"
)

# --- orchestration and single-flight --------------------------------------------------------------

SOURCE_COPIES = _counter("source_copies", "Sources brought to fast disk.")
SOURCE_COPY_BYTES = _counter("source_copy_bytes", "Bytes of sources brought to fast disk.")
SOURCE_COPY_SECONDS = _histogram(
    "source_copy_seconds", "Time to bring one source to fast disk.", buckets=COPY_BUCKETS_S
)
SOURCE_COPY_FAILURES = _counter(
    "source_copy_failures", "Copies of sources that failed, by kind of error.", "error"
)
SOURCES_NOT_COPIED = _counter(
    "sources_not_copied",
    "Pictures cut from a source that is not on fast disk: why not (no_room, never: not to be "
    "orchestrated) and how they were answered all the same (range: from the parts of it that are "
    "needed, memory: from the whole, special pool, refused: 503).",
    "why",
    "how",
)
SOURCE_RANGE_BYTES = _counter(
    "source_range_bytes", "Bytes fetched in ranges of sources that are not on fast disk."
)
FLIGHTS = _counter(
    "flights",
    "Calls of single-flight by role: led the work, joined another's, was told a remembered "
    "failure.",
    "role",
)
WARM_UPS_DROPPED = _counter(
    "warm_ups_dropped", "Orchestrate-on-info hints dropped because their queue was full."
)

# --- caches ---------------------------------------------------------------------------------------

CACHE_BYTES = _gauge(
    "cache_bytes", "Bytes a disk cache uses, reservations included.", "cache", over="livemostrecent"
)
CACHE_FILES = _gauge("cache_files", "Files in a disk cache.", "cache", over="livemostrecent")
CACHE_LOOKUPS = _counter(
    "cache_lookups", "Look-ups in a disk cache: outcome is hit or miss.", "cache", "outcome"
)
CACHE_PUTS = _counter("cache_puts", "Files written into a disk cache.", "cache")
CACHE_REFUSED = _counter(
    "cache_refused",
    "Files not kept, their answers sent all the same: no room could be made (room), too large or "
    "too much waiting (size), disk or index could not be written (failed).",
    "cache",
    "why",
)
CACHE_EVICTIONS = _counter(
    "cache_evictions",
    "Files that left a disk cache: for room (quota, floor of the disk's free space, share), "
    "because a later version replaced them (outdated), because their asset, a prefix of ids or the "
    "whole cache was dropped (asset, prefix, cleared), or they could not be trusted (damaged).",
    "cache",
    "reason",
)
CACHE_EVICTED_BYTES = _counter(
    "cache_evicted_bytes", "Bytes of the files that left, by the same reasons.", "cache", "reason"
)
CACHE_EVICTION_AGE = _histogram(
    "cache_eviction_age_seconds",
    "Seconds between the last use of a file and its eviction for room.",
    "cache",
    buckets=AGE_BUCKETS_S,
)
MEMORY_BYTES = _gauge("memory_bytes", "Bytes of the hot memory tier.")
MEMORY_ENTRIES = _gauge("memory_entries", "Entries of the hot memory tier.")
MEMORY_EVICTIONS = _counter("memory_evictions", "Entries the hot memory tier evicted for room.")
MEMORY_DROPS = _counter(
    "memory_drops", "Entries the hot memory tier dropped because their asset changed."
)

# --- imaging pool ---------------------------------------------------------------------------------

POOL_IN_USE = _gauge("pool_in_use", "Pictures being cut or waiting for a worker.", "pool")
OVERLOADS = _counter("overloads", "Work refused by a full pool or queue.", "pool")

# --- catalogue ------------------------------------------------------------------------------------

LISTENER_LOST = _counter(
    "listener_lost", "Times the LISTEN connection was lost; each empties the hot tier."
)
LISTENER_CONNECTED = _gauge("listener_connected", "Processes whose LISTEN connection stands.")
STALE_ANSWERS = _counter(
    "stale_answers", "Answers from a snapshot that could not be checked (database away)."
)

# --- ingest ---------------------------------------------------------------------------------------

INGESTS = _counter(
    "ingests",
    "Assets taken in, by outcome: registered, completed, unchanged, failed.",
    "outcome",
)
INGEST_FAULTS = _counter(
    "ingest_faults",
    "Ingests that failed, by stage (request, fetch, probe, convert, thumbnails, store, record) and "
    "code of the fault.",
    "stage",
    "code",
)
INGEST_SECONDS = _histogram(
    "ingest_seconds", "Time to make one asset tile-ready.", buckets=COPY_BUCKETS_S
)
INGEST_STAGE_SECONDS = _histogram(
    "ingest_stage_seconds", "Time one stage of an ingest took.", "stage", buckets=COPY_BUCKETS_S
)
INGEST_BYTES = _counter("ingest_bytes", "Bytes of originals taken in.")
INGEST_PIXELS = _counter("ingest_pixels", "Pixels of assets made tile-ready.")
INGEST_STORED_BYTES = _counter("ingest_stored_bytes", "Bytes written to the store for assets.")
OBJECTS_REMOVED = _counter(
    "objects_removed", "Objects removed from the store because no asset wanted them any more."
)
SWEPT = _counter(
    "swept",
    "Leftovers dealt with by the sweepers: stuck ingests and conversions (requeued or failed), "
    "objects of dead "
    "ingests, expired reservations, scratch of dead workers, old attempts.",
    "what",
)
AFTER_INGEST = _counter(
    "after_ingest",
    "What follows an ingest (warm_up, purge, webhook), by outcome: done, failed, dropped.",
    "what",
    "outcome",
)
AFTER_INGEST_WAITING = _gauge(
    "after_ingest_waiting", "Assets whose warm-up, purge and webhook wait to be done."
)

# --- jobs -----------------------------------------------------------------------------------------

JOBS = _gauge(
    "jobs",
    "Jobs by lane and state: queued, running, failed (dead letters).",
    "lane",
    "state",
    over="livemostrecent",
)
JOB_QUEUE_AGE = _gauge(
    "job_queue_age_seconds",
    "How long the job that is due longest has been waiting, by lane.",
    "lane",
    over="livemostrecent",
)
JOBS_RUNNING = _gauge("jobs_running", "Jobs being done by this instance.")
JOB_SECONDS = _histogram(
    "job_seconds", "Time of one attempt at a job, by kind.", "kind", buckets=COPY_BUCKETS_S
)
JOBS_SETTLED = _counter(
    "jobs_settled", "Jobs that ended, by kind and outcome: done, failed.", "kind", "outcome"
)
JOB_RETRIES = _counter(
    "job_retries", "Jobs put off to be tried again, by code of the fault.", "code"
)
JOB_DEAD_LETTERS = _counter(
    "job_dead_letters", "Jobs given up for good, by code of the fault.", "code"
)
JOBS_RECOVERED = _counter("jobs_recovered", "Jobs taken from workers that fell silent.")
JOBS_LOST = _counter("jobs_lost", "Claims of ours that had been taken away when they ended.")
JOB_QUEUE_ERRORS = _counter("job_queue_errors", "Times the queue or the database did not answer.")

INSTRUMENTS: tuple[Instrument, ...] = tuple(_documented)


def render_metrics(folder: Path | None = None) -> bytes:
    """All figures in Prometheus' text format; of every process sharing `folder`, or of this process
    alone.
    """
    if folder is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_process(pid: int, folder: Path) -> None:
    """Stop counting a dead process's gauges; its counters stay, so that no total ever falls."""
    multiprocess.mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call]


def count_fast(count: int, body_bytes: int, request_class: str, status: int) -> None:
    """Add `count` answers from memory at once; their time goes to the first bucket, which is wider
    than it ever is.
    """
    REQUESTS.labels("memory", str(status), request_class).inc(count)
    RESPONSE_BYTES.labels("memory").inc(body_bytes)
    _observe_many(REQUEST_SECONDS.labels("memory", request_class), count)


def _observe_many(histogram: Histogram, count: int) -> None:
    # The library can only observe one value at a time: at 100,000 a second that would cost a fifth
    # of a core.
    histogram._buckets[0].inc(count)


def wrapped() -> list[MetricWrapperBase]:
    """The instruments themselves, for the test that compares them with INSTRUMENTS."""
    return [value for value in globals().values() if isinstance(value, MetricWrapperBase)]
