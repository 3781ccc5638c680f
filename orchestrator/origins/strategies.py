"""Origin strategies: which one reads an origin, and which ones may be stored.

A customer's strategies are tried in their order; the first whose regex is found anywhere in the
origin, in any case, reads it. A regex that is broken, or too slow, is a fault of its own
(`origin_config`): it holds nobody up, and no origin that it might be meant for goes elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import regex
from cachetools import LRUCache, TTLCache

from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.catalog.values import OriginStrategy, StrategyDraft
from orchestrator.errors import (
    CatalogUnavailable,
    InvalidInput,
    NotFound,
    OriginUnavailable,
)
from orchestrator.origins.credentials import MASK, Credentials, CredentialStore, parse_credentials

MAX_REGEX_CHARS = 1000
MAX_PLACE = 1_000_000
_PROBES = ("https://example.org/" + "a" * 300 + "!", "s3://" + "a/" * 100 + "0" * 100 + "\n")
_CUSTOMERS = 1000

T = TypeVar("T")


class Kind(StrEnum):
    """The ways of reading origins, as they are named in strategies."""

    DEFAULT = "default"
    BASIC = "basic-http-auth"
    S3_AMBIENT = "s3-ambient"
    S3 = "s3"
    S3_PUBLIC = "s3-public"
    SFTP = "sftp"
    FTP = "ftp"
    FILE = "file"


_ALIASES = {
    "basic-http-authentication": Kind.BASIC,
    "s3-keyed": Kind.S3,
    "s3-unsigned": Kind.S3_PUBLIC,
}
_NEED_CREDENTIALS = frozenset({Kind.BASIC, Kind.S3, Kind.SFTP})
_MAY_HAVE_CREDENTIALS = _NEED_CREDENTIALS | {Kind.FTP}
MAY_BE_OPTIMISED = frozenset({Kind.S3, Kind.S3_AMBIENT, Kind.S3_PUBLIC, Kind.FILE})


@dataclass(frozen=True, slots=True)
class StrategyInput:
    """An origin strategy as somebody gives it. `credentials`: a JSON object, as such or as text, or
    a link `s3://[region/]bucket/key`; None or `xxx` keeps those that are there.
    """

    regex: str
    strategy: str
    credentials: str | Mapping[str, object] | None = field(default=None, repr=False)
    optimised: bool = False
    place: int = 0


@dataclass(frozen=True, slots=True)
class StrategyChanges:
    """What is to be changed of an origin strategy; None leaves it."""

    regex: str | None = None
    strategy: str | None = None
    credentials: str | Mapping[str, object] | None = field(default=None, repr=False)
    optimised: bool | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    strategy: OriginStrategy
    pattern: regex.Pattern[str] | None
    """None: the catalogue holds what does not compile."""


class Strategies:
    """The strategies of all customers."""

    def __init__(
        self,
        repository: OriginStrategies,
        credentials: CredentialStore,
        *,
        ttl_s: float = 5.0,
        match_timeout_s: float = 0.25,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Changes made here are in force at once, others' after `ttl_s` seconds."""
        self._repository = repository
        self._credentials = credentials
        self._match_timeout_s = match_timeout_s
        self._known: TTLCache[int, tuple[_Candidate, ...]] = TTLCache(_CUSTOMERS, ttl_s, now)
        self._last: LRUCache[int, tuple[_Candidate, ...]] = LRUCache(_CUSTOMERS)
        self._edits = 0

    async def match(self, customer: int, origin: str) -> OriginStrategy | None:
        """The strategy that reads `origin`; None: the default for its kind.

        Raises OriginUnavailable (origin_config) for a regex that cannot be used, or takes longer
        than allowed, before one that fits is found.
        """
        candidates = self._known.get(customer)
        if candidates is None:
            candidates = await self._read(customer)
        if not candidates:
            return None
        return await asyncio.to_thread(_first_match, candidates, origin, self._match_timeout_s)

    async def _read(self, customer: int) -> tuple[_Candidate, ...]:
        edits = self._edits
        try:
            found = await self._repository.list(customer)
        except CatalogUnavailable:
            stale = self._last.get(customer)
            if stale is None:
                raise
            return stale  # sources at origins are delivered while the database is away
        candidates = await asyncio.to_thread(_compiled, found)
        if edits == self._edits:  # else it may be older than what was changed meanwhile
            self._known[customer] = self._last[customer] = candidates
        return candidates

    async def list(self, customer: int) -> list[OriginStrategy]:
        """The customer's strategies in their order. Their credentials are sealed: show `MASK`."""
        return await self._repository.list(customer)

    async def get(self, customer: int, strategy: UUID) -> OriginStrategy:
        """This strategy of this customer. Raises NotFound."""
        return await self._repository.get(customer, strategy)

    async def create(self, customer: int, given: StrategyInput) -> OriginStrategy:
        """Store a new strategy. Raises InvalidInput, Conflict (same regex), NotFound (customer)."""
        draft = await asyncio.to_thread(self._draft, customer, given, None)
        return await self._edited(customer, self._repository.create(customer, draft))

    async def replace(self, customer: int, strategy: UUID, given: StrategyInput) -> OriginStrategy:
        """Make the strategy what is given. Raises InvalidInput, Conflict, NotFound."""
        await asyncio.to_thread(check_regex, given.regex)
        return await self._edited(
            customer,
            self._repository.change(
                customer, strategy, lambda before: self._draft(customer, given, before, probe=False)
            ),
        )

    async def patch(
        self, customer: int, strategy: UUID, changes: StrategyChanges
    ) -> OriginStrategy:
        """Change what is given of the strategy. Raises InvalidInput, Conflict, NotFound.

        One that is no longer read from a bucket or a file is not optimised any more.
        """
        if changes.regex is not None:
            await asyncio.to_thread(check_regex, changes.regex)

        def edit(before: OriginStrategy) -> StrategyDraft:
            given = _merged(before, changes)
            return self._draft(customer, given, before, probe=False)

        return await self._edited(customer, self._repository.change(customer, strategy, edit))

    async def delete(self, customer: int, strategy: UUID) -> None:
        """Forget the strategy and its credentials. Raises NotFound."""
        await self._edited(customer, self._repository.delete(customer, strategy))

    def forget(self, customer: int) -> None:
        """Read the customer's strategies again at the next match."""
        self._edits += 1
        self._known.pop(customer, None)
        self._last.pop(customer, None)

    async def reseal(self) -> int:
        """Seal all credentials with the newest key; returns how many there were. Raises
        OriginUnavailable when one cannot be opened; those before it are sealed anew.
        """
        count = 0
        for each in await self._repository.all():
            if not each.credentials or self._credentials.is_linked(each.credentials):
                continue
            try:
                await self._repository.change(each.customer, each.id, self._resealed)
            except NotFound:
                continue  # deleted meanwhile
            count += 1
        return count

    def _resealed(self, before: OriginStrategy) -> StrategyDraft:
        return StrategyDraft(
            before.regex,
            before.strategy,
            self._credentials.vault.reseal(before.credentials),
            before.optimised,
            before.place,
        )

    async def _edited(self, customer: int, work: Awaitable[T]) -> T:
        try:
            return await work
        finally:
            self.forget(customer)

    def _draft(
        self,
        customer: int,
        given: StrategyInput,
        before: OriginStrategy | None,
        *,
        probe: bool = True,
    ) -> StrategyDraft:
        kind = kind_of(given.strategy)
        check_regex(given.regex, probe=probe)
        if given.optimised and kind not in MAY_BE_OPTIMISED:
            raise InvalidInput(
                f"Origins read by {kind} cannot be optimised; those in buckets and files can."
            )
        if not 0 <= given.place <= MAX_PLACE:
            raise InvalidInput(f"place is from 0 to {MAX_PLACE}.")
        column = self._column(customer, given, kind, before)
        return StrategyDraft(given.regex, kind, column, given.optimised, given.place)

    def _column(
        self, customer: int, given: StrategyInput, kind: Kind, before: OriginStrategy | None
    ) -> str:
        """What the catalogue is to hold as the credentials."""
        text = _text_of(given.credentials)
        keeps = text in (None, MASK)
        if kind not in _MAY_HAVE_CREDENTIALS:
            if not keeps and text:
                raise InvalidInput(f"The strategy {kind} takes no credentials.")
            return ""
        if keeps:
            kept = before.credentials if before is not None and before.strategy == kind else ""
            if not kept and kind in _NEED_CREDENTIALS:
                raise InvalidInput(f"The strategy {kind} needs credentials.")
            return kept
        assert text is not None  # noqa: S101  says to mypy what `keeps` is
        if text.startswith("s3://"):
            self._credentials.check_link(customer, text)
        elif text or kind in _NEED_CREDENTIALS:
            check_credentials(kind, parse_credentials(text))
        return self._credentials.vault.seal(text)


def kind_of(name: str) -> Kind:
    """The strategy of this name, in any of its spellings. Raises InvalidInput."""
    plain = name.strip().lower()
    try:
        return _ALIASES.get(plain) or Kind(plain)
    except ValueError as error:
        known = ", ".join(Kind)
        raise InvalidInput(
            f"There is no origin strategy {name[:100]!r}; there are: {known}."
        ) from error


def check_regex(pattern: str, *, probe: bool = True) -> None:
    """Raise InvalidInput unless the regex compiles, is not too long, and (`probe`) is not slow with
    ordinary addresses. Blocking, for at most 0.2 s.
    """
    if not pattern or len(pattern) > MAX_REGEX_CHARS or "\0" in pattern:
        raise InvalidInput(f"A regex has 1 to {MAX_REGEX_CHARS} characters.")
    try:
        compiled = _compile(pattern)
    except _BROKEN as error:
        raise InvalidInput(f"The regex cannot be used: {error}.") from error
    if not probe:
        return
    for address in _PROBES:
        try:
            compiled.search(address, timeout=0.1, concurrent=True)
        except (TimeoutError, MemoryError) as error:
            raise InvalidInput(
                "The regex takes too long; avoid a repetition inside a repetition."
            ) from error


def check_credentials(kind: Kind, credentials: Credentials) -> None:
    """Raise InvalidInput unless these credentials have what the strategy needs."""
    for name in _FIELDS.get(kind, ()):
        if not any(credentials[choice] for choice in name.split(" or ")):
            raise InvalidInput(f"The credentials of the strategy {kind} need {name}.")


_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.BASIC: ("user", "password"),
    Kind.S3: ("access_key", "secret_key"),
    Kind.SFTP: ("user", "password or private_key"),
    Kind.FTP: ("user", "password"),
}

_BROKEN = (regex.error, RecursionError, MemoryError, OverflowError, ValueError)


def _compile(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE | regex.VERSION0)


def _compiled(found: list[OriginStrategy]) -> tuple[_Candidate, ...]:
    candidates = []
    for strategy in found:
        pattern: regex.Pattern[str] | None
        try:
            pattern = _compile(strategy.regex)
        except _BROKEN:
            pattern = None
        candidates.append(_Candidate(strategy, pattern))
    return tuple(candidates)


def _first_match(
    candidates: tuple[_Candidate, ...], origin: str, timeout_s: float
) -> OriginStrategy | None:
    """In a thread: `concurrent` lets the others run while a slow regex is tried.

    The package counts the processor's time, and all threads' of it: one that ran out on a busy
    machine is tried once more, with patience, before it is called unusable. All together may take
    twenty times `timeout_s`.
    """
    deadline = time.monotonic() + 20 * timeout_s
    for candidate in candidates:
        if candidate.pattern is None:
            raise _unusable(candidate.strategy, "is not a valid regular expression")
        if _fits(candidate, origin, timeout_s, deadline):
            return candidate.strategy
    return None


def _fits(candidate: _Candidate, origin: str, timeout_s: float, deadline: float) -> bool:
    cause: BaseException | None = None
    for patience_s in (timeout_s, 4 * timeout_s):
        if cause is not None and time.monotonic() > deadline:
            break
        try:
            assert candidate.pattern is not None  # noqa: S101  the caller looked
            return bool(candidate.pattern.search(origin, timeout=patience_s, concurrent=True))
        except (TimeoutError, MemoryError) as error:
            cause = error
    raise _unusable(candidate.strategy, "takes too long") from cause


def _unusable(strategy: OriginStrategy, why: str) -> OriginUnavailable:
    return OriginUnavailable(
        f"The regex of the origin strategy {strategy.id} {why}.",
        retryable=False,
        code="origin_config",
    )


def _merged(before: OriginStrategy, changes: StrategyChanges) -> StrategyInput:
    strategy = before.strategy if changes.strategy is None else changes.strategy
    optimised = changes.optimised
    if optimised is None:
        optimised = before.optimised and kind_of(strategy) in MAY_BE_OPTIMISED
    return StrategyInput(
        regex=before.regex if changes.regex is None else changes.regex,
        strategy=strategy,
        credentials=changes.credentials,
        optimised=optimised,
        place=before.place if changes.place is None else changes.place,
    )


def _text_of(given: str | Mapping[str, object] | None) -> str | None:
    if given is None:
        return None
    return given.strip() if isinstance(given, str) else json.dumps(dict(given))
