"""How long single-flight repeats each kind of failure."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    AssetNotFound,
    ImageServerUnavailable,
    InvalidInput,
    Overloaded,
    SourceChanged,
    StorageUnavailable,
    Unprocessable,
)
from orchestrator.routing.failure_lifetimes import FailureLifetimes

LIFETIMES = FailureLifetimes(missing_s=1, unavailable_s=2, broken_s=3)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AssetNotFound("missing"), 1),
        (StorageUnavailable("away"), 2),
        (ImageServerUnavailable("away"), 2),
        (Unprocessable("broken"), 3),
        (SourceChanged("replaced"), 0),
        (Overloaded("busy", 1), 0),
        (InvalidInput("wrong"), 0),
        (RuntimeError("a fault of ours"), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_failures_that_a_retry_would_repeat_are_kept(error: Exception, seconds: float) -> None:
    assert LIFETIMES.lifetime_s(error) == seconds
