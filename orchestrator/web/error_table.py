"""The one table from our errors to HTTP, and the one JSON shape of every error body.

Clients read the public sentence; the cause goes to the log, once, here. `tests/unit/web` walks
`OrchestratorError.__subclasses__()` so that nothing is unmapped.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from orchestrator import errors
from orchestrator.errors import OrchestratorError

log = logging.getLogger(__name__)
MAX_PUBLIC_CHARS = 600
MAX_FAULTS = 1000
"""Told of one body; who has more of them has one of a kind."""
UNKNOWN = "Something went wrong here; it has been noted."
RETRY_AFTER_S = 2
BRIEFLY_CACHED = frozenset({400, 404, 405, 410, 413, 414, 422})


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """What one class of error is over HTTP."""

    status: int
    retryable: bool = False
    headers: tuple[tuple[str, str], ...] = ()


_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="images"'),)
_KEY_CHALLENGE = (("WWW-Authenticate", 'Basic realm="api", charset="UTF-8", Bearer realm="api"'),)
"""Basic first: browsers read no further, and must ask whoever opens /admin for a key."""
ORIGIN_STATUSES = {"origin_timeout": 504, "too_large": 422, "not_an_image": 422}
"""Where the code of an origin's failure says more than that it failed (502)."""

ERROR_TABLE: dict[type[OrchestratorError], ErrorMapping] = {
    errors.OrchestratorError: ErrorMapping(500),
    errors.InvalidImageRequest: ErrorMapping(400),
    errors.InvalidInput: ErrorMapping(400),
    errors.SettingsError: ErrorMapping(500),
    errors.NotFound: ErrorMapping(404),
    errors.AssetNotFound: ErrorMapping(404),
    errors.ObjectNotFound: ErrorMapping(404),
    errors.PreconditionFailed: ErrorMapping(412),
    errors.NotAuthorised: ErrorMapping(401, headers=_CHALLENGE),
    errors.KeyRequired: ErrorMapping(401, headers=_KEY_CHALLENGE),
    errors.Forbidden: ErrorMapping(403),
    errors.Conflict: ErrorMapping(409),
    errors.Overloaded: ErrorMapping(503, retryable=True),
    errors.Unavailable: ErrorMapping(503, retryable=True),
    errors.StorageUnavailable: ErrorMapping(503, retryable=True),
    errors.CatalogUnavailable: ErrorMapping(503, retryable=True),
    errors.QueueUnavailable: ErrorMapping(503, retryable=True),
    errors.ImageServerUnavailable: ErrorMapping(503, retryable=True),
    errors.OriginUnavailable: ErrorMapping(502, retryable=True),
    errors.SourceChanged: ErrorMapping(503, retryable=True),
    errors.Unprocessable: ErrorMapping(422),
    errors.NotAnImage: ErrorMapping(422),
    errors.DecodeTimeout: ErrorMapping(422),
    errors.TooLarge: ErrorMapping(413),
    errors.NoRoom: ErrorMapping(503, retryable=True),
    errors.OverQuota: ErrorMapping(507),
}
"""Every class by itself: a subclass without a line of its own fails a test, not a client."""

PUBLIC_TEXTS: Mapping[int, str] = {
    400: "The request could not be understood.",
    404: "There is nothing at this address.",
    405: "This method is not allowed here.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    414: "The address is too long.",
    415: "Send the body as application/json.",
    417: "This expectation cannot be met.",
    431: "The request's headers are too large.",
    500: UNKNOWN,
    503: "Too busy just now; try again shortly.",
    504: "This took too long; try again shortly.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is answered."""

    status: int
    public: str
    code: str = ""
    retryable: bool = False
    stage: str = ""
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    faults: tuple[str, ...] = ()


def make_problem(error: BaseException) -> Problem:
    """What to answer for this exception; unknown ones say nothing of themselves."""
    match error:
        case OrchestratorError():
            return _ours(error)
        case web.HTTPException():
            return _of_aiohttp(error)
        case TimeoutError():
            return Problem(
                504, PUBLIC_TEXTS[504], "timeout", retryable=True, headers=_retry(RETRY_AFTER_S)
            )
        case _:
            return Problem(500, UNKNOWN, "internal")


def make_status_problem(status: int) -> Problem:
    """An error that has a status but no exception of ours: a broken HTTP message, a full house."""
    text = PUBLIC_TEXTS.get(status, PUBLIC_TEXTS[400] if status < 500 else UNKNOWN)
    headers = _retry(RETRY_AFTER_S) if status == 503 else ()
    return Problem(status, text, f"http_{status}", retryable=status == 503, headers=headers)


def encode_problem(problem: Problem, request_id: str, *, private: bool = False) -> bytes:
    """The JSON body: error, status, requestId; on the private port also code, stage, retryable,
    detail, and every single fault where the body was found to have several.
    """
    shape: dict[str, object] = {
        "error": problem.public[:MAX_PUBLIC_CHARS],
        "status": problem.status,
        "requestId": request_id,
    }
    if private:
        shape |= {
            "code": problem.code,
            "stage": problem.stage,
            "retryable": problem.retryable,
            "detail": problem.detail[:MAX_PUBLIC_CHARS],
        }
        if problem.faults:
            shape["faults"] = problem.faults[:MAX_FAULTS]
    return json.dumps(shape, ensure_ascii=False).encode("utf-8", "replace")


def error_cache_control(status: int, cache_error: str, cache_secret: str) -> str:
    """What may be remembered of an error: a client's mistake for seconds, refusals and failures not
    at all.
    """
    return cache_error if status in BRIEFLY_CACHED else cache_secret


def log_problem(error: BaseException, problem: Problem, request_id: str, target: str) -> None:
    """One line for a failure of ours, with its cause; a client's mistake is no event."""
    if problem.status < 500:
        return
    known = isinstance(error, OrchestratorError | TimeoutError)
    fields = {"request_id": request_id, "status": problem.status, "code": problem.code}
    if known:
        cause = error.__cause__
        log.warning(
            "request failed",
            extra=fields
            | {"target": target, "public": problem.public, "cause": repr(cause or error)},
        )
    else:
        log.error("unexpected error", extra=fields | {"target": target}, exc_info=error)


def _ours(error: OrchestratorError) -> Problem:
    meaning = ERROR_TABLE[next(kind for kind in type(error).__mro__ if kind in ERROR_TABLE)]
    status = meaning.status
    if isinstance(error, errors.OriginUnavailable):
        status = ORIGIN_STATUSES.get(error.code, status)
    retryable = bool(getattr(error, "retryable", meaning.retryable))
    headers = meaning.headers
    if status in (502, 503, 504) and retryable:
        headers += _retry(getattr(error, "retry_after_s", RETRY_AFTER_S))
    return Problem(
        status,
        UNKNOWN if status == 500 else error.public,
        error.code,
        retryable=retryable,
        stage=error.stage,
        detail=_detail(error),
        headers=headers,
        faults=tuple(getattr(error, "faults", ())),
    )


def _detail(error: OrchestratorError) -> str:
    """More for whoever holds a key: not what a library said, which may name paths and addresses."""
    faults = getattr(error, "faults", ())
    return "\n".join(faults) if faults else error.public


def _of_aiohttp(error: web.HTTPException) -> Problem:
    """Routing's own 404 and 405, a body over its bound, an Expect that cannot be met; never its
    text.
    """
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers = (("Allow", ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))),)
    elif 300 <= error.status < 400 and "Location" in error.headers:
        headers = (("Location", error.headers["Location"]),)
    text = PUBLIC_TEXTS.get(error.status) or (error.reason or PUBLIC_TEXTS[400])
    return Problem(error.status, text, f"http_{error.status}", headers=headers)


def _retry(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(max(1, math.ceil(seconds)))),)
