"""Request and response models of bulk changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from orchestrator.catalog.jobs import Job, State
from orchestrator.ingest.bulk_changes import BulkAction, BulkProgress
from orchestrator.ingest.payload.fields import (
    Fields,
    Metadata,
    SpaceNumber,
    Text,
    as_tuple,
    whole_number,
)
from orchestrator.web.api.response_model import FaultOut, ResponseModel
from orchestrator.web.api.selection_models import AssetFilter

_MAX_LISTED = 1000


class BulkFilter(AssetFilter):
    """Which assets of the customer are changed; an absent property selects all. An asset must match
    every given property.
    """

    spaces: (
        Annotated[tuple[SpaceNumber, ...], Field(max_length=_MAX_LISTED), BeforeValidator(as_tuple)]
        | None
    ) = None
    """Assets in one of these spaces."""
    names: (
        Annotated[tuple[Text, ...], Field(max_length=_MAX_LISTED), BeforeValidator(as_tuple)] | None
    ) = None
    """Assets with one of these names."""

    @property
    def is_empty(self) -> bool:
        """True if it selects every asset."""
        return super().is_empty and self.spaces is None and self.names is None


class BulkIn(Fields):
    """One change of many assets."""

    action: BulkAction
    """`patch`: `change` is applied to each; `reingest`: each is ingested again; `delete`."""
    select: BulkFilter
    """The assets; `{}` selects all of the customer."""
    change: Metadata | None = None
    """The properties to set, for `patch`: rights and description."""
    dry_run: bool = False
    """True: count the assets, and change none."""
    expected: Annotated[int, Field(ge=0), BeforeValidator(whole_number)] | None = None
    """The number of assets, as a dry run counted them: 409 if it is another one now. Needed to
    delete all assets of a customer.
    """


class BulkCount(ResponseModel):
    """What a dry run counted."""

    action: BulkAction
    images: int


class BulkFailure(ResponseModel):
    """An asset that could not be changed."""

    image: str
    code: str
    detail: str


class BulkOut(ResponseModel):
    """A bulk change: a job, and how far it has come."""

    job: int
    customer: int
    action: BulkAction
    state: State
    """`queued` or `running` until it has ended; `/jobs/{job}/cancel` stops it between two assets,
    and `/jobs/{job}/retry` lets a cancelled or failed one go on.
    """
    total: int | None
    """Assets that the selection had when the job began; null before."""
    done: int
    changed: int
    unchanged: int
    """They had all values already."""
    superseded: int
    """Later requests changed or deleted them; they are left as they are."""
    failed: int
    failures: list[BulkFailure]
    """The first twenty."""
    batches: list[int]
    """The batches of the ingests that `reingest` submitted."""
    fault: FaultOut | None
    """Why the latest attempt failed."""
    created: datetime
    started: datetime | None
    finished: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the model of a job."""
        recorded: BulkProgress | None = None
        if job.progress is not None:
            recorded = BulkProgress.decode(job.progress)
        progress = recorded or BulkProgress(0)
        fields: dict[str, Any] = {
            name: getattr(job, name)
            for name in ("customer", "state", "fault", "created", "started", "finished")
        }
        counts = {
            name: getattr(progress, name)
            for name in ("done", "changed", "unchanged", "superseded", "failed")
        }
        return cls(
            job=job.id,
            action=job.payload["action"],
            total=recorded.total if recorded else None,
            failures=[BulkFailure(**each) for each in progress.failures],
            batches=list(progress.batches),
            **fields,
            **counts,
        )


class BulkList(ResponseModel):
    """A page of bulk changes, newest first."""

    bulk: list[BulkOut]
    next: str | None
