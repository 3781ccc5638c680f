"""Origins in buckets, read with the strategy's keys, with this machine's credentials, or without;
and the linked credentials that are kept in buckets.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.customer_patterns import is_permitted
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import (
    NotModified,
    OriginAccess,
    OriginLocation,
    OriginStream,
)
from orchestrator.origins.s3_address import BucketObject, is_region, parse_address
from orchestrator.settings import Ingest
from orchestrator.storage.customer_buckets import BucketReader, S3Login

_REGION = re.compile(r"[a-z0-9-]{1,40}")


class S3Reader:
    """Reads origins in buckets."""

    def __init__(self, settings: Ingest, buckets: BucketReader, own: OwnData) -> None:
        self._settings = settings
        self._buckets = buckets
        self._own = own

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """Open the object. With a known ETag, first ask for the object's current one."""
        where, login = self._resolve(origin, access)
        if access.known_etag:
            info = await self._buckets.head(login, where.bucket, where.key)
            if info.etag == access.known_etag:
                yield NotModified(info.etag)
                return
        async with self._buckets.open(login, where.bucket, where.key) as (info, chunks):
            yield OriginStream(chunks, info.bytes, info.media_type, info.etag)

    async def locate(self, origin: str, access: OriginAccess) -> OriginLocation:
        """Return where the object is, so that it can be a source. Raises OriginUnavailable."""
        where, login = self._resolve(origin, access)
        info = await self._buckets.head(login, where.bucket, where.key)
        # A region that cannot be part of an address comes from the strategy again at each read.
        region = login.region if is_region(login.region) else ""
        named = BucketObject(where.bucket, where.key, where.region or region)
        return OriginLocation(named.location(), info.bytes, info.etag)

    @asynccontextmanager
    async def read(
        self,
        location: str,
        access: OriginAccess,
        etag: str,
        span: tuple[int, int] | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the bytes at the location of an `OriginLocation`, or those from `span` (start, end).

        Raises OriginUnavailable; its code is origin_changed when the object has another ETag.
        """
        where, login = self._resolve(location, access)
        async with self._buckets.open(login, where.bucket, where.key, if_match=etag, span=span) as (
            _,
            chunks,
        ):
            yield chunks

    async def read_small(self, where: BucketObject, max_bytes: int) -> bytes:
        """Return a small object, read with this machine's credentials. Raises OriginUnavailable."""
        login = self._ambient_login(where.region)
        self._own.check_object(login, where)
        async with self._buckets.open(login, where.bucket, where.key) as (info, chunks):
            if info.bytes > max_bytes:
                raise OriginUnavailable(
                    f"The object is larger than {max_bytes} bytes.", retryable=False
                )
            return b"".join([chunk async for chunk in chunks])

    def _resolve(self, origin: str, access: OriginAccess) -> tuple[BucketObject, S3Login]:
        endpoint = access.credentials["endpoint"] if access.kind is OriginKind.S3 else ""
        try:
            where = parse_address(origin, endpoint or self._settings.s3_endpoint)
        except InvalidInput as error:
            raise _config_fault(error.public) from error
        login = access.login or self._login(where, access, endpoint)
        self._own.check_object(login, where)
        return where, login

    def _login(self, where: BucketObject, access: OriginAccess, endpoint: str) -> S3Login:
        match access.kind:
            case OriginKind.S3_AMBIENT:
                self._check_ambient(where.bucket, access.customer)
                return self._ambient_login(where.region)
            case OriginKind.S3_PUBLIC:
                region = where.region or self._settings.s3_region
                return S3Login(self._settings.s3_endpoint, region, unsigned=True)
            case _:
                return self._login_with_keys(where, access, endpoint)

    def _login_with_keys(self, where: BucketObject, access: OriginAccess, endpoint: str) -> S3Login:
        credentials = access.credentials
        access_key, secret_key = credentials["access_key"], credentials["secret_key"]
        if not access_key or not secret_key:
            raise OriginUnavailable(
                "The credentials of the origin strategy need access_key and secret_key.",
                retryable=False,
                code="origin_credentials",
            )
        region = where.region or credentials["region"] or self._settings.s3_region
        if endpoint and not re.match(r"https?://[^/@]+/?$", endpoint):
            raise _config_fault(
                "The endpoint in the credentials must have the form https://host[:port]."
            )
        if not _REGION.fullmatch(region):
            raise _config_fault("The region in the credentials is malformed.")
        return S3Login(
            endpoint or self._settings.s3_endpoint,
            region,
            access_key,
            secret_key,
            credentials["session_token"],
            is_checked=bool(endpoint),
        )

    def _ambient_login(self, region: str) -> S3Login:
        settings = self._settings
        return S3Login(
            settings.s3_endpoint,
            region or settings.s3_region,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
        )

    def _check_ambient(self, bucket: str, customer: int) -> None:
        if not is_permitted(bucket, self._settings.s3_ambient_buckets, customer):
            raise OriginUnavailable(
                "This machine's credentials may not be used for this bucket. Use a strategy with "
                "keys, or ask the operator to allow it in ingest.s3_ambient_buckets.",
                retryable=False,
                code="origin_refused",
            )


def _config_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_config")
