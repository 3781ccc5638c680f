"""How long single-flight repeats a failure to later callers, by the kind of the failure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import NotFound, SourceChanged, Unavailable, Unprocessable


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLifetimes:
    """Seconds for each kind of failure."""

    missing_s: float
    unavailable_s: float
    broken_s: float

    def lifetime_s(self, error: BaseException) -> float:
        """Seconds for which `error` is repeated. 0 for errors that must not be repeated: overload,
        changed sources, invalid requests.
        """
        match error:
            case SourceChanged():
                return 0.0
            case NotFound():
                return self.missing_s
            case Unavailable():
                return self.unavailable_s
            case Unprocessable():
                return self.broken_s
            case _:
                return 0.0
