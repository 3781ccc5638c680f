"""Bulk work: one change of all assets of a selection, as the payload of a job, and how far it has
come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from orchestrator.catalog.asset_selection import Selection
from orchestrator.errors import Fault
from orchestrator.ingest.payload.fields import Metadata
from orchestrator.model import AssetId

BulkAction = Literal["patch", "reingest", "delete"]
ACTIONS: tuple[BulkAction, ...] = get_args(BulkAction)
AssetOutcome = Literal["changed", "unchanged", "superseded", "failed"]
MAX_FAILURES = 20
"""Failures that are recorded with their reasons; all are counted."""
_SELECTED = (
    "customer",
    "spaces",
    "names",
    "batches",
    "manifests",
    "strings",
    "numbers",
    "tags",
    "text",
)


@dataclass(frozen=True, slots=True)
class BulkWork:
    """What a job does to which assets; `change` for patch."""

    action: BulkAction
    selection: Selection
    change: Metadata | None = None

    def encode(self) -> dict[str, Any]:
        """Return the payload of the job."""
        selected = {name: getattr(self.selection, name) for name in _SELECTED}
        change = self.change
        return {
            "action": self.action,
            "selection": selected,
            "change": change and change.model_dump(mode="json", by_alias=True, exclude_none=True),
        }

    @classmethod
    def decode(cls, payload: Mapping[str, Any]) -> Self:
        """Return what `encode` was called for."""
        selected = _with_tuples(payload["selection"])
        change = payload["change"]
        return cls(
            payload["action"],
            Selection(**selected),
            None if change is None else Metadata.model_validate(change),
        )


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How many of `total` assets a job has handled, and with which outcome. It goes on behind
    `cursor`. `superseded`: a request after that of the job changed or deleted the asset.
    """

    total: int
    changed: int = 0
    unchanged: int = 0
    superseded: int = 0
    failed: int = 0
    cursor: str | None = None
    failures: tuple[dict[str, str], ...] = ()
    batches: tuple[int, ...] = ()
    """The batches of the ingests that reingest submitted."""

    @classmethod
    def decode(cls, recorded: Mapping[str, Any]) -> Self:
        """Return the progress that a job recorded."""
        return cls(**_with_tuples(recorded))

    def encode(self) -> dict[str, Any]:
        """Return the progress as JSON."""
        return asdict(self)

    @property
    def done(self) -> int:
        """Assets that were handled."""
        return self.changed + self.unchanged + self.superseded + self.failed

    def counted(self, outcome: AssetOutcome, number: int = 1) -> Self:
        """Return the progress after `number` more assets."""
        return replace(self, **{outcome: getattr(self, outcome) + number})

    def with_failure(self, asset: AssetId, fault: Fault) -> Self:
        """Return the progress after an asset that could not be changed."""
        failure = {"image": str(asset), "code": fault.code, "detail": fault.detail}
        return replace(self.counted("failed"), failures=(*self.failures, failure)[:MAX_FAILURES])


def _with_tuples(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a JSON object with lists as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in properties.items()
    }
