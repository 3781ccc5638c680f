"""Every error the product raises on purpose. They know nothing of HTTP: `web/error_table.py` maps
each to a status.

`public` is the sentence a stranger may read: it names the parameter at fault and how to mend it,
and never a path, a class or an address. What else is worth knowing goes to the log as the error's
cause (`raise ... from`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class OrchestratorError(Exception):
    """Root of all our errors; `public` is safe to show to any client."""

    code: str = "internal"
    """What scripts read: one word for the kind of error, the same in API answers, jobs and logs."""
    passing: ClassVar[bool] = False
    """True for a kind that may pass by itself: the same work, tried later, can succeed."""
    stage: str = ""
    """Of an ingest that failed: what was being done (see Fault)."""

    def __init__(self, public: str) -> None:
        super().__init__(public)
        self.public = public


class InvalidImageRequest(OrchestratorError):
    """The request cannot be understood or cannot be met by any image: syntax, zero sizes, regions
    outside, over the limits.
    """

    code = "invalid_image_request"

    def __init__(self, parameter: str, public: str) -> None:
        """`parameter` is one of region, size, rotation, quality, format, identifier, version,
        path.
        """
        super().__init__(public)
        self.parameter = parameter


class InvalidInput(OrchestratorError):
    """A private-port body, a command's argument or a token that does not parse; says what to
    change.
    """

    code = "invalid_input"
    faults: tuple[str, ...] = ()

    def __init__(self, public: str, *, faults: Sequence[str] = ()) -> None:
        """`faults`: what is wrong one by one, where there is more than one sentence can say."""
        super().__init__(public)
        if faults:
            self.faults = tuple(faults)


class SettingsError(OrchestratorError):
    """The settings as a whole cannot be used; `public` holds every fault, one a line."""

    code = "settings"


class NotFound(OrchestratorError):
    """The thing asked for does not exist."""

    code = "not_found"


class AssetNotFound(NotFound):
    """No such asset, or it has nothing that could be served."""

    code = "asset_not_found"


class ObjectNotFound(NotFound):
    """The object store has nothing under this key."""

    code = "object_not_found"


class PreconditionFailed(OrchestratorError):
    """A conditional write or read whose condition does not hold (ETag differs, key already
    exists).
    """

    code = "precondition_failed"


class NotAuthorised(OrchestratorError):
    """A right is missing that a credential could give (401)."""

    code = "not_authorised"


class KeyRequired(NotAuthorised):
    """An API key is missing or is none (any more)."""

    code = "key_required"


class Forbidden(OrchestratorError):
    """The credential is understood and does not give this right (403)."""

    code = "forbidden"


class Conflict(OrchestratorError):
    """The thing to be created exists already."""

    code = "conflict"
    passing = True


class Overloaded(OrchestratorError):
    """A bounded pool or queue is full; try again after `retry_after_s` seconds."""

    code = "overloaded"
    passing = True

    def __init__(self, public: str, retry_after_s: float = 1.0) -> None:
        super().__init__(public)
        self.retry_after_s = retry_after_s


class Unavailable(OrchestratorError):
    """A part we depend on (database, object store, image server) does not answer now; retrying
    later can help.
    """

    code = "unavailable"
    passing = True


class StorageUnavailable(Unavailable):
    """The object store does not answer, or answers with an error of its own."""

    code = "storage_unavailable"


class CatalogUnavailable(Unavailable):
    """The database does not answer."""

    code = "catalogue_unavailable"


class QueueUnavailable(Unavailable):
    """The queue that announces work (SQS) does not answer."""

    code = "queue_unavailable"


class ImageServerUnavailable(Unavailable):
    """The image server refused, timed out, or sent bytes that do not verify."""

    code = "image_server_unavailable"


class OriginUnavailable(Unavailable):
    """The customer's origin could not be read; `public` says why (status, time-out, refused
    address).
    """

    code = "origin_unavailable"

    def __init__(
        self, public: str, *, retryable: bool = True, code: str = "origin_unavailable"
    ) -> None:
        """`retryable`: asking again later can help (a 503, a time-out), or cannot (a 404, a
        refused address); `code` tells one cause from another.
        """
        super().__init__(public)
        self.retryable = retryable
        self.code = code


class SourceChanged(Unavailable):
    """The bytes at the source's location are not those the asset's version was recorded with."""

    code = "source_changed"


class Unprocessable(OrchestratorError):
    """The image is broken, of a kind we do not read, or hostile; trying again cannot help."""

    code = "unprocessable"


class NotAnImage(Unprocessable):
    """The origin sent something that is plainly no picture: a web page, JSON, nothing at all."""

    code = "not_an_image"


class DecodeTimeout(Unprocessable):
    """Decoding took longer than `imaging.decode_timeout_s`; the worker process was ended."""

    code = "decode_timeout"


class TooLarge(OrchestratorError):
    """The image or body is over a stated bound (pixels, bytes, memory)."""

    code = "too_large"


class NoRoom(OrchestratorError):
    """No disk space could be reserved within quota and free-space floor."""

    code = "no_room"
    passing = True


class OverQuota(OrchestratorError):
    """The customer's storage quota has no room for this; nothing was stored."""

    code = "over_quota"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one piece of work failed, as it is recorded with the work and answered by the API."""

    code: str
    stage: str
    """What was being done: request, fetch, probe, convert, thumbnails, store, record ..."""
    retryable: bool
    """The same work, tried later, can succeed."""
    detail: str


def fault_of(error: BaseException, stage: str) -> Fault:
    """Describe an error of any kind; what is not one of ours is internal, and worth another try.
    `stage`: where it happened, unless the error knows better.
    """
    if not isinstance(error, OrchestratorError):
        return Fault("internal", stage, retryable=True, detail="Something broke; see the log.")
    retryable = error.retryable if isinstance(error, OriginUnavailable) else error.passing
    return Fault(error.code, error.stage or stage, retryable, error.public)
