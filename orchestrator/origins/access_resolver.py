"""Finds out how an origin is read: its strategy, its kind and its credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.model import SENT
from orchestrator.origins.configured_buckets import ConfiguredBuckets
from orchestrator.origins.credential_store import CredentialStore, is_link
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.origin_address import MAX_ORIGIN_CHARS
from orchestrator.origins.origin_kinds import OriginKind, kind_of_origin
from orchestrator.origins.reader_types import OriginAccess
from orchestrator.origins.strategy_matcher import StrategyMatcher

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResolvedOrigin:
    """An origin of a customer, the strategy that reads it (if any) and how to open it."""

    customer: int
    origin: str
    strategy: OriginStrategy | None
    access: OriginAccess

    @property
    def is_optimised(self) -> bool:
        """Whether the strategy lets the origin be served without a copy."""
        return self.strategy is not None and self.strategy.optimised


class AccessResolver:
    """Resolves origins, and renews linked credentials that an origin refuses."""

    def __init__(
        self,
        matcher: StrategyMatcher | None = None,
        credentials: CredentialStore | None = None,
        configured: ConfiguredBuckets | None = None,
    ) -> None:
        """Without a `matcher` every origin is read by the default for its scheme. Origins in the
        `configured` buckets need no strategy.
        """
        self._configured = configured
        self._matcher = matcher
        self._credentials = credentials

    async def match(
        self, customer: int, origin: str, *, fresh: bool = False
    ) -> OriginStrategy | None:
        """Return the strategy that reads the origin; None means the default for its scheme. With
        `fresh`, strategies are read from the catalogue.

        Raises InvalidInput, and OriginUnavailable (origin_config) for a regex that cannot be used.
        """
        if len(origin) > MAX_ORIGIN_CHARS:
            raise InvalidInput(f"An origin must have at most {MAX_ORIGIN_CHARS} characters.")
        if self._configured and (bucket := self._configured.find(customer, origin)):
            return bucket.strategy
        if self._matcher is None or origin.startswith(SENT):
            return None
        return await self._matcher.match(customer, origin, fresh=fresh)

    async def resolve(
        self, customer: int, origin: str, known_etag: str = "", *, fresh: bool = False
    ) -> ResolvedOrigin:
        """Return how to open the origin; `fresh` as in `match`. Raises InvalidInput and
        OriginUnavailable.
        """
        strategy = await self.match(customer, origin, fresh=fresh)
        if self._configured and (bucket := self._configured.find(customer, origin)):
            access = OriginAccess(OriginKind.S3, Credentials(), known_etag, customer, bucket.login)
            return ResolvedOrigin(customer, origin, bucket.strategy, access)
        kind = kind_of_origin(origin, strategy)
        credentials = Credentials()
        if strategy is not None and self._credentials is not None:
            credentials = await self._credentials.credentials(customer, strategy.credentials)
        access = OriginAccess(kind, credentials, known_etag, customer)
        return ResolvedOrigin(customer, origin, strategy, access)

    async def attempt(
        self, resolved: ResolvedOrigin, read: Callable[[OriginAccess], Awaitable[T]]
    ) -> T:
        """Return `await read(access)`. When the origin refuses credentials that came from a link,
        read the link again; if they have changed, call `read` once more with the new ones.
        """
        try:
            return await read(resolved.access)
        except OriginUnavailable as error:
            access = await self._renewed_access(resolved, error)
            if access is None:
                raise
        return await read(access)

    async def _renewed_access(
        self, resolved: ResolvedOrigin, error: OriginUnavailable
    ) -> OriginAccess | None:
        strategy = resolved.strategy
        if error.code != "origin_refused" or strategy is None or self._credentials is None:
            return None
        if not is_link(strategy.credentials):
            return None
        credentials = await self._credentials.credentials(
            resolved.customer, strategy.credentials, fresh=True
        )
        if credentials == resolved.access.credentials:
            return None
        return replace(resolved.access, credentials=credentials)
