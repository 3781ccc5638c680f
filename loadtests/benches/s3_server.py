"""The object store of P6 and P8: a real S3 server behind a proxy that counts its requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.counting_proxy import CountedRequests, counting_proxy
from tests.support.weed import BUCKET, CREDENTIALS, s3_settings, weed

__all__ = ["BUCKET", "CREDENTIALS", "counted_s3_server", "s3_settings"]


@contextmanager
def counted_s3_server(folder: Path) -> Iterator[CountedRequests]:
    """Start both. The result has the address to use and the requests that passed."""
    with weed(folder) as endpoint, counting_proxy(endpoint) as counted:
        yield counted
