"""The processes: event loops, background loops, and their connection to the database."""

from orchestrator.instruments import BLOCKED_BUCKETS_S, counter, gauge, histogram

BUILD_INFO = gauge(
    "build_info", "1, with the version of the product.", "version", over="livemostrecent"
)
EVENT_LOOP_DELAY = histogram(
    "event_loop_delay_seconds", "Seconds by which timers of a process were late."
)
EVENT_LOOP_BLOCKED = histogram(
    "event_loop_blocked_seconds",
    "Seconds of processor time that the event loop used while a timer was due: one long task, or "
    "many requests at once, delayed all others. Time in which the machine gave the process no "
    "processor is not counted.",
    buckets=BLOCKED_BUCKETS_S,
)
EVENT_LOOP_TASKS = gauge(
    "event_loop_tasks",
    "Tasks of the event loops of all processes: of connections, requests, jobs and background "
    "loops. After a load the number returns to that of an idle service.",
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
