"""Settings of the Engine: taking pictures in, its jobs, its API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.field_types import Bytes, Count, Seconds, Section


class Ingest(Section):
    """How pictures are taken in and made tile-ready."""

    optimisation_policy: str = "fast-lossy"
    """Policy of pictures ingested by command, API or queue: `fast-lossy`, `fast-higher`,
    `max-quality` (JPEG2000), `fastest` (pyramid TIFF), `use-original`, or a stored global one.
    """
    folder: str = ""
    """A folder whose pictures `serve` registers when it starts; `serve FOLDER` sets it."""
    folder_policy: str = "fastest"
    """Policy of the pictures of `serve FOLDER`."""
    thumbnail_policy: list[int | str] = [1000, 400, 200, 100]
    """Thumbnails made ahead: longest edges in pixels, or IIIF sizes such as `"!400,400"`."""
    workers: Count = 1
    """Pictures ingested at once."""
    allow_private_addresses: bool = False
    """Fetch originals from loopback and private networks, too."""
    max_bytes: Bytes = 4 * 1000**3
    """Largest original fetched."""
    connect_timeout_s: Seconds = 10
    """A connection to an origin must be established within this."""
    read_timeout_s: Seconds = 30
    """An origin must send something within this."""
    total_timeout_s: Seconds = 900
    """An original must have arrived within this."""
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5
    """Redirects followed; each target is checked like the first."""
    strategies_ttl_s: Seconds = 5
    """Origin strategies changed by another process are in force after this."""
    regex_timeout_s: Seconds = 0.25
    """Processor time in which one regex of a customer's strategies must have tried an origin; it is
    tried once more with four times as much, then it is a fault (origin_config).
    """
    credentials_keys: SecretStr = SecretStr("")
    """Keys that seal the credentials of origin strategies, newest first, separated by commas
    (`orchestrator origins make-key` prints one); when unset, one is made and kept below the data
    directory. Hosts that share a database need the same.
    """
    credentials_ttl_s: Seconds = 60
    """Linked credentials are read again after this, and at once when a login is refused."""
    credentials_links: list[str] = ["s3://*"]
    """Links to credentials that are followed, as patterns of `s3://bucket/key`; `{customer}` stands
    for the customer's number.
    """
    s3_endpoint: str = ""
    """Address of the S3-compatible server of origins in buckets; empty means Amazon's own."""
    s3_region: str = "us-east-1"
    """Region of origins in buckets that do not name one."""
    s3_access_key: SecretStr = SecretStr("")
    """Access key id of `s3-ambient` origins and of linked credentials; empty uses the credentials
    of the machine's role.
    """
    s3_secret_key: SecretStr = SecretStr("")
    """Secret access key to it."""
    s3_ambient_buckets: list[str] = ["*"]
    """Buckets (patterns of their names) that `s3-ambient` strategies may read."""
    sftp_known_hosts: str = ""
    """A known_hosts file of SFTP origins whose strategy names no host key; without either they are
    refused.
    """
    remove_after_s: Seconds = 60
    """An object that no asset names any more is removed from the store after this; who reads the
    version before goes on meanwhile.
    """
    stuck_after_s: Seconds = 900
    """An ingest that nobody works on is given up, or handed in again, this long after it was asked
    for; so is what it had begun to write.
    """
    keep_attempts_days: Annotated[float, Field(gt=0)] = 90
    """How long the history of ingests is kept."""
    sweep_every_s: Annotated[float, Field(gt=0)] = 30
    """Leftovers (unwanted objects, stuck ingests, expired reservations) are looked for this often,
    by one host at a time.
    """
    warm_up: bool = False
    """After an ingest, bring the source to this host's fast disk at once."""
    warm_url: str = ""
    """After an ingest, GET this address, `{id}` standing for the percent-encoded id:
    `https://images.example.org/iiif/3/{id}/info.json`.
    """
    purge_url: str = ""
    """After a change or deletion, have the CDN drop what it holds of the image: this address is
    asked with its surrogate key (`asset-...`, as answers carry it) in the headers Surrogate-Key,
    Cache-Tag and xkey-purge, and as JSON.
    """
    purge_method: Literal["POST", "PURGE"] = "POST"
    """How it is asked."""
    purge_headers: dict[str, SecretStr] = {}
    """Headers sent along, such as the CDN's API token."""
    webhook_url: str = ""
    """After an ingest that ended well or not, and after a deletion, POST this address a JSON
    document of what happened.
    """
    webhook_headers: dict[str, SecretStr] = {}
    """Headers sent along."""
    after_timeout_s: Annotated[float, Field(gt=0)] = 5
    """Each try of warm-up, purge and webhook ends within this."""
    after_tries: Count = 4
    """Tries of each, with growing pauses; then it is logged, counted and let be."""
    after_queue: Count = 1_000
    """Assets waiting for each of them, per process; more are dropped and counted."""
    file_roots: list[str] = []
    """Folders below which local files may be origins of pictures ingested through API or queue;
    commands on this machine may read any.
    """


class Jobs(Section):
    """The job queue and its workers: what is posted to be taken in later."""

    kind: Literal["pgqueuer", "sqs"] = "pgqueuer"
    """Where work is announced: `pgqueuer` (in the same database) or `sqs`."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Jobs done at once by each instance; 0 means as many as `ingest.workers`. `serve` does at
    least `ingest.workers` at once, because it also converts the pictures of the folder.
    """
    per_host: Count = 4
    """Jobs running at once, in the whole installation, whose originals come from one host."""
    max_attempts: Count = 5
    """A job that fails so many times becomes a dead letter, to be retried by hand."""
    retry_first_s: Seconds = 5
    """Wait before a job's second attempt; four times as long with each more, and jittered."""
    retry_longest_s: Seconds = 600
    """Longest wait between two attempts."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 10
    """Workers say this often that they are still at a job."""
    lease_s: Annotated[float, Field(gt=0)] = 60
    """A worker that was silent for this long loses its job to another one."""
    keep_days: Annotated[float, Field(gt=0)] = 30
    """Jobs that ended and batches that finished are forgotten after this."""
    sqs_queue: str = ""
    """Name or address of the SQS queue of the normal lane."""
    sqs_priority_queue: str = ""
    """Name or address of the SQS queue of the priority lane."""
    sqs_endpoint: str = ""
    """Address of an SQS-compatible server; empty means the region's own."""
    sqs_region: str = "us-east-1"
    """Region of the queues."""
    sqs_access_key: SecretStr = SecretStr("")
    """Access key id; empty uses the credentials of the machine's role."""
    sqs_secret_key: SecretStr = SecretStr("")
    """Secret access key."""


class Api(Section):
    """The management API on the private port."""

    sync_ingests: Count = 8
    """Images taken in at once while their senders wait; beyond that 503: post a batch."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Images in one batch."""
    max_body: Bytes = 8_000_000
    """Longest body of a batch; any other body may have 256 KiB."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30
    """A body that is not whole after this is given up (408)."""
