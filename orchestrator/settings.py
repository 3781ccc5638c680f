"""Typed settings: `config/default.toml` < a TOML file < environment < command line. Nothing else reads the environment.

`load` reports every fault of a section and file at once, with the line and a suggestion, as one SettingsError.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from orchestrator.errors import SettingsError

PREFIX = "ORCHESTRATOR_"
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}


def parse_bytes(value: object) -> object:
    """An amount of bytes: a number, or text such as `500 MB`, `2GiB`. Other things are left to the validator."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError("should be an amount of bytes such as 500MB or 2GiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A section refuses what it does not know and is never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """Where and how the HTTP ports are served."""

    host: str = "0.0.0.0"  # noqa: S104  the public port is public
    port: Port = 8080
    private_host: str = "127.0.0.1"
    private_port: Port = 8081
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    data_dir: Path = Path()
    trusted_proxies: list[str] = []
    path_templates: dict[str, str] = {}
    keepalive_s: Seconds = 75
    header_timeout_s: Seconds = 15
    drain_s: Seconds = 20
    max_connections: Annotated[int, Field(ge=16)] = 10_000
    max_requests: Annotated[int, Field(ge=1)] = 2_000


class Database(Section):
    """PostgreSQL; without an address an embedded one is started below the data directory."""

    dsn: SecretStr = SecretStr("")
    pool_min: Annotated[int, Field(ge=0)] = 1
    pool_max: Annotated[int, Field(ge=2)] = 8
    connect_timeout_s: Seconds = 5
    query_timeout_s: Seconds = 10
    stale_restricted_s: Seconds = 60


class Storage(Section):
    """The object store: thumbnails and tile-ready sources."""

    kind: Literal["filesystem", "s3"] = "filesystem"
    root: Path = Path()
    bucket: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    prefix: str = ""
    connect_timeout_s: Seconds = 3
    read_timeout_s: Seconds = 30
    max_connections: Annotated[int, Field(ge=1)] = 64


class Iiif(Section):
    """What the IIIF Image API answers and within which limits."""

    default_version: Literal[2, 3] = 3
    default_space: str = "1/1"
    max_width: Annotated[int, Field(ge=1)] = 12_000
    max_height: Annotated[int, Field(ge=1)] = 12_000
    max_area: Annotated[int, Field(ge=1)] = 64_000_000
    max_decode_pixels: Annotated[int, Field(ge=1)] = 150_000_000
    max_enlargement: Annotated[float, Field(ge=1)] = 8.0
    oversize_confined: Literal["clamp", "refuse"] = "clamp"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 80
    webp_quality: Annotated[int, Field(ge=1, le=100)] = 80
    avif_quality: Annotated[int, Field(ge=1, le=100)] = 55
    rights: str = ""
    services: list[dict[str, Any]] = []


class UpscaleRule(Section):
    """Assets whose id matches `asset_id` may be answered by enlarging a smaller thumbnail by at most `max_percent`."""

    asset_id: str
    max_percent: Annotated[float, Field(gt=0)]


class Delivery(Section):
    """How requests are answered: thumbnails, hints, caching headers, patience."""

    resize_thumbnails: bool = True
    upscale_rules: list[UpscaleRule] = []
    size_tolerance_px: Annotated[int, Field(ge=0, le=3)] = 0
    orchestrate_on_info: bool = True
    warm_queue: Annotated[int, Field(ge=1)] = 50
    cache_public: str = "public, max-age=3600, s-maxage=2592000"
    cache_restricted: str = "private, max-age=600"
    cache_error: str = "max-age=10"
    cache_secret: str = "no-store"
    snapshot_ttl_s: Seconds = 600
    snapshot_missing_ttl_s: Seconds = 10
    snapshot_entries: Annotated[int, Field(ge=1)] = 20_000
    request_timeout_s: Seconds = 120
    copies: Annotated[int, Field(ge=1)] = 8
    copy_timeout_s: Seconds = 300
    failure_missing_s: Seconds = 10
    failure_unavailable_s: Seconds = 2
    failure_broken_s: Seconds = 30
    level0_max_edge: Annotated[int, Field(ge=1)] = 2_000


class Cache(Section):
    """The hot memory tier of each process and the two disk caches of the host."""

    memory: Bytes = 128 * 1024**2
    memory_max_entry: Bytes = 1024**2
    derivatives_quota: Bytes = 10 * 1000**3
    sources_quota: Bytes = 50 * 1000**3
    free_space_floor: Bytes = 1000**3
    max_entry: Bytes = 256 * 1024**2
    inline_read: Bytes = 256 * 1024
    low_water: Annotated[float, Field(gt=0, le=1)] = 0.9
    use_flush_s: Seconds = 2
    lease_s: Seconds = 30


class Imaging(Section):
    """Decoding and encoding: how much at once, how long, how large."""

    processes: Annotated[int, Field(ge=0, le=256)] = 0
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    queue: Annotated[int, Field(ge=1)] = 256
    decode_timeout_s: Seconds = 60
    convert_timeout_s: Seconds = 900
    memory_limit: Bytes = 4 * 1024**3
    max_pixels: Annotated[int, Field(ge=1)] = 1_000_000_000
    max_frames: Annotated[int, Field(ge=1)] = 1_000
    siblings: bool = True


class ImageServer(Section):
    """Who cuts pixels from sources on fast disk."""

    kind: Literal["builtin", "iipimage", "cantaloupe"] = "builtin"
    addresses: list[str] = []
    path_template: str = ""
    sources_root: str = ""
    connections: Annotated[int, Field(ge=1)] = 4
    queue: Annotated[int, Field(ge=1)] = 256
    connect_timeout_s: Seconds = 2
    first_byte_timeout_s: Seconds = 30
    total_timeout_s: Seconds = 60


class Ingest(Section):
    """How pictures are taken in and made tile-ready."""

    optimisation_policy: str = "fast-lossy"
    folder_policy: str = "fastest"
    thumbnail_policy: list[int | str] = [1000, 400, 200, 100]
    workers: Annotated[int, Field(ge=1)] = 1
    allow_private_addresses: bool = False
    max_bytes: Bytes = 4 * 1000**3
    connect_timeout_s: Seconds = 10
    read_timeout_s: Seconds = 30
    total_timeout_s: Seconds = 900
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5


class Auth(Section):
    """Who may see restricted images: signed tokens until the IIIF Authorization Flow comes."""

    token_secret: SecretStr = SecretStr("")
    cookie: str = "orchestrator-token"


class Log(Section):
    """Application log and access log, both JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: str = "off"
    """`off`, `-` for standard output, or a file's path (appended; reopened on SIGHUP)."""


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
    auth: Auth = Auth()
    log: Log = Log()

    @property
    def data_dir(self) -> Path:
        """Where everything this process writes lives (`server.data_dir`, already absolute after `load`)."""
        return self.server.data_dir
