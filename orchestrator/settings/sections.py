"""Every setting with its default, its limits and, in the string below it, its meaning for an
operator. `ingest_sections` has the sections of ingest, jobs and API, `ico_section` that of `/ico`,
`uploads_section` that of uploads, `auth_section` that of tokens and sign-in, `manifests_section`
that of manifests, `promotion_section` that of promotion.

A section rejects names that it does not know, and never changes after loading. The declarations
also make `config/default.toml` and `docs/settings.md`; a test fails for a setting without text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.auth_section import Auth
from orchestrator.settings.field_types import Bytes, Count, Port, Seconds, Section
from orchestrator.settings.ico_section import Ico
from orchestrator.settings.image_server_section import ImageServer
from orchestrator.settings.ingest_sections import Api, Ingest, Jobs
from orchestrator.settings.manifests_section import Manifests
from orchestrator.settings.promotion_section import Promotion
from orchestrator.settings.pyramid_section import Pyramids
from orchestrator.settings.uploads_section import Uploads


class Server(Section):
    """The HTTP ports and the processes that serve them."""

    host: str = "0.0.0.0"  # noqa: S104  the public port is public
    """Address that the public port listens on."""
    port: Port = 8080
    """Public port; 0 takes a free one."""
    private_host: str = "127.0.0.1"
    """Address that the private port listens on. The private port has no access control of its own
    for metrics and health: keep it on the loopback or a private network.
    """
    private_port: Port = 8081
    """Private port (metrics, health, API); 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Serve processes that share the public port; 1 runs everything in a single process."""
    data_dir: Path = Path()
    """Directory that holds everything this installation writes; when empty, `orchestrator` in the
    user's data directory.
    """
    trusted_proxies: list[str] = []
    """Addresses or networks (CIDR) of proxies whose `X-Forwarded-*` headers are
    used. None by default, not even the loopback.
    """
    path_templates: dict[str, str] = {}
    """For each host name (or `default`), the public path of an image, for the ids in info
    documents: `/{prefix}/{version}/{customer}/{space}/{assetPath}`.
    """
    keepalive_s: Seconds = 75
    """An idle keep-alive connection is closed after this time."""
    header_timeout_s: Seconds = 15
    """Time in which a client must send the headers of a request."""
    drain_s: Seconds = 20
    """After SIGTERM, requests and jobs in progress have this time to finish."""
    max_connections: Annotated[int, Field(ge=16)] = 10_000
    """Open connections of each process; more are refused."""
    max_requests: Count = 2_000
    """Requests in progress in each process; more are answered 503."""


class Database(Section):
    """PostgreSQL. Without an address, an embedded server below the data directory is started."""

    dsn: SecretStr = SecretStr("")
    """Address, `postgresql://user:password@host/name`; when empty, the embedded server is started.
    """
    pool_min: Annotated[int, Field(ge=0)] = 0
    """Connections that each process keeps open."""
    pool_max: Annotated[int, Field(ge=2)] = 8
    """Connections that each process opens at most. A process that runs jobs opens more if its jobs
    need more.
    """
    connect_timeout_s: Seconds = 5
    """Time in which a connection must be established."""
    query_timeout_s: Seconds = 10
    """Time in which a query must be answered."""
    answer_timeout_s: Seconds = 0.8
    """Time after which a database that sends no answer counts as away. From then on no request
    waits for it until it answers again. A slow query alone does not count.
    """
    stale_restricted_s: Seconds = 60
    """How long restricted assets are served from memory while the database does not answer. After
    that they are answered 503.
    """


class Storage(Section):
    """The object store, which holds sources and thumbnails."""

    kind: Literal["filesystem", "s3"] = "filesystem"
    """`filesystem` (a folder) or `s3` (any S3-compatible endpoint)."""
    root: Path = Path()
    """Folder of a `filesystem` store; when empty, `objects` below the data directory."""
    bucket: str = ""
    """Bucket of an `s3` store."""
    endpoint: str = ""
    """Address of an S3-compatible server; when empty, the Amazon endpoint of the region."""
    region: str = "us-east-1"
    """Region of the bucket."""
    access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    prefix: str = ""
    """Prefix of all object keys."""
    connect_timeout_s: Seconds = 3
    """Time in which a connection to the store must be established."""
    read_timeout_s: Seconds = 30
    """Longest pause between two bytes from the store."""
    max_connections: Count = 64
    """Connections of each process to the store."""
    signature_version: Literal["", "s3v4", "s3"] = ""
    """Signature of requests to an `s3` store: `s3v4`, or `s3` (version 2) for old services; when
    empty, the client chooses.
    """


class Iiif(Section):
    """What the IIIF Image API answers, and its limits."""

    default_version: Literal[2, 3] = 3
    """Version of the Image API if neither the path nor the Accept header names one."""
    presentation_version: Literal[2, 3] = 3
    """Version of the Presentation API if neither the path nor the Accept header names one: 2 is
    2.1, 3 is 3.0.
    """
    default_space: str = "1/1"
    """`customer/space` in which the images of a folder are registered."""
    max_width: Count = 12_000
    """Greatest width of a response in pixels (`maxWidth`)."""
    max_height: Count = 12_000
    """Greatest height of a response in pixels (`maxHeight`)."""
    max_area: Count = 50_000_000
    """Greatest area of a response in pixels (`maxArea`), for a rotated image that of its canvas. It
    limits the memory a response needs.
    """
    max_decode_pixels: Count = 250_000_000
    """Most pixels decoded for one response, at the resolution level it is cut from; larger requests
    are answered 413. Use at least four times `max_area`, or `max` of some images cannot be
    answered. An original that waits for its conversion is decoded as a whole if its format requires
    it, up to `imaging.max_pixels`, in a worker of lower priority than those of tiles.
    """
    max_enlargement: Annotated[float, Field(ge=1)] = 4.0
    """How many times a region may be enlarged (`^`)."""
    oversize_confined: Literal["clamp", "refuse"] = "clamp"
    """Response to a size `!w,h` that is larger than the region, in version 3: `clamp` answers the
    size of the region, `refuse` answers 400.
    """
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 80
    """Quality of JPEG responses."""
    webp_quality: Annotated[int, Field(ge=1, le=100)] = 80
    """Quality of WebP responses."""
    avif_quality: Annotated[int, Field(ge=1, le=100)] = 55
    """Quality of AVIF responses."""
    rights: str = ""
    """Rights statement (a URI) of assets that have none."""
    services: list[dict[str, Any]] = []
    """Services added to every info document."""


class UpscaleRule(Section):
    """Assets whose id matches `asset_id` may be answered by enlarging a smaller thumbnail by at
    most `max_percent`.
    """

    asset_id: str
    """Regular expression that is searched in `customer/space/name`."""
    max_percent: Annotated[float, Field(gt=0)]
    """Greatest enlargement in percent."""


class Delivery(Section):
    """How requests are answered: thumbnails, orchestration, caching headers, time limits."""

    resize_thumbnails: bool = True
    """Answer a full-region request by resizing a larger thumbnail."""
    upscale_rules: list[UpscaleRule] = []
    """Assets that may be answered by enlarging a smaller thumbnail: `{asset_id = "REGEX",
    max_percent = N}`.
    """
    size_tolerance_px: Annotated[int, Field(ge=0, le=3)] = 0
    """A stored thumbnail answers a request whose size differs by at most this many pixels."""
    orchestrate_on_info: bool = True
    """A request for an info document starts the orchestration of the source."""
    warm_queue: Count = 50
    """Orchestrations started by info documents that may wait, per process; more are dropped and
    counted.
    """
    cache_public: str = "public, max-age=3600, s-maxage=2592000"
    """Cache-Control of responses for public assets."""
    cache_restricted: str = "private, max-age=600"
    """Cache-Control of responses for restricted assets."""
    cache_error: str = "max-age=10"
    """Cache-Control of 400 and 404."""
    cache_secret: str = "no-store"  # noqa: S105  a header, no secret
    """Cache-Control of 401, 403 and 5xx, and of all errors of the private port."""
    snapshot_ttl_s: Seconds = 600
    """How long the snapshot of an asset is used without a query. A change of the asset drops the
    snapshot at once.
    """
    snapshot_missing_ttl_s: Seconds = 10
    """How long a process remembers that an asset does not exist."""
    snapshot_entries: Count = 20_000
    """Snapshots that each process keeps."""
    request_timeout_s: Seconds = 120
    """Time in which a response must begin; after that the request is answered 503."""
    copies: Count = 8
    """Sources that each process copies to fast disk at once."""
    copy_timeout_s: Seconds = 300
    """Time in which the copy of a source must be complete."""
    ranges_from: Bytes = 16 * 1000**2
    """The first tiles of a source at least this large are cut from ranges of its object, while it
    is copied to fast disk; those of smaller sources wait for the copy.
    """
    memory_sources: Bytes = 512 * 1024**2
    """Memory of each process for sources that are not on fast disk, because there is no room or a
    rule forbids it. Such a source is read into memory, in parts where that suffices, and the
    response is cut from it. 0 turns this off.
    """
    failure_missing_s: Seconds = 10
    """How long a source that was not found is not requested again."""
    failure_unavailable_s: Seconds = 2
    """How long a request that the store or an image server did not answer is not repeated."""
    failure_broken_s: Seconds = 30
    """How long a response that cannot be made, for example from a broken image, is not tried again.
    """


class CacheRule(Section):
    """What the disk caches do with the files of assets whose id matches `asset_id`."""

    asset_id: str
    """Regular expression that is searched in `customer/space/name`."""
    pinned: bool = False
    """Never evict the files."""
    orchestrate: bool = True
    """False: never copy the sources to fast disk."""


class Cache(Section):
    """The hot tier of each process, and the two disk caches of the host."""

    memory: Bytes = 128 * 1024**2
    """Memory of the hot tier of each process; 0 turns it off."""
    memory_max_entry: Bytes = 1024**2
    """Largest response kept in the hot tier."""
    memory_heads: Bytes = 32 * 1024**2
    """Memory of each process for the heads of responses whose bodies left the hot tier. Such a
    response is sent from its file in the derivative cache. 0 turns this off.
    """
    derivatives_quota: Bytes = 10 * 1000**3
    """Disk space of the derivative cache of this host, shared by all its processes; never exceeded.
    0 means no quota.
    """
    sources_quota: Bytes = 50 * 1000**3
    """Disk space of the source cache of this host, shared by all its processes; never exceeded. 0
    means no quota.
    """
    sources_folder: str = ""
    """Folder of the source cache; when empty, `cache/sources` below the data directory. Only one
    host may use it.
    """
    free_space_floor: Bytes = 1000**3
    """Free space of the disk that the caches never use."""
    max_entry: Bytes = 256 * 1024**2
    """Largest derivative kept on disk."""
    inline_read: Bytes = 256 * 1024
    """Files up to this size are read without a thread if the page cache has them."""
    store_from_pixels: Annotated[int, Field(ge=0)] = 16_384
    """A derivative of a pyramid TIFF on this host is written to the disk cache only if at least
    this many pixels are decoded or encoded for it. Making a smaller one again costs less than
    storing it: storing takes 1.2 ms of processor time, 128 x 128 pixels 1.3 ms. Tiles that a
    pyramid holds ready (0.02 ms) are never written.
    """
    eviction: Literal["lru", "s3-fifo"] = "lru"
    """Which files a disk cache evicts first: `lru`, the least recently used, or `s3-fifo`, which
    keeps its hit ratio when a crawler requests everything once. `orchestrator cache simulate`
    compares them.
    """
    low_water: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The scavenger evicts until a cache uses this part of its quota."""
    use_flush_s: Seconds = 2
    """Interval at which the uses of cached files are recorded, in one batch."""
    lease_s: Seconds = 30
    """A source is not evicted while it is read, nor for this long after its last use. The leases of
    a process that died end after this time.
    """
    shares: dict[str, Bytes] = {}
    """Parts of `derivatives_quota` reserved for kinds of products: `{ico = "1GB"}`. A share evicts
    its least recently used files first, and never files of other products.
    """
    rules: list[CacheRule] = []
    """Assets that are treated as pinned, or are never orchestrated: `{asset_id = "REGEX", pinned =
    true, orchestrate = false}`.
    """


class Imaging(Section):
    """Decoding and encoding: how much at once, how long, how large."""

    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Decode worker processes; 0 means one for each processor."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads for cheap work on files that the product made; 0 means one for each processor."""
    queue: Count = 256
    """Calls that wait for a process or thread; more are answered 503."""
    decode_timeout_s: Seconds = 60
    """Processor time in which one decode must be done; on a busy machine it may last longer."""
    convert_timeout_s: Seconds = 900
    """Processor time in which one conversion must be done."""
    memory_limit: Bytes = 4 * 1024**3
    """Address space of a decode worker process."""
    max_pixels: Count = 1_000_000_000
    """Largest image that is ingested, in pixels."""
    max_frames: Count = 1_000
    """Most pages or frames of a file that is ingested."""
    siblings: bool = True
    """Also cut the neighbouring tiles that the same decode covers."""
    grok: Literal["off", "auto"] = "off"
    """Whether whole images of lossless JPEG2000 files are decoded by Grok (`grk_decompress`, AGPL),
    a program of its own, where it is installed and saves time. It does not notice damaged files.
    """
    readable_folders: list[str] = []
    """More folders that decode workers may read: pictures that are read in place, or fonts outside
    the folders of the system. Workers always read the object store, the source cache, and the
    folders of originals that the settings name.
    """


class Log(Section):
    """Application log and access log, both as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    access: str = "off"
    """Access log: `off`, `-` for standard output, or the path of a file. The file is appended to,
    and reopened on SIGHUP.
    """
    traces: str = ""
    """Base address of a collector of OpenTelemetry (OTLP over HTTP, `http://localhost:4318`) that
    gets a span of each job and of each request that cannot be answered at once. Empty means none.
    It needs the packages of `orchestrator[tracing]`.
    """


class Settings(Section):
    """All settings of one process."""

    server: Server = Server()
    database: Database = Database()
    storage: Storage = Storage()
    iiif: Iiif = Iiif()
    delivery: Delivery = Delivery()
    cache: Cache = Cache()
    promotion: Promotion = Promotion()
    imaging: Imaging = Imaging()
    image_server: ImageServer = ImageServer()
    manifests: Manifests = Manifests()
    ico: Ico = Ico()
    uploads: Uploads = Uploads()
    ingest: Ingest = Ingest()
    jobs: Jobs = Jobs()
    pyramids: Pyramids = Pyramids()
    api: Api = Api()
    auth: Auth = Auth()
    log: Log = Log()

    @property
    def data_dir(self) -> Path:
        """Directory that holds everything this process writes (`server.data_dir`); absolute after
        `load`.
        """
        return self.server.data_dir
