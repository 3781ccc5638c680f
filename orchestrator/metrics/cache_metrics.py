"""The disk caches and the hot tier."""

from orchestrator.instruments import AGE_BUCKETS_S, counter, gauge, histogram

CACHE_BYTES = gauge(
    "cache_bytes",
    "Bytes used by a disk cache, including reservations.",
    "cache",
    over="livemostrecent",
)
CACHE_QUOTA = gauge(
    "cache_quota_bytes", "Quota of a disk cache; 0 if it has none.", "cache", over="livemostrecent"
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
