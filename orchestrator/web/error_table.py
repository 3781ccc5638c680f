"""The one table from our errors to HTTP statuses, and the one JSON shape of every error body.

Clients read the public sentence; the cause goes to the log, once, here. `tests/unit/web` walks
`OrchestratorError.__subclasses__()` so that no error is missing.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aiohttp import web

from orchestrator import errors
from orchestrator.errors import OrchestratorError
from orchestrator.exception_text import describe_error

log = logging.getLogger(__name__)
MAX_PUBLIC_CHARS = 600
MAX_FAULTS = 1000
"""Largest number of faults that are listed for one body; more are usually of the same kind."""
UNKNOWN = "An internal error occurred; the server log has the cause. Repeat the request later."
RETRY_AFTER_S = 2
PICTURE_STATUSES = frozenset({413, 415, 422})
"""Errors of which the image is the cause. Their code tells every client what is wrong with it."""
BRIEFLY_CACHED = frozenset({400, 404, 405, 410, 413, 414, 415, 422})


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """How one class of error is answered over HTTP."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="images"'),)
_KEY_CHALLENGE = (("WWW-Authenticate", 'Basic realm="api", charset="UTF-8", Bearer realm="api"'),)
"""Basic comes first: browsers read only the first scheme, and must ask the user of /admin for a
key.
"""
ORIGIN_STATUSES = {"origin_timeout": 504, "too_large": 422, "not_an_image": 422}
"""Statuses of origin errors whose code says more than that the origin failed (502)."""

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
    errors.Expired: ErrorMapping(410),
    errors.Conflict: ErrorMapping(409),
    errors.StateConflict: ErrorMapping(409),
    errors.Superseded: ErrorMapping(409),
    errors.Overloaded: ErrorMapping(503),
    errors.TooManyRequests: ErrorMapping(429),
    errors.ChecksumMismatch: ErrorMapping(460),  # as the checksum extension of tus 1.0 says
    errors.Unavailable: ErrorMapping(503),
    errors.StorageUnavailable: ErrorMapping(503),
    errors.StorageTimeout: ErrorMapping(503),
    errors.StorageFull: ErrorMapping(503),
    errors.CatalogUnavailable: ErrorMapping(503),
    errors.SchemaMismatch: ErrorMapping(503),
    errors.QueueUnavailable: ErrorMapping(503),
    errors.ImageServerUnavailable: ErrorMapping(503),
    errors.OriginUnavailable: ErrorMapping(502),
    errors.SourceChanged: ErrorMapping(503),
    errors.SourceMismatch: ErrorMapping(503),
    errors.Unprocessable: ErrorMapping(422),
    errors.Damaged: ErrorMapping(422),
    errors.Unsupported: ErrorMapping(422),
    errors.NotAnImage: ErrorMapping(422),
    errors.UnsupportedMedia: ErrorMapping(415),
    errors.OversizeImage: ErrorMapping(422),
    errors.DecodeFailed: ErrorMapping(422),
    errors.DecodeTimeout: ErrorMapping(422),
    errors.TooLarge: ErrorMapping(413),
    errors.BodyTooSlow: ErrorMapping(408),
    errors.NoRoom: ErrorMapping(503),
    errors.OverQuota: ErrorMapping(507),
}
"""Every class has its own row: a test fails for a subclass that has none."""

PUBLIC_TEXTS: Mapping[int, str] = {
    400: "The request is malformed. Check its syntax.",
    404: "There is nothing at this address. Check the path.",
    405: "This method is not allowed here. The Allow header lists the allowed methods.",
    408: "The request took too long to arrive. Send it again.",
    413: "The request body is too large. Send a smaller one.",
    414: "The address is too long. Send a shorter one.",
    415: "Send the body as application/json.",
    417: "The server does not support this Expect header. Leave it out.",
    431: "The headers of the request are too large. Send fewer or shorter headers.",
    500: UNKNOWN,
    503: "The server is busy. Repeat the request after the seconds of Retry-After.",
    504: "The request took too long. Repeat it later.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as clients receive it."""

    status: int
    public: str
    code: str = ""
    retryable: bool = False
    stage: str = ""
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    faults: tuple[str, ...] = ()


def make_problem(error: BaseException) -> Problem:
    """Return the answer to this exception. The text of an unknown exception is not shown."""
    match error:
        case OrchestratorError():
            return _from_our_error(error)
        case web.HTTPException():
            return _from_aiohttp_error(error)
        case TimeoutError():
            return Problem(
                504,
                PUBLIC_TEXTS[504],
                "timeout",
                retryable=True,
                headers=_retry_after(RETRY_AFTER_S),
            )
        case _:
            return Problem(500, UNKNOWN, "internal", retryable=errors.is_retryable(error))


def make_status_problem(status: int) -> Problem:
    """Return the answer to an error that has a status but no exception of ours: a broken HTTP
    message, too many connections.
    """
    text = PUBLIC_TEXTS.get(status, PUBLIC_TEXTS[400] if status < 500 else UNKNOWN)
    headers = _retry_after(RETRY_AFTER_S) if status == 503 else ()
    return Problem(status, text, f"http_{status}", retryable=status == 503, headers=headers)


def encode_problem(
    problem: Problem,
    request_id: str,
    *,
    private: bool = False,
    fields: Mapping[str, object] = MappingProxyType({}),
) -> bytes:
    """Return the JSON body: further `fields`, error, status, requestId; code if the image itself is
    the reason (413, 415, 422); on the private port always code, stage, retryable, detail, and
    `faults` if the request body has several.
    """
    document: dict[str, object] = {
        **fields,
        "error": problem.public[:MAX_PUBLIC_CHARS],
        "status": problem.status,
        "requestId": request_id,
    }
    if problem.status in PICTURE_STATUSES and problem.code:
        document["code"] = problem.code
    if private:
        document |= {
            "code": problem.code,
            "stage": problem.stage,
            "retryable": problem.retryable,
            "detail": problem.detail[:MAX_PUBLIC_CHARS],
        }
        if problem.faults:
            document["faults"] = problem.faults[:MAX_FAULTS]
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def error_cache_control(status: int, cache_error: str, cache_secret: str) -> str:
    """Return the Cache-Control of an error: `cache_error` for mistakes of the client, which may be
    cached for seconds, `cache_secret` for refusals and our failures, which may not.
    """
    return cache_error if status in BRIEFLY_CACHED else cache_secret


def log_problem(error: BaseException, problem: Problem, request_id: str, target: str) -> None:
    """Write one log line for a status of 500 and above, with the cause. Mistakes of clients are not
    logged.
    """
    if problem.status < 500:
        return
    is_expected = isinstance(error, OrchestratorError | TimeoutError)
    fields = {"request_id": request_id, "status": problem.status, "code": problem.code}
    if is_expected:
        log.warning(
            "request failed",
            extra=fields
            | {
                "target": target,
                "public": problem.public,
                "cause": describe_error(error.__cause__ or error),
            },
        )
    else:
        log.error("unexpected error", extra=fields | {"target": target}, exc_info=error)


def _from_our_error(error: OrchestratorError) -> Problem:
    row = ERROR_TABLE[next(kind for kind in type(error).__mro__ if kind in ERROR_TABLE)]
    status = row.status
    if isinstance(error, errors.OriginUnavailable):
        status = ORIGIN_STATUSES.get(error.code, status)
    retryable = errors.is_retryable(error)
    headers = row.headers
    if status in (429, 502, 503, 504) and retryable:
        headers += _retry_after(getattr(error, "retry_after_s", RETRY_AFTER_S))
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
    """Return the details for the private port. They never hold a library's message, which may name
    paths and addresses.
    """
    faults = getattr(error, "faults", ())
    return "\n".join(faults) if faults else error.public


def _from_aiohttp_error(error: web.HTTPException) -> Problem:
    """Return the answer to an error of aiohttp (404 and 405 of its router, 413, 417) without its
    text.
    """
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers = (("Allow", ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))),)
    elif 300 <= error.status < 400 and "Location" in error.headers:
        headers = (("Location", error.headers["Location"]),)
    text = PUBLIC_TEXTS.get(error.status) or (error.reason or PUBLIC_TEXTS[400])
    return Problem(error.status, text, f"http_{error.status}", headers=headers)


def _retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(max(1, math.ceil(seconds)))),)
