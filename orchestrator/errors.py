"""Every error the product raises on purpose. They know nothing of HTTP: `web/errors.py` maps each
to a status.

`public` is the sentence a stranger may read: it names the parameter at fault and how to mend it,
and never a path, a class or an address. What else is worth knowing goes to the log as the error's
cause (`raise ... from`).
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """Root of all our errors; `public` is safe to show to any client."""

    def __init__(self, public: str) -> None:
        super().__init__(public)
        self.public = public


class InvalidImageRequest(OrchestratorError):
    """The request cannot be understood or cannot be met by any image: syntax, zero sizes, regions
    outside, over the limits.
    """

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


class SettingsError(OrchestratorError):
    """The settings as a whole cannot be used; `public` holds every fault, one a line."""


class NotFound(OrchestratorError):
    """The thing asked for does not exist."""


class AssetNotFound(NotFound):
    """No such asset, or it has nothing that could be served."""


class ObjectNotFound(NotFound):
    """The object store has nothing under this key."""


class PreconditionFailed(OrchestratorError):
    """A conditional write or read whose condition does not hold (ETag differs, key already
    exists).
    """


class NotAuthorised(OrchestratorError):
    """A right is missing that a credential could give (401)."""


class Forbidden(OrchestratorError):
    """The credential is understood and does not give this right (403)."""


class Conflict(OrchestratorError):
    """The thing to be created exists already."""


class Overloaded(OrchestratorError):
    """A bounded pool or queue is full; try again after `retry_after_s` seconds."""

    def __init__(self, public: str, retry_after_s: float = 1.0) -> None:
        super().__init__(public)
        self.retry_after_s = retry_after_s


class Unavailable(OrchestratorError):
    """A part we depend on (database, object store, image server) does not answer now; retrying
    later can help.
    """


class StorageUnavailable(Unavailable):
    """The object store does not answer, or answers with an error of its own."""


class CatalogUnavailable(Unavailable):
    """The database does not answer."""


class ImageServerUnavailable(Unavailable):
    """The image server refused, timed out, or sent bytes that do not verify."""


class OriginUnavailable(Unavailable):
    """The customer's origin could not be read; `public` says why (status, time-out, refused
    address).
    """

    def __init__(self, public: str, *, retryable: bool = True) -> None:
        """`retryable`: asking again later can help (a 503, a time-out), or cannot (a 404, a
        refused address).
        """
        super().__init__(public)
        self.retryable = retryable


class SourceChanged(Unavailable):
    """The bytes at the source's location are not those the asset's version was recorded with."""


class Unprocessable(OrchestratorError):
    """The image is broken, of a kind we do not read, or hostile; trying again cannot help."""


class DecodeTimeout(Unprocessable):
    """Decoding took longer than `imaging.decode_timeout_s`; the worker process was ended."""


class TooLarge(OrchestratorError):
    """The image or body is over a stated bound (pixels, bytes, memory)."""


class NoRoom(OrchestratorError):
    """No disk space could be reserved within quota and free-space floor."""
