"""Where a customer's bytes come from: one reader for each kind of origin, all ending in a private
scratch file.

An origin is an absolute path or an address. The customer's first origin strategy that fits says how
it is read, with which credentials; without one, http(s) and ftp addresses are read as anybody could
and paths as files, and nothing else is read at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import overload

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import InvalidInput, OrchestratorError, OriginUnavailable, fault_of
from orchestrator.origins.credentials import Credentials, CredentialStore
from orchestrator.origins.download import first_bytes, receive
from orchestrator.origins.file_reader import place_of_file
from orchestrator.origins.reader_types import (
    Access,
    Examined,
    Fetched,
    Opened,
    OriginReader,
    Place,
    Sources,
    Unchanged,
    local_path,
    scheme_of,
)
from orchestrator.origins.strategies import MAY_BE_OPTIMISED, Kind, Strategies
from orchestrator.settings import Ingest

MAX_ORIGIN_CHARS = 8000
_STAGE = "fetch"
_BY_SCHEME = {"http": Kind.DEFAULT, "https": Kind.DEFAULT, "ftp": Kind.FTP, "file": Kind.FILE}
_SCHEMES: Mapping[Kind, frozenset[str]] = {
    Kind.DEFAULT: frozenset({"http", "https", "ftp", "file"}),
    Kind.BASIC: frozenset({"http", "https"}),
    Kind.S3: frozenset({"s3", "http", "https"}),
    Kind.S3_AMBIENT: frozenset({"s3", "http", "https"}),
    Kind.S3_PUBLIC: frozenset({"s3", "http", "https"}),
    Kind.SFTP: frozenset({"sftp"}),
    Kind.FTP: frozenset({"ftp"}),
    Kind.FILE: frozenset({"file"}),
}


class Origins:
    """Reads origins: chooses the strategy, finds its credentials, hands over to its reader."""

    def __init__(
        self,
        readers: Mapping[Kind, OriginReader],
        strategies: Strategies | None = None,
        credentials: CredentialStore | None = None,
        *,
        settings: Ingest | None = None,
        sources: Sources | None = None,
    ) -> None:
        """Without `strategies` every origin is read by default."""
        self._readers = dict(readers)
        self._strategies = strategies
        self._credentials = credentials
        self._settings = settings or Ingest()
        self._sources = sources

    @overload
    async def fetch(self, customer: int, origin: str, target: Path) -> Fetched: ...

    @overload
    async def fetch(
        self, customer: int, origin: str, target: Path, known_etag: str
    ) -> Fetched | Unchanged: ...

    async def fetch(
        self, customer: int, origin: str, target: Path, known_etag: str = ""
    ) -> Fetched | Unchanged:
        """Copy the origin to the new file `target`, unless it has the strong ETag `known_etag`
        still, which was got from this very origin.

        Raises OriginUnavailable, NotAnImage, TooLarge or InvalidInput, each with the public cause.
        """
        strategy, access, reader = await self._chosen(customer, origin, known_etag)
        try:
            return await self._copied(reader, origin, access, target)
        except OriginUnavailable as error:
            again = await self._rotated(customer, strategy, access, error)
            if again is None:
                raise
        return await self._copied(reader, origin, again, target)

    async def examine(self, customer: int, origin: str) -> Examined:
        """Find out, reading no more than the first bytes, whether the origin could be fetched."""
        strategy: OriginStrategy | None = None
        try:
            strategy = await self._match(customer, origin)
            found = Examined(
                origin,
                kind_for(origin, strategy),
                strategy,
                optimised=strategy is not None and strategy.optimised,
            )
        except OrchestratorError as error:
            kind = Kind(strategy.strategy) if strategy is not None else Kind.DEFAULT
            return Examined(origin, kind, strategy, fault=fault_of(error, "match"))
        try:
            return await self._looked_at(customer, found)
        except OrchestratorError as error:
            return Examined(
                origin, found.kind, strategy, found.optimised, fault=fault_of(error, _STAGE)
            )

    async def is_optimised(self, customer: int, origin: str) -> bool:
        """Tell whether the origin may be served from where it is (by the policy use-original)."""
        strategy = await self._match(customer, origin)
        return strategy is not None and strategy.optimised

    async def optimised(self, customer: int, origin: str) -> Place | None:
        """Where an optimised origin is; None for any other. Raises OriginUnavailable."""
        strategy, access, _ = await self._chosen(customer, origin, "")
        if strategy is None or not strategy.optimised or access.kind not in MAY_BE_OPTIMISED:
            return None
        if access.kind is Kind.FILE:
            return await asyncio.to_thread(place_of_file, local_path(origin))
        if self._sources is None:
            return None
        try:
            return await self._sources.place(origin, access)
        except OriginUnavailable as error:
            again = await self._rotated(customer, strategy, access, error)
            if again is None:
                raise
        return await self._sources.place(origin, again)

    @asynccontextmanager
    async def read(
        self, customer: int, origin: str, location: str, etag: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of an optimised origin that has become a source: at `location`, a `Place`'s,
        with this ETag. Raises OriginUnavailable; `origin_changed` when they have another.
        """
        strategy, access, _ = await self._chosen(customer, origin, "")
        if self._sources is None or access.kind not in MAY_BE_OPTIMISED - {Kind.FILE}:
            raise _config("The origin strategy that this image was taken in with is gone.")
        async with AsyncExitStack() as stack:
            try:
                opened = self._sources.read(location, access, etag)
                chunks = await stack.enter_async_context(opened)
            except OriginUnavailable as error:
                again = await self._rotated(customer, strategy, access, error)
                if again is None:
                    raise
                opened = self._sources.read(location, again, etag)
                chunks = await stack.enter_async_context(opened)
            yield chunks

    def admit(self, origin: str) -> None:
        """Raise InvalidInput for what a request from outside may not name as an origin: what is no
        address, and files outside `ingest.file_roots`.
        """
        if scheme_of(origin) != "file":
            return
        path = os.path.realpath(local_path(origin))
        for root in self._settings.file_roots:
            if Path(path).is_relative_to(os.path.realpath(root)):
                return
        raise InvalidInput("Local files are no origins here, but below ingest.file_roots.")

    async def _match(self, customer: int, origin: str) -> OriginStrategy | None:
        if len(origin) > MAX_ORIGIN_CHARS:
            raise InvalidInput(f"An origin has at most {MAX_ORIGIN_CHARS} characters.")
        if self._strategies is None:
            return None
        return await self._strategies.match(customer, origin)

    async def _chosen(
        self, customer: int, origin: str, known_etag: str
    ) -> tuple[OriginStrategy | None, Access, OriginReader]:
        strategy = await self._match(customer, origin)
        kind = kind_for(origin, strategy)
        reader = self._readers.get(kind)
        if reader is None:
            raise InvalidInput(f"Origins of the kind {kind} are not read here.")
        credentials = Credentials()
        if strategy is not None and self._credentials is not None:
            credentials = await self._credentials.of(customer, strategy.credentials)
        return strategy, Access(kind, credentials, known_etag), reader

    async def _rotated(
        self,
        customer: int,
        strategy: OriginStrategy | None,
        access: Access,
        error: OriginUnavailable,
    ) -> Access | None:
        """After a refused login: other credentials, if there are such now."""
        if error.code != "origin_refused" or strategy is None or self._credentials is None:
            return None
        if not self._credentials.is_linked(strategy.credentials):
            return None
        fresh = await self._credentials.of(customer, strategy.credentials, fresh=True)
        if fresh == access.credentials:
            return None
        return Access(access.kind, fresh, access.known_etag)

    async def _copied(
        self, reader: OriginReader, origin: str, access: Access, target: Path
    ) -> Fetched | Unchanged:
        limit_s = self._settings.total_timeout_s
        try:
            async with asyncio.timeout(limit_s), reader.open(origin, access) as opened:
                if isinstance(opened, Unchanged):
                    return opened
                received = await receive(
                    opened.chunks,
                    target,
                    max_bytes=self._settings.max_bytes,
                    expected=opened.bytes,
                )
        except TimeoutError as error:
            raise _too_slow(limit_s) from error
        return Fetched(
            target,
            received.bytes,
            received.sha256,
            fingerprint=opened.fingerprint or received.sha256,
            media_type=opened.media_type,
            etag=opened.etag,
        )

    async def _looked_at(self, customer: int, found: Examined) -> Examined:
        _, access, reader = await self._chosen(customer, found.origin, "")
        limit_s = self._settings.connect_timeout_s + self._settings.read_timeout_s
        try:
            async with (
                asyncio.timeout(limit_s),
                reader.open(found.origin, access) as opened,
            ):
                assert isinstance(opened, Opened), "nothing was known of it"  # noqa: S101
                await first_bytes(opened.chunks, self._settings.max_bytes, opened.bytes)
        except TimeoutError as error:
            raise _too_slow(limit_s) from error
        return Examined(
            found.origin,
            found.kind,
            found.strategy,
            found.optimised,
            bytes=opened.bytes,
            media_type=opened.media_type,
            etag=opened.etag,
        )


def kind_for(origin: str, strategy: OriginStrategy | None) -> Kind:
    """How the origin is read. Raises InvalidInput, and OriginUnavailable (origin_config) when the
    strategy cannot read such an address or none says how to.
    """
    scheme = scheme_of(origin)
    if strategy is None:
        kind = _BY_SCHEME.get(scheme)
        if kind is None and scheme in ("s3", "sftp"):
            raise _config(
                f"No origin strategy of the customer says how {scheme}: origins are read."
            )
        if kind is None:
            known = "file, ftp, http, https, s3, sftp"
            raise InvalidInput(
                f"Origins of the kind {scheme}: are not read here; these are: {known}."
            )
        return kind
    try:
        kind = Kind(strategy.strategy)
    except ValueError as error:
        raise _config(f"The origin strategy {strategy.id} is of no kind known here.") from error
    if scheme not in _SCHEMES[kind]:
        raise _config(f"The origin strategy {strategy.id} ({kind}) cannot read {scheme}: origins.")
    return _BY_SCHEME[scheme] if kind is Kind.DEFAULT else kind


def _config(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_config")


def _too_slow(limit_s: float) -> OriginUnavailable:
    return OriginUnavailable(f"The origin took longer than {limit_s:g} s.", code="origin_timeout")
