"""Ingests, uploads and events of buckets; what is stored, removed and swept."""

from orchestrator.instruments import COPY_BUCKETS_S, counter, histogram

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
INGEST_STORED_BYTES = counter(
    "ingest_stored_bytes", "Bytes that ingests wrote to the object store."
)
UPLOADS = counter(
    "uploads",
    "Uploaded pictures by what was done: received, published, cropped, deleted, expired, formats "
    "(made in the background).",
    "outcome",
)
PYRAMID_EVENTS = counter("pyramid_events", "Events of buckets, by outcome.", "outcome")
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
