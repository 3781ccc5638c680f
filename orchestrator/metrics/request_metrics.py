"""Responses to clients: by tier and status, in time and bytes; what the ports refuse."""

from orchestrator.instruments import counter, gauge, histogram

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
