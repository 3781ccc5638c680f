"""Who may change pictures: clients that know a secret; and from which sites scripts may."""

from __future__ import annotations

import hmac

from orchestrator.errors import Forbidden, NotAuthorised
from orchestrator.settings import Uploads


class UploadAccess:
    """Checks the secrets and origins of requests."""

    def __init__(self, settings: Uploads) -> None:
        self._secrets = [each.get_secret_value().encode() for each in settings.secrets]
        self._origins = frozenset(origin.rstrip("/") for origin in settings.allowed_origins)

    def check_secret(self, field: str, authorization: str) -> None:
        """Check the secret in a field of the request, or else in its Authorization header. Raises
        NotAuthorised if there is none, Forbidden for a wrong one. Takes the same time for each.
        """
        given = field or _bearer(authorization)
        if not given:
            raise NotAuthorised(
                "This needs a secret: send it in the field secret, or as Authorization: Bearer "
                "SECRET."
            )
        sent = given.encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(each, sent) for each in self._secrets]
        if not any(matches):
            raise Forbidden("Bad secret key.")

    def check_origin(self, origin: str) -> None:
        """Check the Origin header of a request. Raises Forbidden for a site that is not allowed."""
        if origin and self._origins and origin.rstrip("/") not in self._origins:
            raise Forbidden("Scripts of this site may not upload or change pictures here.")


def _bearer(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
