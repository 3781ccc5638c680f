"""The queue of jobs and the workers."""

from orchestrator.instruments import COPY_BUCKETS_S, counter, gauge, histogram

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
