"""The object store of P6 and P8: a real S3 server with a counting proxy before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.counting_proxy import CountedRequests, counting_proxy
from tests.support.weed import BUCKET, CREDENTIALS, s3_settings, weed

__all__ = ["BUCKET", "CREDENTIALS", "s3_settings", "weed_with_counter"]


@contextmanager
def weed_with_counter(folder: Path) -> Iterator[CountedRequests]:
    """Start both; the tally has the address to use and what came by."""
    with weed(folder) as endpoint, counting_proxy(endpoint) as tally:
        yield tally
