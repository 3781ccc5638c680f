"""Fetches origins into private scratch files, and examines them without fetching.

The first origin strategy of the customer that matches decides how an origin is read and with which
credentials. Without a strategy, http(s) and ftp addresses are read without credentials and paths as
files; other origins are refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import overload

from orchestrator.errors import InvalidInput, OrchestratorError, OriginUnavailable, fault_of
from orchestrator.origins.access_resolver import AccessResolver, ResolvedOrigin
from orchestrator.origins.download import LowestRate, receive, receive_head
from orchestrator.origins.origin_address import local_path, scheme_of
from orchestrator.origins.origin_kinds import OriginKind, kind_of_origin, kind_of_strategy
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import (
    FetchedFile,
    NotModified,
    OriginAccess,
    OriginReader,
    OriginReport,
    OriginStream,
)
from orchestrator.settings import Ingest


class OriginFetcher:
    """Reads origins of every kind, each with the reader of its kind."""

    def __init__(
        self,
        readers: Mapping[OriginKind, OriginReader],
        resolver: AccessResolver,
        settings: Ingest,
        own: OwnData | None = None,
    ) -> None:
        """`own` data are never an origin."""
        self._own = own or OwnData()
        self._readers = dict(readers)
        self._resolver = resolver
        self._settings = settings
        window_s = settings.rate_window_s
        self._lowest_rate = LowestRate(int(settings.min_rate * window_s), window_s)

    @overload
    async def fetch(self, customer: int, origin: str, target: Path) -> FetchedFile: ...

    @overload
    async def fetch(
        self, customer: int, origin: str, target: Path, known_etag: str
    ) -> FetchedFile | NotModified: ...

    async def fetch(
        self, customer: int, origin: str, target: Path, known_etag: str = ""
    ) -> FetchedFile | NotModified:
        """Copy the origin to the new file `target`. If the origin still has the strong ETag
        `known_etag`, which it sent earlier, it may answer NotModified instead.

        Raises OriginUnavailable, NotAnImage, TooLarge or InvalidInput, each with the public cause.
        """
        resolved = await self._resolver.resolve(customer, origin, known_etag, fresh=True)
        reader = self._reader(resolved.access.kind)
        return await self._resolver.attempt(
            resolved, lambda access: self._copy(reader, origin, access, target)
        )

    async def examine(self, customer: int, origin: str) -> OriginReport:
        """Report whether the origin could be fetched, reading no more than its first bytes."""
        report, stage = OriginReport(origin, OriginKind.DEFAULT, None), "match"
        try:
            strategy = await self._resolver.match(customer, origin, fresh=True)
            if strategy is not None:
                report = replace(report, strategy=strategy, kind=kind_of_strategy(strategy))
            report = replace(report, kind=kind_of_origin(origin, strategy))
            stage = "fetch"
            report = replace(report, optimised=strategy is not None and strategy.optimised)
            stream = await self._open_briefly(await self._resolver.resolve(customer, origin))
        except OrchestratorError as error:
            return replace(report, fault=fault_of(error, stage))
        return replace(report, bytes=stream.bytes, media_type=stream.media_type, etag=stream.etag)

    def check_permitted(self, origin: str) -> None:
        """Raise InvalidInput for an origin that a request from outside may not name: a malformed
        one, a picture that was sent in a body, a file that is not below one of `ingest.file_roots`,
        or one that the product keeps.
        """
        if scheme_of(origin) == "upload":
            raise InvalidInput(
                "Only the asset that a picture was sent for has it as its origin. Send the picture"
                " as the body of PUT."
            )
        if scheme_of(origin) != "file":
            return
        path = Path(os.path.realpath(local_path(origin)))
        if self._own.holds_file(path):
            raise InvalidInput("The origin is a file of this installation. Use the original file.")
        for root in self._settings.file_roots:
            if path.is_relative_to(os.path.realpath(root)):
                return
        raise InvalidInput(
            "A local file can be an origin only below a folder of ingest.file_roots."
        )

    def _reader(self, kind: OriginKind) -> OriginReader:
        reader = self._readers.get(kind)
        if reader is None:
            raise InvalidInput(f"Origins of the kind {kind} cannot be read.")
        return reader

    async def _copy(
        self, reader: OriginReader, origin: str, access: OriginAccess, target: Path
    ) -> FetchedFile | NotModified:
        limit_s = self._settings.total_timeout_s
        try:
            async with asyncio.timeout(limit_s), reader.open(origin, access) as stream:
                if isinstance(stream, NotModified):
                    return stream
                received = await receive(
                    stream.chunks,
                    target,
                    max_bytes=self._settings.max_bytes,
                    expected=stream.bytes,
                    lowest_rate=self._lowest_rate,
                )
        except TimeoutError as error:
            raise _timeout_fault(limit_s) from error
        return FetchedFile(
            target,
            received.bytes,
            received.sha256,
            fingerprint=stream.fingerprint or received.sha256,
            media_type=stream.media_type,
            etag=stream.etag,
        )

    async def _open_briefly(self, resolved: ResolvedOrigin) -> OriginStream:
        """Open the origin and read its first bytes; returns the stream, closed."""
        reader = self._reader(resolved.access.kind)
        limit_s = self._settings.connect_timeout_s + self._settings.read_timeout_s
        try:
            async with (
                asyncio.timeout(limit_s),
                reader.open(resolved.origin, resolved.access) as stream,
            ):
                assert isinstance(stream, OriginStream), "no ETag was known"  # noqa: S101
                await receive_head(stream.chunks, self._settings.max_bytes, stream.bytes)
        except TimeoutError as error:
            raise _timeout_fault(limit_s) from error
        return stream


def _timeout_fault(limit_s: float) -> OriginUnavailable:
    return OriginUnavailable(
        f"The origin took longer than {limit_s:g} s. Try again later.", code="origin_timeout"
    )
