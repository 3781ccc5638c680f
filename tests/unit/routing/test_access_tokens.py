"""Signed tokens: the rights they carry, and when they are valid."""

from __future__ import annotations

import time

import jwt
import pytest

from orchestrator.errors import InvalidInput
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights, SignedTokens
from tests.support.builders import an_asset

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
def tokens() -> SignedTokens:
    return SignedTokens(SECRET, "orchestrator-token")


def test_a_bearer_token_gives_its_roles(tokens):
    token = tokens.create(["staff", "reader"], 60)
    assert tokens.rights(f"Bearer {token}", {}) == Rights(frozenset({"staff", "reader"}))


def test_a_cookie_may_carry_the_token(tokens):
    token = tokens.create(["staff"], 60)
    assert tokens.rights("", {"orchestrator-token": token}).roles == {"staff"}


def test_a_bearer_token_has_precedence_over_a_cookie(tokens):
    bearer, cookie = tokens.create(["a"], 60), tokens.create(["b"], 60)
    assert tokens.rights(f"bearer {bearer}", {"orchestrator-token": cookie}).roles == {"a"}


def test_a_token_expires_at_the_second_that_it_names(tokens):
    before = int(time.time())
    claims = jwt.decode(tokens.create(["staff"], 60), options={"verify_signature": False})
    assert before + 60 <= claims["exp"] <= int(time.time()) + 60

    def rights_until(expires: float) -> Rights:
        token = jwt.encode({"roles": ["staff"], "exp": expires}, SECRET, algorithm="HS256")
        return tokens.rights(f"Bearer {token}", {})

    now = int(time.time())
    assert rights_until(now + 30).roles == {"staff"}
    assert rights_until(now) == NO_RIGHTS
    assert rights_until(now - 1) == NO_RIGHTS


def test_a_token_of_a_host_whose_clock_is_ahead_is_valid(tokens):
    now = int(time.time())
    claims = {"roles": ["staff"], "iat": now + 90, "exp": now + 3600}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    assert tokens.rights(f"Bearer {token}", {}).roles == {"staff"}


def test_a_token_of_version_0_1_is_still_valid(tokens):
    """Its claims are those that `orchestrator token` has always written."""
    claims = {"roles": ["staff"], "iat": 1_700_000_000, "exp": 4_000_000_000, "customer": 7}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    assert tokens.rights(f"Bearer {token}", {}) == Rights(frozenset({"staff"}), 7)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x.y.z", "Basic dXNlcjpwYXNz", "Bearer " + "a" * 10_000],
)
def test_an_invalid_header_gives_no_rights_and_no_error(tokens, header):
    assert tokens.rights(header, {}) == NO_RIGHTS


def test_a_token_with_another_signature_or_none_gives_no_rights(tokens):
    forged = SignedTokens("another secret that is long enough, too", "c").create(["staff"], 60)
    unsigned = jwt.encode({"roles": ["staff"], "exp": 2_000_000_000}, "", algorithm="none")
    assert tokens.rights(f"Bearer {forged}", {}) == NO_RIGHTS
    assert tokens.rights(f"Bearer {unsigned}", {}) == NO_RIGHTS


def test_a_token_without_an_expiry_time_gives_no_rights(tokens):
    eternal = jwt.encode({"roles": ["staff"]}, SECRET, algorithm="HS256")
    assert tokens.rights(f"Bearer {eternal}", {}) == NO_RIGHTS


@pytest.mark.parametrize(("roles", "seconds"), [([], 60), ([" "], 60), (["a"], 0), (["a"], -1)])
def test_a_token_needs_a_role_and_a_time_to_live(tokens, roles, seconds):
    with pytest.raises(InvalidInput):
        tokens.create(roles, seconds)


@pytest.mark.parametrize(
    ("held", "asset_roles", "covers"),
    [
        ({"staff"}, ("staff", "reader"), True),
        ({"reader"}, ("staff",), False),
        ({"*"}, ("staff",), True),
        ({"anything"}, (), True),
        (set(), (), False),
        (set(), ("staff",), False),
    ],
)
def test_rights_cover_assets_that_have_one_of_their_roles(held, asset_roles, covers):
    asset = an_asset(roles=asset_roles, max_unauthorised=100)
    assert Rights(frozenset(held)).cover(asset) is covers


def test_a_token_of_one_customer_covers_no_asset_of_another():
    rights = Rights(frozenset({"staff"}), customer=2)
    assert not rights.cover(an_asset(roles=("staff",)))
