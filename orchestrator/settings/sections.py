"""Every setting there is, with its default, its bounds and (the text below each) what it means to
an operator.

A section refuses names it does not know and is never changed after loading. `config/default.toml`
and `docs/settings.md` are written from these declarations, so a setting without a text fails a
test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.engine_sections import Api, Ingest, Jobs
from orchestrator.settings.field_types import Bytes, Count, Port, Seconds, Section


class Server(Section):
    """Where and how the HTTP ports are served."""

    host: str = "0.0.0.0"  # noqa: S104  the public port is public
    """Address the public port listens on."""
    port: Port = 8080
    """The public port; 0 takes a free one."""
    private_host: str = "127.0.0.1"
    """Address the private port listens on; loopback unless told otherwise."""
    private_port: Port = 8081
    """The private port (metrics, administration, API); 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Serve processes sharing the public port; 1 runs everything in a single process."""
    data_dir: Path = Path()
    """Everything this installation writes lives below it; when unset, the user's data directory."""
    trusted_proxies: list[str] = []
    """Addresses or networks (CIDR) whose forwarded headers are believed; none, not even the
    loopback, by default.
    """
    path_templates: dict[str, str] = {}
    """Per host name (or `default`), the path of an image as seen from outside, for ids in info
    documents: `/{prefix}/{version}/{customer}/{space}/{assetPath}`.
    """
    keepalive_s: Seconds = 75
    """An idle keep-alive connection is closed after this."""
    header_timeout_s: Seconds = 15
    """A request's headers must have arrived within this."""
    drain_s: Seconds = 20
    """After SIGTERM, answers under way get this long to finish."""
    max_connections: Annotated[int, Field(ge=16)] = 10_000
    """Open connections per process; more are refused."""
    max_requests: Count = 2_000
    """Requests under way per process; more are answered 503."""


class Database(Section):
    """PostgreSQL; without an address an embedded one is started below the data directory."""

    dsn: SecretStr = SecretStr("")
    """Address (postgresql://user:password@host/name); empty starts the embedded server."""
    pool_min: Annotated[int, Field(ge=0)] = 0
    """Connections each process keeps open."""
    pool_max: Annotated[int, Field(ge=2)] = 8
    """Connections each process opens at most."""
    connect_timeout_s: Seconds = 5
    """A connection must be established within this."""
    query_timeout_s: Seconds = 10
    """A query must be answered within this."""
    stale_restricted_s: Seconds = 60
    """How long restricted images are still served from memory while the database is away."""


class Storage(Section):
    """The object store: thumbnails and tile-ready sources."""

    kind: Literal["filesystem", "s3"] = "filesystem"
    """`filesystem` (a folder) or `s3` (any S3-compatible endpoint)."""
    root: Path = Path()
    """Folder of the filesystem form; when unset, `objects` below the data directory."""
    bucket: str = ""
    """Bucket of the s3 form."""
    endpoint: str = ""
    """Address of an S3-compatible server; empty means the region's own."""
    region: str = "us-east-1"
    """Region of the bucket."""
    access_key: SecretStr = SecretStr("")
    """Access key id; empty uses the credentials of the machine's role."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    prefix: str = ""
    """Every key is written below this prefix."""
    connect_timeout_s: Seconds = 3
    """A connection to the store must be established within this."""
    read_timeout_s: Seconds = 30
    """The store must send something within this."""
    max_connections: Count = 64
    """Connections to the store per process."""


class Iiif(Section):
    """What the IIIF Image API answers and within which limits."""

    default_version: Literal[2, 3] = 3
    """Version answered where neither path nor Accept names one."""
    default_space: str = "1/1"
    """`customer/space` that pictures of a folder are registered in."""
    max_width: Count = 12_000
    """Widest image answered, in pixels (maxWidth)."""
    max_height: Count = 12_000
    """Highest image answered, in pixels (maxHeight)."""
    max_area: Count = 50_000_000
    """Most pixels in one answer (maxArea); bounds an answer's memory."""
    max_decode_pixels: Count = 250_000_000
    """Most pixels decoded for one answer, at the level it is cut from; more is 413. At least four
    times `max_area`, or `max` of some images could not be answered.
    """
    max_enlargement: Annotated[float, Field(ge=1)] = 4.0
    """How many times a region may be enlarged (`^`)."""
    oversize_confined: Literal["clamp", "refuse"] = "clamp"
    """`!w,h` larger than the region, version 3: `clamp` answers the region's size, `refuse` answers
    400.
    """
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 80
    """Quality of JPEG answers."""
    webp_quality: Annotated[int, Field(ge=1, le=100)] = 80
    """Quality of WebP answers."""
    avif_quality: Annotated[int, Field(ge=1, le=100)] = 55
    """Quality of AVIF answers."""
    rights: str = ""
    """Rights statement (a URI) of images without one of their own."""
    services: list[dict[str, Any]] = []
    """Services added to every info document."""


class UpscaleRule(Section):
    """Assets whose id matches `asset_id` may be answered by enlarging a smaller thumbnail by at
    most `max_percent`.
    """

    asset_id: str
    """Regular expression matched against `customer/space/name`."""
    max_percent: Annotated[float, Field(gt=0)]
    """Enlargement allowed, in percent."""


class Delivery(Section):
    """How requests are answered: thumbnails, hints, caching headers, patience."""

    resize_thumbnails: bool = True
    """Answer a full-region size by resizing a larger thumbnail."""
    upscale_rules: list[UpscaleRule] = []
    """Which assets may be answered by enlarging a smaller thumbnail: `{asset_id = "REGEX",
    max_percent = N}`.
    """
    size_tolerance_px: Annotated[int, Field(ge=0, le=3)] = 0
    """A stored thumbnail this many pixels off is taken for the size asked for."""
    orchestrate_on_info: bool = True
    """A request for an info document brings the source to fast disk in advance."""
    warm_queue: Count = 50
    """Sources waiting to be brought in advance; more hints are dropped and counted."""
    cache_public: str = "public, max-age=3600, s-maxage=2592000"
    """Cache-Control of public answers."""
    cache_restricted: str = "private, max-age=600"
    """Cache-Control of restricted answers."""
    cache_error: str = "max-age=10"
    """Cache-Control of 400 and 404."""
    cache_secret: str = "no-store"  # noqa: S105  a header, no secret
    """Cache-Control of 401, 403 and 5xx."""
    snapshot_ttl_s: Seconds = 600
    """How long what is known of an asset is trusted without asking (changes are announced at once).
    """
    snapshot_missing_ttl_s: Seconds = 10
    """How long an asset is remembered as missing."""
    snapshot_entries: Count = 20_000
    """Assets remembered per process."""
    request_timeout_s: Seconds = 120
    """An answer must have begun within this, else 503."""
    copies: Count = 8
    """Sources brought to fast disk at once, per process."""
    copy_timeout_s: Seconds = 300
    """One source must have arrived within this."""
    memory_sources: Bytes = 512 * 1024**2
    """A source that finds no room on disk, or is never to be copied there, is read into memory to
    be cut from, in part where that will do; so much at a time, per process. 0: never.
    """
    failure_missing_s: Seconds = 10
    """A source that was not found is not asked for again for this long."""
    failure_unavailable_s: Seconds = 2
    """A store or image server that did not answer is not asked for the same again for this long."""
    failure_broken_s: Seconds = 30
    """A product that cannot be made (broken image) is not tried again for this long."""


class CacheRule(Section):
    """What the caches do with the files of assets whose id matches `asset_id`."""

    asset_id: str
    """Regular expression matched against `customer/space/name`."""
    pinned: bool = False
    """Never evict them for room."""
    orchestrate: bool = True
    """False: never copy their sources to fast disk."""


class Cache(Section):
    """The hot memory tier of each process and the two disk caches of the host."""

    memory: Bytes = 128 * 1024**2
    """Hot memory tier, per process; 0 turns it off."""
    memory_max_entry: Bytes = 1024**2
    """Largest answer kept in memory."""
    derivatives_quota: Bytes = 10 * 1000**3
    """Disk space of the derivative cache; never exceeded."""
    sources_quota: Bytes = 50 * 1000**3
    """Disk space of the source cache; never exceeded."""
    sources_folder: str = ""
    """Folder of the source cache; when unset, `cache/sources` below the data directory. Only one
    host may use it.
    """
    free_space_floor: Bytes = 1000**3
    """The caches leave at least this much of the disk free."""
    max_entry: Bytes = 256 * 1024**2
    """Largest derivative kept on disk."""
    inline_read: Bytes = 256 * 1024
    """Files up to this size are read without a thread when the page cache has them."""
    eviction: Literal["lru", "s3-fifo"] = "lru"
    """Who leaves a disk cache for room: `lru`, the least recently used, or `s3-fifo`, which
    crawlers going through everything cannot spoil; `orchestrator cache simulate` compares them.
    """
    low_water: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The scavenger evicts down to this part of a quota."""
    use_flush_s: Seconds = 2
    """Uses of cached files are recorded in batches this far apart."""
    lease_s: Seconds = 30
    """A source in use is not evicted for this long after its last use, nor while it is read; those
    of a process that died are let go of after this.
    """
    shares: dict[str, Bytes] = {}
    """Parts of the derivatives' quota that products have of their own: `{ico = "1GB"}`. Within one
    the least recently used leave first, and no other product leaves for it.
    """
    rules: list[CacheRule] = []
    """Images to be treated as if they were pinned, or never orchestrated:
    `{asset_id = "REGEX", pinned = true, orchestrate = false}`.
    """


class Imaging(Section):
    """Decoding and encoding: how much at once, how long, how large."""

    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Decode worker processes; 0 means one per processor."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads for cheap work on files we made; 0 means one per processor."""
    queue: Count = 256
    """Work waiting for a process or thread; more is answered 503."""
    decode_timeout_s: Seconds = 60
    """One decode must be done within this."""
    convert_timeout_s: Seconds = 900
    """One conversion must be done within this."""
    memory_limit: Bytes = 4 * 1024**3
    """Address space of a decode worker process."""
    max_pixels: Count = 1_000_000_000
    """Largest image taken in."""
    max_frames: Count = 1_000
    """Most pages or frames of a file taken in."""
    siblings: bool = True
    """Cut the neighbouring tiles that the same decode holds, too."""


class ImageServer(Section):
    """Who cuts pixels from sources on fast disk."""

    kind: Literal["builtin", "iipimage", "cantaloupe"] = "builtin"
    """`builtin` (libvips, in this product), `iipimage` or `cantaloupe`."""
    addresses: list[str] = []
    """Addresses of the external image servers."""
    path_template: str = ""
    """Path asked of them, with `{path}` (of the source) and `{image}` (region/size/rotation/...);
    empty means the kind's own.
    """
    sources_root: str = ""
    """Where the image servers see the source cache; empty means at the same path."""
    special_addresses: list[str] = []
    """Addresses of Cantaloupe servers that read the object store themselves (S3Source), for sources
    too large for disk and memory here.
    """
    special_path_template: str = "/iiif/3/{path}/{image}"
    """Path asked of those, with `{path}` (the object's key, percent-encoded) and `{image}`."""
    connections: Count = 4
    """Connections per address and process."""
    queue: Count = 256
    """Requests waiting for a connection; more are answered 503."""
    connect_timeout_s: Seconds = 2
    """A connection must be established within this."""
    first_byte_timeout_s: Seconds = 30
    """The answer must begin within this."""
    total_timeout_s: Seconds = 60
    """The answer must be complete within this."""


class Auth(Section):
    """Who may see restricted images: signed tokens until the IIIF Authorization Flow comes."""

    token_secret: SecretStr = SecretStr("")
    """Secret that signs tokens; when unset, one is made and kept below the data directory."""
    cookie: str = "orchestrator-token"
    """Cookie that may carry the token."""


class Log(Section):
    """Application log and access log, both JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important level written."""
    access: str = "off"
    """Access log: `off`, `-` for standard output, or a file's path (appended; reopened on SIGHUP).
    """


class Settings(Section):
    """All settings of one process."""

    server: Server = Server()
    database: Database = Database()
    storage: Storage = Storage()
    iiif: Iiif = Iiif()
    delivery: Delivery = Delivery()
    cache: Cache = Cache()
    imaging: Imaging = Imaging()
    image_server: ImageServer = ImageServer()
    ingest: Ingest = Ingest()
    jobs: Jobs = Jobs()
    api: Api = Api()
    auth: Auth = Auth()
    log: Log = Log()

    @property
    def data_dir(self) -> Path:
        """Where everything this process writes lives (`server.data_dir`, already absolute after
        `load`).
        """
        return self.server.data_dir
