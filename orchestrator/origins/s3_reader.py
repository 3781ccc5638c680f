"""Origins in buckets: with the strategy's keys, with this machine's, or with none; and small
secrets that are kept in them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.reader_types import Access, Opened, Place, Unchanged
from orchestrator.origins.s3_address import BucketObject, is_region, parse
from orchestrator.origins.strategies import Kind
from orchestrator.settings import Ingest
from orchestrator.storage.customer_buckets import S3Login, S3Objects

_REGION = re.compile(r"[a-z0-9-]{1,40}")


class S3Reader:
    """Reads origins in buckets."""

    def __init__(self, settings: Ingest, objects: S3Objects) -> None:
        self._settings = settings
        self._objects = objects

    @asynccontextmanager
    async def open(self, origin: str, access: Access) -> AsyncIterator[Opened | Unchanged]:
        """Read the object; with a known ETag, only after a look whether it has that still."""
        where, login = self._resolved(origin, access)
        if access.known_etag:
            found = await self._objects.head(login, where.bucket, where.key)
            if found.etag == access.known_etag:
                yield Unchanged(found.etag)
                return
        async with self._objects.open(login, where.bucket, where.key) as (info, chunks):
            yield Opened(chunks, info.bytes, info.media_type, info.etag)

    async def place(self, origin: str, access: Access) -> Place:
        """Where the object is that is to be a source. Raises OriginUnavailable."""
        where, login = self._resolved(origin, access)
        found = await self._objects.head(login, where.bucket, where.key)
        # A region that cannot be named is found again as it was now: with the strategy.
        region = login.region if is_region(login.region) else ""
        named = BucketObject(where.bucket, where.key, where.region or region)
        return Place(named.location(), found.bytes, found.etag)

    @asynccontextmanager
    async def read(
        self, location: str, access: Access, etag: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes at a `Place`, if it has that ETag still.

        Raises OriginUnavailable: origin_changed, when it has another.
        """
        where, login = self._resolved(location, access)
        async with self._objects.open(login, where.bucket, where.key, if_match=etag) as (_, chunks):
            yield chunks

    async def read_small(self, where: BucketObject, max_bytes: int) -> bytes:
        """A small object that this machine's credentials open. Raises OriginUnavailable."""
        login = self._ambient(where.region)
        async with self._objects.open(login, where.bucket, where.key) as (info, chunks):
            if info.bytes > max_bytes:
                raise OriginUnavailable("The object is too large for credentials.", retryable=False)
            return b"".join([chunk async for chunk in chunks])

    def _resolved(self, origin: str, access: Access) -> tuple[BucketObject, S3Login]:
        given = access.credentials["endpoint"] if access.kind is Kind.S3 else ""
        try:
            where = parse(origin, given or self._settings.s3_endpoint)
        except InvalidInput as error:
            raise _config(error.public) from error
        match access.kind:
            case Kind.S3_AMBIENT:
                self._check_ambient(where.bucket)
                return where, self._ambient(where.region)
            case Kind.S3_PUBLIC:
                region = where.region or self._settings.s3_region
                return where, S3Login(self._settings.s3_endpoint, region, unsigned=True)
            case _:
                return where, self._keyed(where, access, given)

    def _keyed(self, where: BucketObject, access: Access, endpoint: str) -> S3Login:
        credentials = access.credentials
        access_key, secret_key = credentials["access_key"], credentials["secret_key"]
        if not access_key or not secret_key:
            raise OriginUnavailable(
                "The origin strategy has no access_key and secret_key.",
                retryable=False,
                code="origin_credentials",
            )
        region = where.region or credentials["region"] or self._settings.s3_region
        if endpoint and not re.match(r"https?://[^/@]+/?$", endpoint):
            raise _config("The endpoint of the credentials should read https://host[:port].")
        if not _REGION.fullmatch(region):
            raise _config("The region of the credentials is no name of a region.")
        return S3Login(
            endpoint or self._settings.s3_endpoint,
            region,
            access_key,
            secret_key,
            credentials["session_token"],
            guarded=bool(endpoint),
        )

    def _ambient(self, region: str) -> S3Login:
        settings = self._settings
        return S3Login(
            settings.s3_endpoint,
            region or settings.s3_region,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
        )

    def _check_ambient(self, bucket: str) -> None:
        if not any(fnmatchcase(bucket, each) for each in self._settings.s3_ambient_buckets):
            raise OriginUnavailable(
                "This machine's credentials are not for this bucket (ingest.s3_ambient_buckets).",
                retryable=False,
                code="origin_refused",
            )


def _config(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_config")
