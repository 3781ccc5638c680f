"""Rules between settings, beyond the limits of each one. Pure. Each fault names the setting to
correct, and how.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from orchestrator.settings.auth_rules import AUTH_RULES
from orchestrator.settings.convert_arguments import parse_version_rule
from orchestrator.settings.image_server_rules import IMAGE_SERVER_RULES
from orchestrator.settings.pyramid_section import BucketLogin, Pyramids
from orchestrator.settings.sections import Settings
from orchestrator.tracing import has_tracing_packages

Fault = tuple[str, str]
"""(dotted name of the setting, what is wrong and how to correct it)."""


def cross_section_faults(settings: Settings) -> list[Fault]:
    """Every fault of `settings`; empty if they can be used."""
    return [fault for rule in RULES for fault in rule(settings)]


def _ports(settings: Settings) -> Iterator[Fault]:
    server = settings.server
    if server.port == 0 and server.workers > 1:
        yield (
            "server.port",
            "0 (any free port) needs server.workers = 1; several processes share one port",
        )
    if server.port == server.private_port != 0:
        yield "server.private_port", f"is {server.port}, the public port; choose another port"


def _storage(settings: Settings) -> Iterator[Fault]:
    storage = settings.storage
    if storage.kind == "s3" and not storage.bucket:
        yield "storage.bucket", 'storage.kind = "s3" needs a bucket'
    if bool(storage.access_key.get_secret_value()) != bool(storage.secret_key.get_secret_value()):
        missing = "secret_key" if storage.access_key.get_secret_value() else "access_key"
        yield f"storage.{missing}", "set both access_key and secret_key, or neither"
    if storage.endpoint and not re.match(r"https?://[^/]", storage.endpoint):
        yield "storage.endpoint", "should begin with http:// or https:// and name a host"
    dsn = settings.database.dsn.get_secret_value()
    if dsn and not re.match(r"postgres(ql)?://", dsn):
        yield "database.dsn", "should look like postgresql://user:password@host/name"


def _origins(settings: Settings) -> Iterator[Fault]:
    ingest = settings.ingest
    if bool(ingest.s3_access_key.get_secret_value()) != bool(
        ingest.s3_secret_key.get_secret_value()
    ):
        missing = "s3_secret_key" if ingest.s3_access_key.get_secret_value() else "s3_access_key"
        yield (
            f"ingest.{missing}",
            "set both s3_access_key and s3_secret_key, or neither",
        )
    if ingest.s3_endpoint and not re.match(r"https?://[^/]", ingest.s3_endpoint):
        yield "ingest.s3_endpoint", "should begin with http:// or https:// and name a host"
    for key in ingest.credentials_keys.get_secret_value().split(","):
        if key.strip() and not re.fullmatch(r"[A-Za-z0-9_-]{43}=", key.strip()):
            yield (
                "ingest.credentials_keys",
                "each should be 32 bytes in URL-safe base64; `orchestrator origins make-key` "
                "prints one",
            )
    for name, start, form in (
        ("credentials_links", "s3://", "s3://bucket/{customer}/*"),
        ("file_roots", "/", "an absolute path"),
    ):
        for entry in getattr(ingest, name):
            if not entry.startswith(start):
                yield f"ingest.{name}", f"{entry} should be {form}"


def _sizes(settings: Settings) -> Iterator[Fault]:
    database, cache = settings.database, settings.cache
    if database.pool_min > database.pool_max:
        yield "database.pool_min", f"is greater than database.pool_max ({database.pool_max})"
    if cache.memory and cache.memory_max_entry > cache.memory:
        yield "cache.memory_max_entry", f"is greater than cache.memory ({cache.memory} bytes)"
    if cache.derivatives_quota and cache.max_entry > cache.derivatives_quota:
        yield (
            "cache.max_entry",
            f"is greater than cache.derivatives_quota ({cache.derivatives_quota} bytes)",
        )
    for entry in settings.ingest.thumbnail_policy:
        if isinstance(entry, int) and entry < 1:
            yield "ingest.thumbnail_policy", f"{entry} is not a longest edge; use 1 or more pixels"


def _jobs(settings: Settings) -> Iterator[Fault]:
    jobs = settings.jobs
    if jobs.lease_s < 3 * jobs.heartbeat_s:
        yield "jobs.lease_s", "should be at least three times jobs.heartbeat_s"
    if jobs.kind != "sqs":
        return
    for name in ("sqs_queue", "sqs_priority_queue"):
        if not getattr(jobs, name):
            yield f"jobs.{name}", 'jobs.kind = "sqs" needs a queue for each lane'
    if jobs.sqs_queue == jobs.sqs_priority_queue != "":
        yield "jobs.sqs_priority_queue", "should be a different queue than jobs.sqs_queue"
    if bool(jobs.sqs_access_key.get_secret_value()) != bool(jobs.sqs_secret_key.get_secret_value()):
        yield "jobs.sqs_secret_key", "set both sqs_access_key and sqs_secret_key, or neither"


def _cache(settings: Settings) -> Iterator[Fault]:
    cache = settings.cache
    if cache.sources_folder and not cache.sources_folder.startswith("/"):
        yield "cache.sources_folder", "should be an absolute path"
    for name, size in cache.shares.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,19}", name):
            yield "cache.shares", f"{name} should be a name such as ico: at most 20 of a-z, 0-9, _"
        if cache.derivatives_quota and size > cache.derivatives_quota:
            yield "cache.shares", f"{name} is greater than cache.derivatives_quota"
    for rule in cache.rules:
        try:
            re.compile(rule.asset_id)
        except re.error as error:
            yield "cache.rules", f"{rule.asset_id} is not a regular expression: {error}"


def _ico_stores(settings: Settings) -> Iterator[Fault]:
    ico = settings.ico
    if ico.bucket and ico.folder:
        yield "ico.folder", "set either ico.bucket or ico.folder"
    if ico.folder and not ico.folder.startswith("/"):
        yield "ico.folder", "should be an absolute path"
    if bool(ico.access_key.get_secret_value()) != bool(ico.secret_key.get_secret_value()):
        yield "ico.secret_key", "set both access_key and secret_key, or neither"
    for name, endpoint in (
        ("ico.endpoint", ico.endpoint),
        *(("ico.buckets", each.endpoint) for each in ico.buckets),
    ):
        if endpoint and not re.match(r"https?://[^/]", endpoint):
            yield name, f"{endpoint} should begin with http:// or https:// and name a host"
    for each in ico.buckets:
        if bool(each.access_key.get_secret_value()) != bool(each.secret_key.get_secret_value()):
            yield "ico.buckets", f"set both keys of {each.bucket}, or neither"


def _ico_access(settings: Settings) -> Iterator[Fault]:
    ico, cache = settings.ico, settings.cache
    for name in ("secrets", "purge_secrets"):
        if any(len(secret.get_secret_value()) < 16 for secret in getattr(ico, name)):
            yield f"ico.{name}", "each should have at least 16 characters"
    for name in ico.presets:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            yield "ico.presets", f"{name} should be a name of at most 64 letters, digits, _ and -"
    if ico.quota and cache.shares.get("ico", ico.quota) != ico.quota:
        yield "ico.quota", "differs from the share ico in cache.shares; set one of them"
    if cache.derivatives_quota and ico.quota > cache.derivatives_quota:
        yield (
            "ico.quota",
            f"is greater than cache.derivatives_quota ({cache.derivatives_quota} bytes)",
        )


def _upload_stores(settings: Settings) -> Iterator[Fault]:
    uploads = settings.uploads
    kind = {"local": "folder", "s3": "bucket"}.get(uploads.backend, "")
    if not kind:
        return
    for store in ("incoming", "active"):
        if not getattr(uploads, f"{store}_{kind}"):
            yield (
                f"uploads.{store}_{kind}",
                f'uploads.backend = "{uploads.backend}" (STORAGE_BACKEND) needs it; set '
                f"{store.upper()}_{kind.upper()} or this setting",
            )
        if bool(getattr(uploads, f"{store}_access_key").get_secret_value()) != bool(
            getattr(uploads, f"{store}_secret_key").get_secret_value()
        ):
            yield f"uploads.{store}_secret_key", "set both access_key and secret_key, or neither"
        endpoint = getattr(uploads, f"{store}_endpoint")
        if endpoint and not re.match(r"https?://[^/]", endpoint):
            yield (
                f"uploads.{store}_endpoint",
                f"{endpoint} should begin with http:// or https:// and name a host",
            )
    places = [
        (
            getattr(uploads, f"{store}_{kind}"),
            kind == "bucket" and getattr(uploads, f"{store}_endpoint"),
        )
        for store in ("incoming", "active")
    ]
    if places[0] == places[1] and places[0][0]:
        yield f"uploads.active_{kind}", f"should be another {kind} than that of incoming"


def _upload_rules(settings: Settings) -> Iterator[Fault]:
    uploads = settings.uploads
    if any(len(secret.get_secret_value()) < 32 for secret in uploads.token_secrets):
        yield "uploads.token_secrets", "each should have at least 32 characters"
    if not re.fullmatch(r"/(?:[A-Za-z0-9._~-]+/)*(?:[A-Za-z0-9._~-]+)?", uploads.route_prefix):
        yield "uploads.route_prefix", "should be a path such as / or /images"
    names = []
    for rule in uploads.resizing:
        try:
            names.append(parse_version_rule(**dict(rule)).name)
        except ValueError as error:
            yield "uploads.resizing", str(error)
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield "uploads.resizing", f"the suffix {name} occurs twice"


def _pyramid_buckets(settings: Settings) -> Iterator[Fault]:
    pyramids, storage = settings.pyramids, settings.storage
    if bool(pyramids.source_bucket) != bool(pyramids.image_bucket):
        missing = "image_bucket" if pyramids.source_bucket else "source_bucket"
        yield f"pyramids.{missing}", "set both source_bucket and image_bucket, or neither"
    is_same = pyramids.source_bucket == pyramids.image_bucket != ""
    if is_same and not pyramids.image_prefix.strip("/"):
        yield (
            "pyramids.image_prefix",
            "the source and the image bucket are the same, so set a prefix; else pyramids would "
            "replace originals",
        )
    for name in ("source_bucket", "image_bucket"):
        bucket = getattr(pyramids, name)
        if storage.kind == "s3" and bucket and bucket == storage.bucket:
            yield f"pyramids.{name}", "is the bucket of the object store; choose another one"
    if pyramids.write_notes and not pyramids.process_bucket:
        yield "pyramids.process_bucket", "pyramids.write_notes needs a bucket"
    if pyramids.sqs_queue and not pyramids.has_buckets:
        yield "pyramids.source_bucket", "pyramids.sqs_queue needs source_bucket and image_bucket"


def _pyramid_logins(settings: Settings) -> Iterator[Fault]:
    pyramids = settings.pyramids
    logins: list[tuple[str, Pyramids | BucketLogin]] = [("secret_key", pyramids)]
    for name, login in [*logins, *(("logins", each) for each in pyramids.logins.values())]:
        if bool(login.access_key.get_secret_value()) != bool(login.secret_key.get_secret_value()):
            yield f"pyramids.{name}", "set both access_key and secret_key, or neither"
        if login.endpoint and not re.match(r"https?://[^/]", login.endpoint):
            yield (
                "pyramids.logins" if name == "logins" else "pyramids.endpoint",
                f"{login.endpoint} should begin with http:// or https:// and name a host",
            )


def _pyramid_events(settings: Settings) -> Iterator[Fault]:
    pyramids = settings.pyramids
    secret = pyramids.event_secret.get_secret_value()
    if secret and len(secret) < 16:
        yield "pyramids.event_secret", "should have at least 16 characters"
    for topic in pyramids.sns_topics:
        if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]{1,256}", topic):
            yield "pyramids.sns_topics", f"{topic} is not the ARN of an SNS topic"
    try:
        zone = ZoneInfo(pyramids.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield "pyramids.time_zone", "should be the name of a time zone such as America/New_York"
        return
    if pyramids.schedule:
        try:
            next(CronSim(pyramids.schedule, datetime.now(zone)))
        except (CronSimError, StopIteration):
            yield "pyramids.schedule", "should be a cron expression such as 30 5 * * *"


def _texts(settings: Settings) -> Iterator[Fault]:
    if not re.fullmatch(r"[1-9]\d{0,8}/\d{1,9}", settings.iiif.default_space):
        yield "iiif.default_space", "should be customer/space, two numbers such as 1/1"
    for rule in settings.delivery.upscale_rules:
        try:
            re.compile(rule.asset_id)
        except re.error as error:
            yield "delivery.upscale_rules", f"{rule.asset_id} is not a regular expression: {error}"
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", settings.auth.cookie):
        yield "auth.cookie", "is not the name of a cookie; use letters, digits and hyphens"


def _proxies(settings: Settings) -> Iterator[Fault]:
    for address in settings.server.trusted_proxies:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            yield (
                "server.trusted_proxies",
                f"{address} is neither an address nor a network such as 10.0.0.0/8",
            )


def _traces(settings: Settings) -> Iterator[Fault]:
    address = settings.log.traces
    if not address:
        return
    if not re.match(r"https?://[^/]", address):
        yield "log.traces", "should begin with http:// or https:// and name a host"
    if not has_tracing_packages():
        yield "log.traces", "needs more packages. Run: pip install 'orchestrator[tracing]'"


RULES = (
    _ports,
    _traces,
    _storage,
    _origins,
    *IMAGE_SERVER_RULES,
    _sizes,
    _jobs,
    _cache,
    _ico_stores,
    _ico_access,
    _upload_stores,
    _upload_rules,
    _pyramid_buckets,
    _pyramid_logins,
    _pyramid_events,
    _texts,
    _proxies,
    *AUTH_RULES,
)
"""Every rule, in the order in which faults are reported."""
