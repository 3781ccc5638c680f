"""Creates, changes and deletes the origin strategies of customers, and seals their credentials."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.catalog.values import OriginStrategy, StrategyDraft
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.origins.credential_store import CredentialStore, is_link
from orchestrator.origins.credentials import MASK, parse_credentials
from orchestrator.origins.origin_kinds import (
    ACCEPTS_CREDENTIALS,
    NEEDS_CREDENTIALS,
    OriginKind,
    parse_kind,
)
from orchestrator.origins.strategy_input import (
    StrategyChanges,
    StrategyInput,
    check_credentials,
    check_options,
)
from orchestrator.origins.strategy_matcher import StrategyMatcher
from orchestrator.origins.strategy_regex import check_regex

T = TypeVar("T")


class StrategyEditor:
    """Edits strategies in the catalogue. The matcher of this process uses a change at once."""

    def __init__(
        self,
        repository: OriginStrategies,
        credentials: CredentialStore,
        matcher: StrategyMatcher,
    ) -> None:
        self._repository = repository
        self._credentials = credentials
        self._matcher = matcher

    async def list(self, customer: int) -> list[OriginStrategy]:
        """Return the customer's strategies in the order they are tried. Their credentials are
        sealed; show `MASK` instead.
        """
        return await self._repository.list(customer)

    async def get(self, customer: int, strategy: UUID) -> OriginStrategy:
        """Return this strategy of this customer. Raises NotFound."""
        return await self._repository.get(customer, strategy)

    async def create(self, customer: int, definition: StrategyInput) -> OriginStrategy:
        """Store a new strategy. Raises InvalidInput, Conflict (same regex), NotFound (customer)."""
        draft = self._draft(customer, definition, None)
        return await self._finish(customer, self._repository.create(customer, draft))

    async def replace(
        self, customer: int, strategy: UUID, definition: StrategyInput
    ) -> OriginStrategy:
        """Replace the whole strategy. Raises InvalidInput, Conflict, NotFound."""

        def edit(stored: OriginStrategy) -> StrategyDraft:
            return self._draft(customer, definition, stored)

        return await self._finish(customer, self._repository.change(customer, strategy, edit))

    async def patch(
        self, customer: int, strategy: UUID, changes: StrategyChanges
    ) -> OriginStrategy:
        """Change the given fields of the strategy. Raises InvalidInput, Conflict, NotFound."""

        def edit(stored: OriginStrategy) -> StrategyDraft:
            return self._draft(customer, changes.apply_to(stored), stored)

        return await self._finish(customer, self._repository.change(customer, strategy, edit))

    async def delete(self, customer: int, strategy: UUID) -> None:
        """Delete the strategy and its credentials. Raises NotFound."""
        await self._finish(customer, self._repository.delete(customer, strategy))

    async def reseal(self) -> int:
        """Seal all credentials with the newest key; returns how many there were.

        Raises OriginUnavailable when no key opens one of them; those before it are sealed again.
        """
        count = 0
        for strategy in await self._repository.all():
            if not strategy.credentials or is_link(strategy.credentials):
                continue
            try:
                await self._repository.change(strategy.customer, strategy.id, self._resealed)
            except NotFound:  # deleted since the list was read
                continue
            count += 1
        return count

    def _resealed(self, stored: OriginStrategy) -> StrategyDraft:
        return StrategyDraft(
            stored.regex,
            stored.strategy,
            self._credentials.vault.reseal(stored.credentials),
            stored.optimised,
            stored.place,
        )

    async def _finish(self, customer: int, change: Awaitable[T]) -> T:
        try:
            return await change
        finally:
            self._matcher.forget(customer)

    def _draft(
        self, customer: int, definition: StrategyInput, stored: OriginStrategy | None
    ) -> StrategyDraft:
        kind = parse_kind(definition.strategy)
        check_regex(definition.regex)
        check_options(kind, definition)
        sealed = self._sealed_credentials(customer, definition, kind, stored)
        return StrategyDraft(definition.regex, kind, sealed, definition.optimised, definition.place)

    def _sealed_credentials(
        self,
        customer: int,
        definition: StrategyInput,
        kind: OriginKind,
        stored: OriginStrategy | None,
    ) -> str:
        """Return the value of the catalogue's column `credentials`."""
        text = definition.credentials_text
        if kind not in ACCEPTS_CREDENTIALS:
            if text not in (None, MASK, ""):
                raise InvalidInput(f"The strategy {kind} takes no credentials.")
            return ""
        if text is None or text == MASK:
            unchanged = stored is not None and stored.strategy == kind
            sealed = stored.credentials if stored is not None and unchanged else ""
            if not sealed and kind in NEEDS_CREDENTIALS:
                raise InvalidInput(f"The strategy {kind} needs credentials.")
            return sealed
        if is_link(text):
            self._credentials.check_link(customer, text)
        elif text or kind in NEEDS_CREDENTIALS:
            check_credentials(kind, parse_credentials(text))
        return self._credentials.vault.seal(text)
