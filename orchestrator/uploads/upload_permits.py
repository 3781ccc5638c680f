"""Who may upload, and how often: signed tokens that expire, and a rate for each client address.

A token is a JWT (RFC 7519) signed with HS256. The rates are those of one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jwt

from orchestrator.client_budgets import ClientBudgets, network_of
from orchestrator.errors import Forbidden, InvalidInput, NotAuthorised
from orchestrator.settings import Uploads

ALGORITHM = "HS256"
AUDIENCE = "upload"
"""The claim `aud`: a token of another use of the same secret permits no upload."""


class UploadPermits:
    """The rules of one process."""

    def __init__(self, settings: Uploads, now: Callable[[], float] = time.monotonic) -> None:
        self._secrets = [secret.get_secret_value() for secret in settings.token_secrets]
        rate = settings.rate_limit
        refusal = f"This address may begin {rate} uploads in a minute. Try again later."
        self._budgets = ClientBudgets(rate, refusal, now) if rate else None

    def check(self, authorization: str, address: str) -> None:
        """Permit one upload. `authorization` is the header; `address` is the client's.

        Raises NotAuthorised without a token if one is needed, Forbidden for one that is not valid
        or has expired, TooManyRequests.
        """
        if self._secrets:
            _check_token(authorization, self._secrets)
        if self._budgets is not None:
            self._budgets.spend(network_of(address))


def create_token(secrets: Sequence[str], expires_s: float) -> str:
    """A token that permits uploads for `expires_s` seconds, signed with the last secret. Raises
    InvalidInput if there is no secret.
    """
    if not secrets:
        raise InvalidInput("There is no secret for upload tokens. Set uploads.token_secrets.")
    now = int(time.time())
    claims = {"aud": AUDIENCE, "iat": now, "exp": now + int(expires_s)}
    return jwt.encode(claims, secrets[-1], algorithm=ALGORITHM)


def _check_token(authorization: str, secrets: Sequence[str]) -> None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorised("Uploads need a token. Send it as Authorization: Bearer.")
    if not any(_is_valid(token.strip(), secret) for secret in secrets):
        raise Forbidden("The upload token is not valid, or has expired. Request a new one.")


def _is_valid(token: str, secret: str) -> bool:
    try:
        jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            # The clock of the host that created the token may be ahead of ours.
            options={"require": ["exp", "aud"], "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        return False
    return True
