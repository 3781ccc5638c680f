"""OpenID Connect (Core 1.0): the authorization code flow with PKCE, state and nonce, by Authlib.

This module is the only importer of Authlib. Its answers are claims of a user whom the configured
provider has confirmed for this client; everything else is an error.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import BaseApp
from authlib.integrations.base_client.async_app import AsyncOAuth2Mixin
from authlib.integrations.base_client.async_openid import AsyncOpenIDMixin
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc.errors import JoseError

from orchestrator.errors import Forbidden, Unavailable
from orchestrator.settings import Auth

TIMEOUT_S = 10
METADATA_S = 3_600
"""Seconds for which the metadata and the keys of the provider are used. A token with an unknown key
makes Authlib read the keys again at once.
"""
_SIGNATURES = ("RS", "PS", "ES", "Ed")
"""Algorithms by which the ID token may be signed: those with a public key, never `none` or one with
a shared secret.
"""
_REFUSED = "The identity provider did not confirm who you are. Close this window and sign in again."


class _Provider(AsyncOAuth2Mixin, AsyncOpenIDMixin, BaseApp):  # type: ignore[misc]  # untyped
    client_cls = AsyncOAuth2Client


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """What must be kept from the redirect to the provider until the user returns."""

    state: str
    nonce: str
    code_verifier: str
    redirect_uri: str

    def as_claims(self) -> dict[str, str]:
        """The values, for a signed cookie."""
        return asdict(self)

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> PendingSignIn:
        """The values of such a cookie."""
        return cls(*(str(claims[name]) for name in cls.__slots__))


class OpenIdClient:
    """The client of one provider."""

    def __init__(self, settings: Auth, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._provider: _Provider | None = None
        # Made once: it takes tens of milliseconds, and Authlib makes a client for each request.
        self._tls = ssl.create_default_context()
        self._read_at = 0.0

    async def begin(self, redirect_uri: str) -> tuple[str, PendingSignIn]:
        """The address of the provider to which the user is sent, and what to keep until the user
        returns to `redirect_uri`. Raises Unavailable.
        """
        with _translated_errors():
            provider = await self._load()
            made = await provider.create_authorization_url(redirect_uri)
        pending = PendingSignIn(made["state"], made["nonce"], made["code_verifier"], redirect_uri)
        return made["url"], pending

    async def finish(self, query: Mapping[str, str], pending: PendingSignIn) -> dict[str, Any]:
        """The claims of the user who returned with this query: those of the ID token, and those of
        the user information if the claim of roles is missing. The caller has compared `state`.

        Raises Forbidden if the provider did not confirm the user, and Unavailable.
        """
        code = query.get("code", "")
        if not code or "error" in query:
            raise Forbidden(_REFUSED)
        with _translated_errors():
            provider = await self._load()
            token = await provider.fetch_access_token(
                pending.redirect_uri, code=code, code_verifier=pending.code_verifier
            )
            claims = await provider.parse_id_token(
                token,
                nonce=pending.nonce,
                claims_options={
                    "iss": {"essential": True, "value": provider.server_metadata["issuer"]},
                    "aud": {"essential": True, "value": provider.client_id},
                },
            )
            if not claims:
                raise Forbidden(_REFUSED)
            return await self._complete(provider, token, dict(claims))

    async def _complete(
        self, provider: _Provider, token: dict[str, Any], claims: dict[str, Any]
    ) -> dict[str, Any]:
        wanted = self._settings.openid_roles_claim.partition(".")[0]
        has_more = "userinfo_endpoint" in provider.server_metadata
        if not self._settings.openid_roles or wanted in claims or not has_more:
            return claims
        more = await provider.userinfo(token=token)
        if more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, section 5.3.2
            raise Forbidden(_REFUSED)
        return {**more, **claims}

    async def _load(self) -> _Provider:
        """The provider with its metadata. Concurrent callers may read them twice, which is
        harmless.
        """
        provider = self._provider
        if provider is not None and self._now() - self._read_at < METADATA_S:
            return provider
        settings = self._settings
        issuer = settings.openid_issuer.rstrip("/")
        secret = settings.openid_client_secret.get_secret_value()
        provider = _Provider(
            framework=None,
            client_id=settings.openid_client_id,
            client_secret=secret or None,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(settings.openid_scopes),
                "code_challenge_method": "S256",
                "timeout": TIMEOUT_S,
                "verify": self._tls,
                "leeway": 0,  # the access token is used at once
                **({} if secret else {"token_endpoint_auth_method": "none"}),
            },
        )
        metadata = await provider.load_server_metadata()
        if str(metadata.get("issuer", "")).rstrip("/") != issuer:
            raise Unavailable("The identity provider is configured with another address.")
        signatures = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        metadata["id_token_signing_alg_values_supported"] = [
            name for name in signatures if name.startswith(_SIGNATURES)
        ] or ["RS256"]
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and "client_secret_basic" not in methods and "client_secret_post" in methods:
            provider.client_kwargs["token_endpoint_auth_method"] = "client_secret_post"  # noqa: S105  a name
        self._provider, self._read_at = provider, self._now()
        return provider


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise errors of the libraries as errors of ours."""
    try:
        yield
    except (AuthlibBaseError, JoseError) as error:
        raise Forbidden(_REFUSED) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, RuntimeError) as error:
        raise Unavailable(
            "The identity provider does not answer as expected. Try later."
        ) from error
