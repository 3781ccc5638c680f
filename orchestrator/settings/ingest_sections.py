"""The settings of ingest, of its jobs, and of the management API."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from orchestrator.settings.field_types import Bytes, Count, Seconds, Section


def _check_webhook_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        base64.b64decode(text.partition("whsec_")[2], validate=True)
    except ValueError as error:
        raise ValueError("must be base64 after whsec_") from error
    return value


class Ingest(Section):
    """How images are fetched, converted and published."""

    optimisation_policy: str = "fast-lossy"
    """Optimisation policy of images ingested by command, API or queue: `fast-lossy`, `fast-higher`,
    `max-quality` (JPEG2000), `fastest` (pyramid TIFF), `use-original`, or a stored global policy.
    """
    folder: str = ""
    """Folder whose images `serve` registers when it starts; `serve FOLDER` sets it."""
    folder_policy: str = "fastest"
    """Optimisation policy of the images of that folder."""
    thumbnail_policy: list[int | str] = [1000, 400, 200, 100]
    """Thumbnails made ahead: longest edges in pixels, or IIIF sizes such as `"!400,400"`."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Images converted at once; 0 means one for each core."""
    allow_private_addresses: bool = False
    """Allow origins on loopback addresses and private networks."""
    max_bytes: Bytes = 4 * 1000**3
    """Largest origin that is fetched."""
    connect_timeout_s: Seconds = 10
    """Time in which a connection to an origin must be established."""
    read_timeout_s: Seconds = 30
    """Longest pause between two bytes from an origin."""
    min_rate: Bytes = 1_000
    """Lowest acceptable rate of an origin in bytes for each second, over `rate_window_s`. A slower
    one is given up with the code origin_timeout; 0 accepts any rate.
    """
    rate_window_s: Seconds = 30
    """Time over which the rate of an origin is measured."""
    total_timeout_s: Seconds = 900
    """Time in which an origin must be fetched completely."""
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5
    """Redirects that are followed. The target of each is checked like the first address."""
    strategies_ttl_s: Seconds = 5
    """Time after which a change of origin strategies by another process is in force."""
    credentials_keys: SecretStr = SecretStr("")
    """Keys that encrypt the credentials of origin strategies, newest first, separated by commas
    (`orchestrator origins make-key` prints one). When empty, one is made at the first start and
    kept below the data directory. Hosts that share a database need the same keys.
    """
    credentials_ttl_s: Seconds = 60
    """Time after which linked credentials are read again. They are also read again when an origin
    refuses a login.
    """
    credentials_links: list[str] = []
    """Links to credentials that are followed, as patterns of `s3://bucket/key`; `{customer}` stands
    for the number of the customer: `s3://secrets/{customer}/*`. When empty, none is followed. They
    are read with this machine's credentials.
    """
    s3_endpoint: str = ""
    """Address of the S3-compatible server that holds the origins in buckets; when empty, Amazon's.
    """
    s3_region: str = "us-east-1"
    """Region of origins in buckets that name none."""
    s3_access_key: SecretStr = SecretStr("")
    """Access key id for `s3-ambient` origins and linked credentials; when empty, the credentials of
    the machine's role are used.
    """
    s3_secret_key: SecretStr = SecretStr("")
    """Secret access key that belongs to `s3_access_key`."""
    s3_ambient_buckets: list[str] = []
    """Buckets that `s3-ambient` strategies may read with this machine's credentials, as patterns of
    names; `{customer}` stands for the number of the customer: `digitised-{customer}`. When empty,
    none is read. The bucket of the object store is never read as an origin.
    """
    sftp_known_hosts: str = ""
    """Path of a known_hosts file, for SFTP origins whose strategy names no host key. Without a key
    from either, they are refused.
    """
    remove_after_s: Seconds = 60
    """An object that no asset uses any more is removed from the store after this time. Requests
    that still use the version before have this time to finish.
    """
    stuck_after_s: Seconds = 900
    """An ingest without a running worker is failed, or submitted again as a job, this long after it
    was requested. What it had written is removed.
    """
    keep_attempts_days: Annotated[float, Field(gt=0)] = 90
    """How long the history of ingest attempts is kept."""
    keep_activities_days: Annotated[float, Field(gt=0)] = 90
    """How long the activity streams (`/iiif-activity`) have the deletion of an asset, and changes
    of an asset that changed again since. Clients that read a stream less often may miss a deletion.
    """
    sweep_every_s: Annotated[float, Field(gt=0)] = 30
    """Interval at which one host removes unused objects, stuck ingests and expired reservations."""
    warm_up: bool = False
    """After an ingest, copy the source to the fast disk of this host."""
    warm_url: str = ""
    """After an ingest, GET this address. `{id}` stands for the percent-encoded id:
    `https://images.example.org/iiif/3/{id}/info.json`.
    """
    purge_url: str = ""
    """After a change or deletion of an asset, request this address, so that the CDN drops its
    responses. The surrogate key of the asset (`asset-...`, as in responses) is sent in the headers
    Surrogate-Key, Cache-Tag and xkey-purge, and as JSON.
    """
    purge_method: Literal["POST", "PURGE"] = "POST"
    """Method of the purge request."""
    purge_headers: dict[str, SecretStr] = {}
    """Headers of the purge request, such as the API token of the CDN."""
    webhook_url: str = ""
    """After an ingest, successful or not, and after a deletion, POST a JSON document that describes
    it to this address.
    """
    batch_webhook_url: str = ""
    """When all jobs of a batch have ended, POST a JSON document with its counts to this address."""
    webhook_headers: dict[str, SecretStr] = {}
    """Headers of the requests of both webhooks."""
    webhook_secret: Annotated[SecretStr, AfterValidator(_check_webhook_secret)] = SecretStr("")
    """Signs the requests of both webhooks as Standard Webhooks describes it (headers `webhook-id`,
    `webhook-timestamp`, `webhook-signature`). A text, or `whsec_` and a key in base64. When empty,
    they are not signed.
    """
    after_timeout_s: Annotated[float, Field(gt=0)] = 5
    """Time limit of each attempt at a warm-up, purge or webhook."""
    after_tries: Count = 4
    """Attempts at each warm-up, purge or webhook, with growing pauses. After the last one the job
    is a dead letter.
    """
    file_roots: list[str] = []
    """Folders below which local files may be origins of ingests by API or queue. Commands on this
    machine may read any file.
    """


def _queue_kind(value: object) -> object:
    return "postgresql" if value == "pgqueuer" else value


class Jobs(Section):
    """The job queue and its workers."""

    kind: Annotated[Literal["postgresql", "sqs"], BeforeValidator(_queue_kind)] = "postgresql"
    """How workers learn of new jobs: `postgresql`, by notices of the database, or `sqs`, also by
    messages of SQS, which other systems may send, too. The jobs themselves are always in the
    database. The former value `pgqueuer` means `postgresql`.
    """
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Jobs whose images each instance converts at once; 0 means as many as `ingest.workers`."""
    fetches: Count = 16
    """Jobs that each instance runs besides: their originals are fetched, or wait in scratch space
    to be converted.
    """
    per_customer: Annotated[int, Field(ge=0)] = 0
    """Jobs of one customer that each instance runs at once; 0 means two more than it converts at
    once.
    """
    per_host: Count = 4
    """Jobs in the whole installation that read origins of the same host at once. In an instance
    they share this number with the ingests whose clients wait.
    """
    max_attempts: Count = 5
    """A job that fails this many times becomes a dead letter. `orchestrator jobs retry` runs it
    again.
    """
    retry_first_s: Seconds = 5
    """Delay before the second attempt at a job; four times as long before each further attempt,
    with jitter.
    """
    retry_longest_s: Seconds = 600
    """Longest delay between two attempts."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 10
    """Interval of the heartbeats that a worker records for its running jobs."""
    lease_s: Annotated[float, Field(gt=0)] = 60
    """A worker without a heartbeat for this long loses its jobs to other workers."""
    keep_days: Annotated[float, Field(gt=0)] = 30
    """How long ended jobs and finished batches are kept."""
    sqs_queue: str = ""
    """Name or address of the SQS queue of the normal lane."""
    sqs_priority_queue: str = ""
    """Name or address of the SQS queue of the priority lane."""
    sqs_endpoint: str = ""
    """Address of an SQS-compatible server; when empty, the Amazon endpoint of the region."""
    sqs_region: str = "us-east-1"
    """Region of the queues."""
    sqs_access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    sqs_secret_key: SecretStr = SecretStr("")
    """Secret access key."""


class Api(Section):
    """The management API on the private port."""

    sync_ingests: Count = 8
    """Ingests that run at once while their clients wait for the result; more are answered 503.
    Submit a batch instead. One customer has at most half of them, and at most
    `jobs.per_customer`; at most `jobs.per_host` are from one origin host.
    """
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Most images in one batch."""
    max_body: Bytes = 8_000_000
    """Largest body of a batch request. The limit of all other bodies is 256 KiB."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30
    """Time in which a client must send the body of a request; after that it is answered 408."""
    rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests that the keys of one customer may send in a minute, together; more are answered 429.
    Admin keys have no limit. 0 means no limit.
    """
