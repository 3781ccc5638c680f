"""Upload tokens and rates."""

from __future__ import annotations

import time

import jwt
import pytest

from orchestrator.errors import Forbidden, InvalidInput, NotAuthorised, TooManyRequests
from orchestrator.settings import Uploads
from orchestrator.uploads.upload_permits import UploadPermits, create_token

OLD, NEW = "old-secret-" * 4, "new-secret-" * 4


def permits(**settings: object) -> UploadPermits:
    return UploadPermits(Uploads.model_validate(settings), now=lambda: 0.0)


@pytest.mark.parametrize("secrets", [[OLD], [OLD, NEW]], ids=["one secret", "while it is replaced"])
def test_a_token_of_any_secret_permits_an_upload(secrets: list[str]) -> None:
    rules = permits(token_secrets=[OLD, NEW])
    rules.check(f"Bearer {create_token(secrets, 60)}", "192.0.2.1")
    rules.check(f"bearer  {create_token(secrets, 60)} ", "192.0.2.1")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"])
def test_an_upload_without_a_token_is_not_authorised(header: str) -> None:
    with pytest.raises(NotAuthorised):
        permits(token_secrets=[OLD]).check(header, "192.0.2.1")


def _signed(secret: str, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"aud": "upload", "exp": time.time() + 60} | claims, secret, algorithm)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(_signed(OLD, exp=time.time() - 1), id="expired"),
        pytest.param(_signed(NEW), id="another secret"),
        pytest.param(_signed(OLD, aud="images"), id="for something else"),
        pytest.param(jwt.encode({"aud": "upload"}, OLD, "HS256"), id="never expires"),
        pytest.param(jwt.encode({"exp": time.time() + 60}, OLD, "HS256"), id="for nothing"),
        pytest.param(_signed("", "none"), id="not signed"),
        pytest.param("a.b.c", id="no token"),
    ],
)
def test_a_token_that_is_not_valid_is_forbidden(token: str) -> None:
    with pytest.raises(Forbidden):
        permits(token_secrets=[OLD]).check(f"Bearer {token}", "192.0.2.1")


def test_without_secrets_uploads_need_no_token() -> None:
    permits().check("", "192.0.2.1")
    with pytest.raises(InvalidInput):
        create_token([], 60)


def test_an_address_may_begin_so_many_uploads_in_a_minute() -> None:
    now = [0.0]
    rules = UploadPermits(Uploads(rate_limit=6), now=lambda: now[0])
    for _ in range(6):
        rules.check("", "192.0.2.1")
    with pytest.raises(TooManyRequests) as refused:
        rules.check("", "192.0.2.1")
    assert refused.value.retry_after_s == pytest.approx(10)
    rules.check("", "192.0.2.2")
    now[0] += 10.1
    rules.check("", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        rules.check("", "192.0.2.1")


def test_one_network_of_ipv6_is_one_client() -> None:
    rules = permits(rate_limit=1)
    rules.check("", "2001:db8:1:2::1")
    with pytest.raises(TooManyRequests):
        rules.check("", "2001:db8:1:2:ffff::9")
    rules.check("", "2001:db8:1:3::1")
    rules.check("", "::ffff:192.0.2.1")
    with pytest.raises(TooManyRequests):
        rules.check("", "192.0.2.1")
