"""What is to be sent for one request: the value that routing hands to web, which knows how HTTP
says it.

Knows nothing of the request: conditions, ranges and HEAD are web's business (`web/responses.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from orchestrator.model import AssetId

ETAG_BYTES = 12


def etag_of(body: bytes) -> str:
    """The strong ETag of these bytes, quotes included: the same bytes have the same tag in every
    process, always.
    """
    return f'"{blake2b(body, digest_size=ETAG_BYTES).hexdigest()}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One complete answer: status, bytes and what is to be said about them."""

    status: int
    body: bytes
    media_type: str
    tier: str
    """Who answered: memory, disk, thumb, resize, imageserver, special; "" where nothing was looked
    for.
    """
    request_class: str
    """info, tile, full, region, thumb, base, page, api ...: the label in metrics and access log."""
    cache_control: str
    asset: AssetId | None = None
    version: int = 0
    last_modified: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers as they are to be sent (Link, Location ...); a name may stand twice."""
    surrogate_keys: tuple[str, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()
    """(step, milliseconds), for Server-Timing."""
    canonical: str = ""
    """The canonical form of the image request, for the access log."""
    public: bool = False
    """True only if this very answer may be given to anyone who asks for this target: what the hot
    tier may keep.
    """
    vary: str = ""
    """Request headers that choose between answers; Accept-Encoding is added where there is a gzip
    form.
    """
    gzip: bytes | None = None
    """The same document compressed, with an ETag of its own."""
    etag: str = ""
    """Computed from the body of a 200 unless given."""

    def __post_init__(self) -> None:
        """Tag a 200 by its bytes."""
        if not self.etag and self.status == 200:
            object.__setattr__(self, "etag", etag_of(self.body))

    @property
    def gzip_etag(self) -> str:
        """The ETag of the compressed form: other bytes, another tag (RFC 9110, section 8.8.3.3)."""
        return f'{self.etag[:-1]}-gz"' if self.etag else ""
