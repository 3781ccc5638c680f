"""Origin strategies as a caller gives them, and the checks they pass before they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import InvalidInput
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.origin_kinds import OPTIMISABLE, OriginKind, parse_kind

MAX_PLACE = 1_000_000
_REQUIRED_NAMES: Mapping[OriginKind, tuple[str, ...]] = {
    OriginKind.BASIC: ("user", "password"),
    OriginKind.S3: ("access_key", "secret_key"),
    OriginKind.SFTP: ("user", "password or private_key"),
    OriginKind.FTP: ("user", "password"),
}


@dataclass(frozen=True, slots=True)
class StrategyInput:
    """A whole origin strategy. `credentials` are a JSON object, as a mapping or as text, or a link
    `s3://[region/]bucket/key`; None or `xxx` keeps the stored ones.
    """

    regex: str
    strategy: str
    credentials: str | Mapping[str, object] | None = field(default=None, repr=False)
    optimised: bool = False
    place: int = 0

    @property
    def credentials_text(self) -> str | None:
        """The credentials as text; None when none are given."""
        if self.credentials is None:
            return None
        if isinstance(self.credentials, str):
            return self.credentials.strip()
        return json.dumps(dict(self.credentials))


@dataclass(frozen=True, slots=True)
class StrategyChanges:
    """Changes of an origin strategy; None leaves a field as it is."""

    regex: str | None = None
    strategy: str | None = None
    credentials: str | Mapping[str, object] | None = field(default=None, repr=False)
    optimised: bool | None = None
    place: int | None = None

    def apply_to(self, stored: OriginStrategy) -> StrategyInput:
        """Return the stored strategy with these changes. A new kind that cannot be optimised
        switches `optimised` off unless the changes set it. Raises InvalidInput.
        """
        strategy = stored.strategy if self.strategy is None else self.strategy
        optimised = self.optimised
        if optimised is None:
            optimised = stored.optimised and parse_kind(strategy) in OPTIMISABLE
        return StrategyInput(
            regex=stored.regex if self.regex is None else self.regex,
            strategy=strategy,
            credentials=self.credentials,
            optimised=optimised,
            place=stored.place if self.place is None else self.place,
        )


def check_options(kind: OriginKind, definition: StrategyInput) -> None:
    """Raise InvalidInput if this kind cannot be optimised or the place is out of range."""
    if definition.optimised and kind not in OPTIMISABLE:
        raise InvalidInput(
            f"Origins of the kind {kind} cannot be optimised. Only buckets and files can."
        )
    if not 0 <= definition.place <= MAX_PLACE:
        raise InvalidInput(f"The place must be from 0 to {MAX_PLACE}.")


def check_credentials(kind: OriginKind, credentials: Credentials) -> None:
    """Raise InvalidInput if the credentials lack a name that this kind needs."""
    for name in _REQUIRED_NAMES.get(kind, ()):
        if not any(credentials[choice] for choice in name.split(" or ")):
            raise InvalidInput(f"The credentials of the strategy {kind} need {name}.")
