"""The object store of P4, P6 and P8: a real S3 server behind a proxy that counts its requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session

from tests.support.counting_proxy import CountedRequests, counting_proxy
from tests.support.weed import BUCKET, CREDENTIALS, s3_settings, weed

__all__ = ["BUCKET", "aio_client", "counted_s3_server", "s3_settings"]


@contextmanager
def counted_s3_server(folder: Path) -> Iterator[CountedRequests]:
    """Start both. The result has the address to use and the requests that passed."""
    with weed(folder) as endpoint, counting_proxy(endpoint) as counted:
        yield counted


def aio_client(endpoint: str) -> Any:
    """A client for `async with`, as a user of aiobotocore would open it."""
    access, secret = CREDENTIALS
    return get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )
