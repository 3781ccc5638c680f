"""Every error that the product raises on purpose. The errors do not depend on HTTP:
`web/error_table.py` maps each class to a status.

`public` is a sentence that any client may read. It says what is wrong and what to do, and contains
no path, class or address of this installation. Other details go to the log as the cause of the
error (`raise ... from`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class OrchestratorError(Exception):
    """Base of all errors of the product; `public` may be shown to any client."""

    code: str = "internal"
    """The kind of error in one word, for programs; the same in API responses, jobs and logs."""
    passing: ClassVar[bool] = False
    """True if the same work can succeed when it is retried later."""
    stage: str = ""
    """The stage of the ingest that failed (see Fault)."""

    def __init__(self, public: str) -> None:
        super().__init__(public)
        self.public = public


class InvalidImageRequest(OrchestratorError):
    """The image request is invalid for every image: syntax, a size of zero, a region outside, over
    the limits.
    """

    code = "invalid_image_request"

    def __init__(self, parameter: str, public: str) -> None:
        """`parameter`: region, size, rotation, quality, format, identifier, version or path."""
        super().__init__(public)
        self.parameter = parameter


class InvalidInput(OrchestratorError):
    """A request body, an argument of a command or a token cannot be parsed."""

    code = "invalid_input"
    faults: tuple[str, ...] = ()

    def __init__(self, public: str, *, faults: Sequence[str] = ()) -> None:
        """`faults`: every fault, if there are several."""
        super().__init__(public)
        if faults:
            self.faults = tuple(faults)


class SettingsError(OrchestratorError):
    """The settings cannot be used; `public` has one line for each fault."""

    code = "settings"


class NotFound(OrchestratorError):
    """The requested thing does not exist."""

    code = "not_found"


class AssetNotFound(NotFound):
    """The asset does not exist, or has nothing to serve."""

    code = "asset_not_found"


class ObjectNotFound(NotFound):
    """The object store has no object with this key."""

    code = "object_not_found"


class PreconditionFailed(OrchestratorError):
    """The condition of a write or read does not hold: the ETag differs, or the key exists."""

    code = "precondition_failed"


class NotAuthorised(OrchestratorError):
    """The request needs a credential that it does not have (401)."""

    code = "not_authorised"


class KeyRequired(NotAuthorised):
    """The API key is missing, unknown or revoked."""

    code = "key_required"


class Forbidden(OrchestratorError):
    """The credential is valid and does not permit the request (403)."""

    code = "forbidden"


class Expired(OrchestratorError):
    """The signature was valid until a time that is over (410)."""

    code = "expired"


class Conflict(OrchestratorError):
    """Another request or process changes the same thing at this moment."""

    code = "conflict"
    passing = True


class Superseded(OrchestratorError):
    """A later request for the same asset was accepted, so this one is not carried out."""

    code = "superseded"

    def __init__(self) -> None:
        super().__init__(
            "A later change of the asset was accepted and replaces this one. Read the asset again."
        )


class StateConflict(Conflict):
    """The thing exists already, or its state does not permit the request. A retry fails, too."""

    passing = False


class Overloaded(OrchestratorError):
    """A pool or queue is full; a retry after `retry_after_s` seconds can succeed."""

    code = "overloaded"
    passing = True

    def __init__(self, public: str, retry_after_s: float = 1.0) -> None:
        super().__init__(public)
        self.retry_after_s = retry_after_s


class TooManyRequests(OrchestratorError):
    """The client sent more requests than it may; it may send the next one after `retry_after_s`
    seconds (429).
    """

    code = "too_many_requests"
    passing = True

    def __init__(self, public: str, retry_after_s: float) -> None:
        super().__init__(public)
        self.retry_after_s = retry_after_s


class ChecksumMismatch(OrchestratorError):
    """The bytes of a request do not have the checksum that the client announced."""

    code = "checksum_mismatch"
    passing = True


class Unavailable(OrchestratorError):
    """A service that the product needs (database, object store, image server) does not answer; a
    retry later can succeed.
    """

    code = "unavailable"
    passing = True


class StorageUnavailable(Unavailable):
    """The object store does not answer, or reports an internal error."""

    code = "storage_unavailable"


class StorageTimeout(StorageUnavailable):
    """The object store did not answer in time."""


class StorageFull(StorageUnavailable):
    """The disk of a filesystem store has no room."""

    code = "no_room"


class CatalogUnavailable(Unavailable):
    """The database does not answer."""

    code = "catalogue_unavailable"


class SchemaMismatch(CatalogUnavailable):
    """The tables of the database are those of another release."""


class QueueUnavailable(Unavailable):
    """The queue service (SQS) does not answer."""

    code = "queue_unavailable"


class ImageServerUnavailable(Unavailable):
    """The image server refused, timed out, or sent bytes that failed verification."""

    code = "image_server_unavailable"


class OriginUnavailable(Unavailable):
    """The origin could not be read; `public` says why (status, time-out, refused address)."""

    code = "origin_unavailable"

    def __init__(
        self, public: str, *, retryable: bool = True, code: str = "origin_unavailable"
    ) -> None:
        """`retryable`: True if a retry can succeed (503, time-out), False if not (404, refused
        address). `code` distinguishes the causes.
        """
        super().__init__(public)
        self.retryable = retryable
        self.code = code


class SourceChanged(Unavailable):
    """The bytes of the source are not those for which this version of the asset was recorded."""

    code = "source_changed"


class TooLarge(OrchestratorError):
    """The image or body exceeds a limit (pixels, bytes, memory)."""

    code = "too_large"


class BodyTooSlow(OrchestratorError):
    """The body of a request did not arrive in time (408)."""

    code = "body_too_slow"
    passing = True


class SourceMismatch(SourceChanged):
    """The decoder reads other dimensions than those recorded for the source: the file was replaced,
    or contradicts itself.
    """


class Unprocessable(OrchestratorError):
    """The image cannot be decoded; a retry cannot succeed. Only subclasses are raised: each has the
    code of one reason.
    """

    code = "unprocessable"


class Damaged(Unprocessable):
    """The image file is incomplete, or its content contradicts itself."""

    code = "damaged"


class Unsupported(Unprocessable):
    """The image file is whole, but has a property that is not supported. `public` names the
    property: "TIFF files with 24-bit float samples are not supported."
    """

    code = "unsupported"


class NotAnImage(Unprocessable):
    """The origin sent something that is not an image: a web page, JSON, an empty body."""

    code = "not_an_image"


class UnsupportedMedia(OrchestratorError):
    """NotAnImage as the answer to a request whose path names a file that is no picture (415)."""

    code = NotAnImage.code


class OversizeImage(Unprocessable):
    """TooLarge as the answer to a request that names the image: the request itself is not too
    large.
    """

    code = TooLarge.code


class DecodeFailed(Unprocessable):
    """The decode worker ended twice while it decoded the image. So the image may be damaged, or may
    trigger a fault of a decoder.
    """

    code = "decode_failed"


class DecodeTimeout(Unprocessable):
    """Decoding took more processor time than `imaging.decode_timeout_s`; the worker process was
    killed.
    """

    code = "decode_timeout"


class NoRoom(OrchestratorError):
    """No disk space could be reserved within the quota and the free-space floor."""

    code = "no_room"
    passing = True


class OverQuota(OrchestratorError):
    """The storage quota of the customer is exhausted; nothing was stored."""

    code = "over_quota"


_REFUSALS: tuple[type[OrchestratorError], ...] = (
    Damaged,
    Unsupported,
    NotAnImage,
    TooLarge,
    DecodeTimeout,
    DecodeFailed,
)


def refusal(code: str, public: str) -> OrchestratorError:
    """The error with this code that was recorded when a picture was refused."""
    return next((kind for kind in _REFUSALS if kind.code == code), Damaged)(public)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job or ingest failed, as it is recorded and returned by the API."""

    code: str
    stage: str
    """The stage that failed: request, fetch, probe, convert, thumbnails, store, record ..."""
    retryable: bool
    """True if a retry can succeed."""
    detail: str


def fault_of(error: BaseException, stage: str) -> Fault:
    """The fault that describes `error`. An error of another kind than OrchestratorError is internal
    and retryable. `stage` is used if the error names none.
    """
    if not isinstance(error, OrchestratorError):
        return Fault(
            "internal",
            stage,
            retryable=True,
            detail="An internal error occurred. The log has its cause.",
        )
    return Fault(error.code, error.stage or stage, is_retryable(error), error.public)


def is_retryable(error: BaseException) -> bool:
    """Whether the same work can succeed when it is retried: the one answer that the queue and the
    API give. A fault of the product itself is retried.
    """
    match error:
        case OriginUnavailable():
            return error.retryable
        case OrchestratorError():
            return error.passing
        case _:
            return True
