"""Every metric, declared once with its help text. `docs/metrics.md` is written from INSTRUMENTS,
and a test compares the two.

All metrics are in a registry of their own (`instruments.py`), never in that of the library. If
PROMETHEUS_MULTIPROC_DIR is in the environment when this module is first imported (the supervisor
sets it for its children), values are in files of each process (`metric_files.py`), and
`render_metrics` sums them (docs/adr/0008-multi-process-metrics.md).
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest, multiprocess, values
from prometheus_client.metrics import MetricWrapperBase

from orchestrator.instruments import (
    AGE_BUCKETS_S,
    COPY_BUCKETS_S,
    REGISTRY,
    Instrument,
    counter,
    documented,
    gauge,
    histogram,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# --- requests -------------------------------------------------------------------------------------

REQUESTS = counter(
    "requests",
    "Responses by tier (X-Served-From), status and request class.",
    "tier",
    "status",
    "request_class",
)
REQUEST_SECONDS = histogram(
    "request_seconds",
    "Seconds from the complete head of a request until the response is handed to the kernel. "
    "Responses from the hot tier are counted in the first bucket.",
    "tier",
    "request_class",
)
RESPONSE_BYTES = counter("response_bytes", "Bytes of response bodies, by tier.", "tier")
REQUESTS_IN_PROGRESS = gauge("requests_in_progress", "Requests in progress.")
CONNECTIONS = gauge("connections", "Open connections to the public port.")
REFUSED = counter(
    "refused",
    "Requests and connections refused because their limit was reached (server.max_requests, "
    "server.max_connections).",
    "what",
)
PROTOCOL_ERRORS = counter(
    "protocol_errors",
    "Invalid HTTP messages, answered by the protocol itself, by status.",
    "status",
)
ACCESS_LOG_DROPPED = counter(
    "access_log_dropped", "Lines of the access log dropped because the disk was too slow."
)

# --- tiers ----------------------------------------------------------------------------------------

TIER_LOOKUPS = counter(
    "tier_lookups",
    "Lookups in each tier by outcome: hit or miss. Failures are in tier_failures.",
    "tier",
    "outcome",
)
TIER_FAILURES = counter(
    "tier_failures",
    "Failures of a tier after which the next tier was tried, by kind of error.",
    "tier",
    "error",
)
RENDERS = counter(
    "renders", "Images cut by the image server. Concurrent requests for the same image count once."
)
DECODES = counter(
    "decodes", "Decodes started by the built-in image server, by kind of source.", "kind"
)
DECODE_FAILURES = counter(
    "decode_failures",
    "Decodes by the built-in image server that failed, by kind of error.",
    "reason",
)
UPSTREAM_REFUSED = counter(
    "upstream_refused", "Responses of an image server that were not used.", "reason"
)
IMAGE_SERVER_RETRIES = counter(
    "image_server_retries", "Requests to an image server that were tried on another node."
)
IMAGE_SERVER_HEDGES = counter(
    "image_server_hedges", "Requests also sent to another node, because the first was slow."
)
IMAGE_SERVER_PURGES = counter(
    "image_server_purges", "Purges of caches of image servers: done or failed.", "outcome"
)
IMAGE_SERVER_FAILURES = counter(
    "image_server_failures",
    "Requests and canaries that an image server did not answer, or answered with what could not be "
    "used.",
    "pool",
    "node",
    "reason",
)
IMAGE_SERVER_LAST_FAILURE = gauge(
    "image_server_last_failure_timestamp_seconds",
    "When an image server last failed for this reason (Unix time).",
    "pool",
    "node",
    "reason",
    over="livemax",
)
IMAGE_SERVER_IN_FLIGHT = gauge(
    "image_server_in_flight", "Requests that an image server is working on.", "pool", "node"
)
IMAGE_SERVER_LATENCY = gauge(
    "image_server_latency_seconds",
    "Seconds in which an image server answered 95 of its last 100 requests (the mean as long as "
    "there are fewer than 20); of the process where it is greatest.",
    "pool",
    "node",
    over="livemax",
)
IMAGE_SERVER_OPEN = gauge(
    "image_server_breaker_open",
    "Processes that send no requests to an image server, because it does not answer.",
    "pool",
    "node",
)
IMAGE_SERVER_SLOW = gauge(
    "image_server_slow",
    "Processes that use an image server only if there is no other one, because its canary is late.",
    "pool",
    "node",
)
UNSTORED = counter(
    "unstored",
    "Responses that cost less to make than to store on disk: stored_tile (of a pyramid) or cheap.",
    "why",
)
UNCACHED = counter(
    "uncached", "Responses sent but not cached, because no space could be reserved.", "cache"
)

# --- orchestration and single-flight --------------------------------------------------------------

SOURCE_COPIES = counter("source_copies", "Sources copied to fast disk.")
SOURCE_COPY_BYTES = counter("source_copy_bytes", "Bytes of sources copied to fast disk.")
SOURCE_COPY_SECONDS = histogram(
    "source_copy_seconds", "Seconds to copy one source to fast disk.", buckets=COPY_BUCKETS_S
)
SOURCE_COPY_FAILURES = counter(
    "source_copy_failures", "Copies of sources to fast disk that failed, by kind of error.", "error"
)
SOURCES_NOT_COPIED = counter(
    "sources_not_copied",
    "Requests answered from a source that is not on fast disk. `why` is no_room, cold (while it is "
    "copied), or never if a rule forbids it. `how` is range (from byte ranges of the source), "
    "memory (from all of it in memory), special (by an image server that reads the object store) "
    "or refused (503).",
    "why",
    "how",
)
SOURCE_RANGE_BYTES = counter(
    "source_range_bytes", "Bytes fetched as ranges of sources that are not on fast disk."
)
FLIGHTS = counter(
    "flights",
    "Calls of single-flight by role: led (did the work), joined (shared the outcome of another "
    "call) or repeated (got a remembered failure).",
    "role",
)
WARM_UPS_DROPPED = counter(
    "warm_ups_dropped",
    "Orchestrations on an info request dropped because the queue was full (delivery.warm_queue).",
)

# --- processes ------------------------------------------------------------------------------------

EVENT_LOOP_DELAY = histogram(
    "event_loop_delay_seconds", "Seconds by which timers of a serve process were late."
)
LOOP_FAILURES = counter(
    "loop_failures",
    "Failures of background loops (docs/operations.md). After each one the loop is started again.",
    "loop",
)
FOLDER_UNREADABLE = gauge(
    "folder_unreadable",
    "1 while the served folder cannot be read, else 0.",
    over="livemostrecent",
)

# --- caches ---------------------------------------------------------------------------------------

CACHE_BYTES = gauge(
    "cache_bytes",
    "Bytes used by a disk cache, including reservations.",
    "cache",
    over="livemostrecent",
)
CACHE_FILES = gauge("cache_files", "Files in a disk cache.", "cache", over="livemostrecent")
CACHE_LOOKUPS = counter(
    "cache_lookups", "Lookups in a disk cache by outcome: hit or miss.", "cache", "outcome"
)
CACHE_PUTS = counter("cache_puts", "Files written into a disk cache.", "cache")
CACHE_REFUSED = counter(
    "cache_refused",
    "Files not cached, although the response was sent: no space could be freed (room), the file is "
    "too large or too many writes wait (size), or disk or index could not be written (failed).",
    "cache",
    "why",
)
CACHE_EVICTIONS = counter(
    "cache_evictions",
    "Files removed from a disk cache, by reason: to free space (quota, floor, share), replaced by "
    "a later version (outdated), their asset, a prefix of ids or the whole cache was cleared "
    "(asset, prefix, cleared), or their content is not reliable (damaged).",
    "cache",
    "reason",
)
CACHE_EVICTED_BYTES = counter(
    "cache_evicted_bytes",
    "Bytes of the files removed from a disk cache, by the same reasons.",
    "cache",
    "reason",
)
CACHE_EVICTION_AGE = histogram(
    "cache_eviction_age_seconds",
    "Seconds between the last use of a file and its eviction to free space.",
    "cache",
    buckets=AGE_BUCKETS_S,
)
MEMORY_BYTES = gauge("memory_bytes", "Bytes in the hot tier.")
MEMORY_ENTRIES = gauge("memory_entries", "Responses in the hot tier.")
MEMORY_EVICTIONS = counter("memory_evictions", "Responses evicted from the hot tier to free space.")
MEMORY_DROPS = counter(
    "memory_drops", "Responses dropped from the hot tier because their asset changed."
)

# --- imaging pool ---------------------------------------------------------------------------------

POOL_IN_USE = gauge(
    "pool_in_use", "Calls of the built-in image server that run or wait for a worker.", "pool"
)
OVERLOADS = counter("overloads", "Calls refused because a pool or queue was full.", "pool")

# --- catalogue ------------------------------------------------------------------------------------

LISTENER_LOST = counter(
    "listener_lost", "Losses of the LISTEN connection. Each of them empties the hot tier."
)
LISTENER_CONNECTED = gauge("listener_connected", "Processes whose LISTEN connection is open.")
BREAKER_OPEN = gauge(
    "database_breaker_open",
    "Processes that do not send statements to the database, because it does not answer.",
)
BREAKER_OPENED = counter(
    "database_breaker_opened", "How often a process found that the database does not answer."
)
STALE_ANSWERS = counter(
    "stale_answers", "Responses from an expired snapshot because the database did not answer."
)

ICO_RESULTS = counter(
    "ico_results",
    "Results of /ico by what was done beside the originals: stored, deleted, unrecorded (the "
    "database did not answer).",
    "outcome",
)

UPLOADS = counter(
    "uploads",
    "Uploaded pictures by what was done: received, published, cropped, deleted, expired, formats "
    "(made in the background).",
    "outcome",
)

# --- ingest ---------------------------------------------------------------------------------------

INGESTS = counter(
    "ingests",
    "Ingests by outcome: registered, completed, unchanged, failed.",
    "outcome",
)
INGEST_FAULTS = counter(
    "ingest_faults",
    "Failed ingests, by stage (request, fetch, probe, convert, thumbnails, store, record) and code "
    "of the fault.",
    "stage",
    "code",
)
INGEST_SECONDS = histogram(
    "ingest_seconds", "Seconds of one ingest or conversion.", buckets=COPY_BUCKETS_S
)
INGEST_STAGE_SECONDS = histogram(
    "ingest_stage_seconds", "Seconds of one stage of an ingest.", "stage", buckets=COPY_BUCKETS_S
)
INGEST_BYTES = counter("ingest_bytes", "Bytes of origins that were ingested.")
INGEST_PIXELS = counter("ingest_pixels", "Pixels of images that were ingested.")
PYRAMID_EVENTS = counter("pyramid_events", "Events of buckets, by outcome.", "outcome")
INGEST_STORED_BYTES = counter(
    "ingest_stored_bytes", "Bytes that ingests wrote to the object store."
)
OBJECTS_REMOVED = counter(
    "objects_removed", "Objects removed from the object store because no asset uses them any more."
)
SWEPT = counter(
    "swept",
    "Items corrected or removed by the sweepers: stuck ingests and conversions (requeued or "
    "failed), objects of ingests that did not end, expired reservations, scratch files of workers "
    "that died, old attempts.",
    "what",
)
AFTER_INGEST = counter(
    "after_ingest",
    "Attempts at warm-ups, purges and webhooks after changes, by outcome: done, failed.",
    "what",
    "outcome",
)

# --- jobs -----------------------------------------------------------------------------------------

JOBS = gauge(
    "jobs",
    "Jobs by lane and state: queued, running, failed (dead letters).",
    "lane",
    "state",
    over="livemostrecent",
)
JOB_QUEUE_AGE = gauge(
    "job_queue_age_seconds",
    "Seconds that the job which is due longest has waited, by lane.",
    "lane",
    over="livemostrecent",
)
JOBS_RUNNING = gauge("jobs_running", "Jobs that the workers run now.")
JOB_SECONDS = histogram(
    "job_seconds", "Seconds of one attempt at a job, by kind.", "kind", buckets=COPY_BUCKETS_S
)
JOBS_SETTLED = counter(
    "jobs_settled",
    "Ended jobs by kind and outcome: done, failed; and jobs of this process that a request ended "
    "while they ran: cancelled, superseded.",
    "kind",
    "outcome",
)
JOB_RETRIES = counter(
    "job_retries", "Attempts that failed and are retried later, by code of the fault.", "code"
)
JOB_DEAD_LETTERS = counter(
    "job_dead_letters", "Jobs that failed and are not retried, by code of the fault.", "code"
)
JOBS_RECOVERED = counter("jobs_recovered", "Jobs taken from workers whose heartbeats stopped.")
JOBS_LOST = counter(
    "jobs_lost", "Jobs that a worker had lost to another one when it finished them."
)
JOB_QUEUE_ERRORS = counter(
    "job_queue_errors", "Calls of the queue or the database that were not answered."
)

INSTRUMENTS: tuple[Instrument, ...] = tuple(documented)


def render_metrics(folder: Path | None = None) -> bytes:
    """All metrics in the text format of Prometheus: of all processes of this installation, or of
    those that share `folder`.
    """
    if folder is None and not values.ValueClass._multiprocess:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    shared = None if folder is None else str(folder)  # None: the folder in the environment
    multiprocess.MultiProcessCollector(registry, path=shared)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def count_fast(
    count: int, body_bytes: int, request_class: str, status: int, tier: str = "memory"
) -> None:
    """Count `count` responses of the hot lane at once. Their time goes to the first bucket: none
    takes longer than its bound.
    """
    REQUESTS.labels(tier, str(status), request_class).inc(count)
    RESPONSE_BYTES.labels(tier).inc(body_bytes)
    _observe_many(REQUEST_SECONDS.labels(tier, request_class), count)


def _observe_many(histogram: Histogram, count: int) -> None:
    # The library observes one value at a time. At 100,000 a second that costs a fifth of a core.
    histogram._buckets[0].inc(count)


def all_metrics() -> list[MetricWrapperBase]:
    """The metric objects, for the test that compares them with INSTRUMENTS."""
    return [value for value in globals().values() if isinstance(value, MetricWrapperBase)]
