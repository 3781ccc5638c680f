"""The settings of image servers: the built-in renderer, and pools of Cantaloupe and IIPImage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.field_types import Bytes, Count, Seconds, Section

PoolKind = Literal["builtin", "iipimage", "cantaloupe"]
DEFAULT, SPECIAL, BUILTIN = "default", "special", "builtin"
"""Names of the pools that need no table of their own."""


class NodeSettings(Section):
    """How the nodes of a pool are used."""

    kind: PoolKind = "cantaloupe"
    """`builtin` (libvips, in this product), `iipimage` or `cantaloupe`."""
    addresses: list[str] = []
    """Addresses of the external image servers: the nodes of the pool."""
    path_template: str = ""
    """Path requested from them, with `{path}` (of the source) and `{image}`
    (region/size/rotation/...); when empty, the usual path of the kind.
    """
    sources_root: str = ""
    """Mount point of the source cache on the image servers; when empty, the same path as here."""
    connections: Count = 4
    """Requests of each process to each node at once."""
    queue: Count = 256
    """Requests that wait for a node, per process; more are answered 503."""
    queue_timeout_s: Seconds = 20
    """Time that a request waits for a node; after that it is answered 503."""
    connect_timeout_s: Seconds = 2
    """Time in which a connection must be established."""
    first_byte_timeout_s: Seconds = 30
    """Time in which a response must begin."""
    total_timeout_s: Seconds = 60
    """Time in which a response must be complete, the second try on another node included."""
    decode_memory: Bytes = 2 * 1024**3
    """Memory of each node for whole images that it decodes at once for one process, estimated from
    the size of the image. A request that needs more is answered 413, one that needs more than is
    left waits, then is answered 503. 0 means no limit.
    """
    canary_s: Seconds = 3
    """A node without a recent answer is asked for a small image at this interval. A node that does
    not answer it in this time gets requests only if there is no other one. 0 turns this off.
    """
    hedge_after_p95: bool = False
    """Ask a second node when the first takes longer than for 95 of 100 requests, and use the
    answer that is complete first.
    """
    info: Literal["record", "pool"] = "record"
    """Where the size of the tiles in info documents is from: `record` (of the asset), or `pool`:
    the info document of a node, requested once for each version of an asset.
    """
    purge_user: str = ""
    """User of Cantaloupe's API (`endpoint.api.username`), if its caches are on: what they have of
    an asset is purged on every node when the asset changes.
    """
    purge_secret: SecretStr = SecretStr("")
    """Secret of that user (`endpoint.api.secret`)."""


class ImageServerPool(NodeSettings):
    """A pool of image servers of one kind. Each address is a node of it."""

    path_templates: dict[Literal["2", "3"], str] = {}
    """As `path_template`, for each version of the Image API that the nodes answer. The newest one
    is used for images.
    """
    slash_substitute: str = ""
    """Written instead of each slash in the path of a source; `slash_substitute` of Cantaloupe."""
    reads: Literal["disk", "objects"] = "disk"
    """`disk`: the nodes read the source cache of this host. `objects`: they read the object store
    themselves, and nothing is copied to fast disk for them.
    """


class ImageServerRule(Section):
    """Which pool answers a request. All conditions that are given must be true."""

    requests: list[Literal["tile", "full", "info"]] = []
    """Classes of requests: `full` is an image of the whole picture, `tile` any other image, `info`
    an info document; when empty, all.
    """
    asset_id: str = ""
    """Regular expression that is searched in `customer/space/name`."""
    sources: list[Literal["jpeg2000", "pyramid-tiff", "original"]] = []
    """Formats of the source; when empty, all."""
    min_pixels: Annotated[int, Field(ge=0)] = 0
    """Least pixels of the picture."""
    max_pixels: Annotated[int, Field(ge=0)] = 0
    """Most pixels of the picture; 0 means no limit."""
    pool: str
    """Name of a pool in `image_server.pools`, or `default`, `special` or `builtin`."""


class ImageServer(NodeSettings):
    """The image servers, which cut pixels from sources."""

    kind: PoolKind = "builtin"
    """`builtin` (libvips, in this product), `iipimage` or `cantaloupe`."""
    special_addresses: list[str] = []
    """Addresses of Cantaloupe servers that read the object store themselves (S3Source), for sources
    too large for disk and memory here.
    """
    special_path_template: str = "/iiif/3/{path}/{image}"
    """Path requested from those servers, with `{path}` (the percent-encoded object key) and
    `{image}`.
    """
    pools: dict[str, ImageServerPool] = {}
    """More pools by their names: `{near = {kind = "cantaloupe", addresses = [...]}}`. The settings
    of a pool have the names and the meaning of those of this section; `path_templates`,
    `slash_substitute` and `reads` are described with image servers.
    """
    rules: list[ImageServerRule] = []
    """Which pool answers which requests: `{pool = NAME, requests = ["tile", "full"], asset_id =
    "REGEX", sources = ["jpeg2000"], min_pixels = N, max_pixels = N}`. The first rule of which all
    conditions are true counts; without one, the pool is the one of this section, `default`.
    """

    def all_pools(self) -> dict[str, ImageServerPool]:
        """Every pool by its name, those included that need no table."""
        names = ImageServerPool.model_fields.keys() & ImageServer.model_fields.keys()
        default = ImageServerPool.model_validate({name: getattr(self, name) for name in names})
        builtin = default.model_copy(update={"kind": "builtin", "addresses": []})
        pools = {BUILTIN: builtin, DEFAULT: default}
        if self.special_addresses:
            changes = {
                "kind": "cantaloupe",
                "addresses": self.special_addresses,
                "path_template": self.special_path_template,
                "reads": "objects",
                "sources_root": "",
            }
            pools[SPECIAL] = default.model_copy(update=changes)
        return pools | self.pools
