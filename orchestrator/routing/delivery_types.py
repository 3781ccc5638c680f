"""The type of a complete answer, which routing and web's handlers build and `web/responses.py`
sends.

It does not depend on the request: `web/responses.py` evaluates conditions, ranges and HEAD.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from orchestrator.cache.disk.file_names import Product
from orchestrator.model import AssetId

ETAG_BYTES = 12


def etag_of(body: bytes, media_type: str = "") -> str:
    """The strong ETag of these bytes, quotes included. The same bytes have the same ETag in every
    process and after every restart. Give the `media_type` of bytes that are sent as several types:
    a strong ETag identifies one of them (RFC 9110, section 8.8.1).
    """
    digest = blake2b(body, digest_size=ETAG_BYTES)
    digest.update(media_type.encode())
    return f'"{digest.hexdigest()}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One complete answer: status, body and the facts that its headers state."""

    status: int
    body: bytes
    media_type: str
    tier: str
    """The tier that answered: memory, disk, thumb, resize, imageserver, special, for /ico also
    stored and original; "" for an answer that comes from no tier.
    """
    request_class: str
    """info, tile, full, region, thumb, base, ico, page, api ...: the label in metrics and in the
    access log.
    """
    cache_control: str
    asset: AssetId | None = None
    version: int = 0
    last_modified: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers (Link, Location ...), sent as they are; a name may occur twice."""
    surrogate_keys: tuple[str, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()
    """(step, milliseconds), for Server-Timing."""
    canonical: str = ""
    """The canonical form of the image request, for the access log."""
    public: bool = False
    """True only if the hot tier may keep this answer, that is, if every client that requests this
    target may get it.
    """
    vary: str = ""
    """Request headers that select among answers. `web/responses.py` adds Accept-Encoding if there
    is a gzip form.
    """
    hot_group: str = ""
    """The text by which the hot tier drops the answer; if empty, the id of the asset."""
    is_signed: bool = False
    """True if the query of the request is a valid signature. The hot tier keeps such an answer,
    though in general not one with a query.
    """
    gzip: bytes | None = None
    """The same body compressed with gzip; it has its own ETag."""
    product: Product | None = None
    """The product of the derivative cache that has the body, if it may be there."""
    etag: str = ""
    """If empty, computed from the body of a 200."""

    def __post_init__(self) -> None:
        """Compute the ETag of a 200 from its body."""
        if not self.etag and self.status == 200:
            object.__setattr__(self, "etag", etag_of(self.body))

    @property
    def gzip_etag(self) -> str:
        """The ETag of the compressed form, which must differ (RFC 9110, section 8.8.3.3)."""
        return f'{self.etag[:-1]}-gz"' if self.etag else ""
