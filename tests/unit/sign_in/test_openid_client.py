"""ID tokens that the client must not accept, from a provider that lies in one way at a time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from joserfc.util import urlsafe_b64encode

from orchestrator.doctor import _CHECKS
from orchestrator.errors import Forbidden, Unavailable
from orchestrator.settings import Auth, Settings, load
from orchestrator.sign_in import openid_client
from orchestrator.sign_in.openid_client import OpenIdClient, PendingSignIn

KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one"})
SHARED = OctKey.import_key("a shared secret of at least thirty-two bytes")
BACK = "https://images.example.org/auth/openid/callback"


class Provider:
    """The provider; a test changes what it says."""

    def __init__(self) -> None:
        self.nonce = self.challenge = ""
        self.claims: dict[str, Any] = {}
        self.user_info: dict[str, Any] = {"sub": "grace"}
        self.metadata: dict[str, Any] = {}
        self.header = {"alg": "RS256", "kid": "one"}
        self.key: Any = KEY
        self.has_token = True
        self.is_hung = False
        self.released = asyncio.Event()
        self.requests: list[dict[str, str]] = []
        self.issuer = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.configuration)
        app.router.add_get("/keys", self.keys)
        app.router.add_post("/token", self.token)
        app.router.add_get("/user", self.user)
        return app

    async def configuration(self, _request: web.Request) -> web.Response:
        if self.is_hung:
            await self.released.wait()
        known = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/user",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }
        return web.json_response({**known, **self.metadata})

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [KEY.as_dict(private=False)]})

    async def token(self, request: web.Request) -> web.Response:
        fields = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append({**fields, "authorization": request.headers.get("Authorization", "")})
        digest = sha256(fields.get("code_verifier", "").encode()).digest()
        if fields["code"] != "good" or urlsafe_b64encode(digest).decode() != self.challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "images",
            "sub": "grace",
            "nonce": self.nonce,
            "iat": now,
            "exp": now + 60,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.header["alg"] == "none":
            parts = [
                urlsafe_b64encode(repr(each).replace("'", '"').encode()).decode()
                for each in (self.header, claims)
            ]
            text = ".".join([*parts, ""])
        else:
            text = jwt.encode(self.header, claims, self.key)
        answer = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 60}
        return web.json_response({**answer, **({"id_token": text} if self.has_token else {})})

    async def user(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer opaque"
        return web.json_response(self.user_info)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    async with TestServer(provider.app()) as server:
        provider.issuer = str(server.make_url("")).rstrip("/")
        yield provider


def client_of(provider: Provider, **settings: Any) -> OpenIdClient:
    values = {
        "openid_issuer": provider.issuer,
        "openid_client_id": "images",
        "openid_client_secret": "hidden",
        "openid_roles": {"library": ["staff"]},
    }
    return OpenIdClient(Auth.model_validate(values | settings))


async def sign_in(provider: Provider, client: OpenIdClient | None = None) -> dict[str, Any]:
    client = client or client_of(provider)
    address, pending = await client.begin(BACK)
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert (query["state"], query["nonce"]) == (pending.state, pending.nonce)
    assert query["redirect_uri"] == BACK
    provider.nonce, provider.challenge = query["nonce"], query["code_challenge"]
    return await client.finish({"code": "good"}, PendingSignIn.of(pending.as_claims()))


async def test_the_claims_of_a_confirmed_user_are_returned(provider: Provider) -> None:
    provider.claims = {"roles": ["library"]}
    claims = await sign_in(provider)
    assert (claims["sub"], claims["roles"]) == ("grace", ["library"])
    assert provider.requests[0]["authorization"].startswith("Basic ")


async def test_a_public_client_sends_no_secret(provider: Provider) -> None:
    await sign_in(provider, client_of(provider, openid_client_secret=""))
    assert provider.requests[0]["authorization"] == ""
    assert provider.requests[0]["client_id"] == "images"


async def test_a_secret_is_sent_in_the_way_that_the_provider_reads(provider: Provider) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await sign_in(provider)
    assert provider.requests[0]["client_secret"] == "hidden"
    assert provider.requests[0]["authorization"] == ""


async def test_a_claim_that_the_token_has_not_is_read_from_the_user_information(
    provider: Provider,
) -> None:
    provider.user_info = {"sub": "grace", "roles": ["library"]}
    assert (await sign_in(provider))["roles"] == ["library"]
    provider.user_info = {"sub": "another", "roles": ["library"]}
    with pytest.raises(Forbidden):
        await sign_in(provider)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": None},
        {"aud": ["images", "another"], "azp": "another"},
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"sub": None},
        {"exp": 1_000_000_000},
        {"exp": None},
    ],
    ids=str,
)
async def test_a_token_for_something_else_is_refused(
    provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = {"roles": ["library"], **claims}
    with pytest.raises(Forbidden):
        await sign_in(provider)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "RS256", "kid": "one"}, OTHER_KEY),
        ({"alg": "HS256", "kid": "one"}, SHARED),
        ({"alg": "none"}, None),
    ],
    ids=["another key", "shared secret", "not signed"],
)
async def test_a_token_without_the_signature_of_the_provider_is_refused(
    provider: Provider, header: dict[str, str], key: Any
) -> None:
    provider.claims = {"roles": ["library"]}
    provider.header, provider.key = header, key
    with pytest.raises(Forbidden):
        await sign_in(provider)


async def test_without_a_token_of_the_user_there_is_no_sign_in(provider: Provider) -> None:
    provider.has_token = False
    with pytest.raises(Forbidden):
        await sign_in(provider)


async def test_a_code_is_worth_nothing_without_the_verifier_of_this_browser(
    provider: Provider,
) -> None:
    client = client_of(provider)
    _, pending = await client.begin(BACK)
    provider.nonce, provider.challenge = pending.nonce, "of another browser"
    with pytest.raises(Forbidden):
        await client.finish({"code": "good"}, pending)


@pytest.mark.parametrize("query", [{}, {"code": ""}, {"code": "bad"}, {"error": "access_denied"}])
async def test_a_return_without_a_code_is_refused(
    provider: Provider, query: dict[str, str]
) -> None:
    client = client_of(provider)
    _, pending = await client.begin(BACK)
    with pytest.raises(Forbidden):
        await client.finish(query, pending)


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example.org"}, {"authorization_endpoint": None}],
    ids=["another issuer", "no address"],
)
async def test_a_provider_that_describes_itself_wrongly_is_unavailable(
    provider: Provider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    with pytest.raises(Unavailable):
        await client_of(provider).begin(BACK)


async def test_a_provider_that_hangs_is_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openid_client, "TIMEOUT_S", 0.1)
    provider.is_hung = True
    with pytest.raises(Unavailable):
        await client_of(provider).begin(BACK)
    provider.is_hung = False
    provider.released.set()


async def test_a_provider_that_is_away_is_unavailable_until_it_is_back(provider: Provider) -> None:
    client = client_of(provider, openid_issuer="http://127.0.0.1:1")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await client.begin(BACK)


async def test_doctor_says_whether_the_provider_describes_itself(provider: Provider) -> None:
    check = _CHECKS["identity provider"]
    auth = Auth(openid_issuer=provider.issuer, openid_client_id="images")
    assert (await check(Settings(auth=auth))).status == "ok"
    assert (await check(Settings())).detail == "not configured"
    provider.metadata = {"issuer": "https://evil.example.org"}
    with pytest.raises(Unavailable):
        await check(Settings(auth=auth))


def test_the_settings_of_the_page_are_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "sign-in.md").read_text()
    [text] = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)
    file = tmp_path / "sign-in.toml"
    file.write_text(text)
    assert load(file, {"HOME": "/home/someone"}, {}).auth.services[0].kind == "openid"
