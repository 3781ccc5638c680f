"""How an answer is made: tiers, single-flight, sources on fast disk, and results of `/ico`."""

from orchestrator.instruments import COPY_BUCKETS_S, counter, histogram

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
UNSTORED = counter(
    "unstored",
    "Responses that cost less to make than to store on disk: stored_tile (of a pyramid) or cheap.",
    "why",
)
UNCACHED = counter(
    "uncached", "Responses sent but not cached, because no space could be reserved.", "cache"
)
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
PROMOTIONS = counter(
    "promotions",
    "Pyramids of slow sources by outcome: made, no_room (in the source cache), failed, changed "
    "(the asset changed meanwhile) or dropped (too many waited, or no core was idle in time).",
    "outcome",
)
PROMOTION_SECONDS = histogram(
    "promotion_seconds",
    "Seconds to make the pyramid of a slow source, with the waiting for the processor.",
    buckets=COPY_BUCKETS_S,
)
PROMOTION_BYTES = counter("promotion_bytes", "Bytes of the pyramids made of slow sources.")
ICO_RESULTS = counter(
    "ico_results",
    "Results of /ico by what was done beside the originals: stored, deleted, unrecorded (the "
    "database did not answer).",
    "outcome",
)
