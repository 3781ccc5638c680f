"""The image servers: nodes of a pool, and the pools of the built-in one."""

from orchestrator.instruments import counter, gauge

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
POOL_IN_USE = gauge(
    "pool_in_use", "Calls of the built-in image server that run or wait for a worker.", "pool"
)
OVERLOADS = counter("overloads", "Calls refused because a pool or queue was full.", "pool")
