"""Signed tokens: what they give, to whom, and for how long."""

from __future__ import annotations

import jwt
import pytest

from orchestrator.errors import InvalidInput
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights, SignedTokens
from tests.support.builders import an_asset

SECRET = "a secret of at least thirty-two bytes"


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> SignedTokens:
    return SignedTokens(SECRET, "orchestrator-token", clock)


def test_a_bearer_token_gives_its_roles(tokens):
    token = tokens.create(["staff", "reader"], 60)
    assert tokens.rights(f"Bearer {token}", {}) == Rights(frozenset({"staff", "reader"}))


def test_the_same_token_counts_as_a_cookie(tokens):
    token = tokens.create(["staff"], 60)
    assert tokens.rights("", {"orchestrator-token": token}).roles == {"staff"}


def test_a_bearer_token_goes_before_a_cookie(tokens):
    bearer, cookie = tokens.create(["a"], 60), tokens.create(["b"], 60)
    assert tokens.rights(f"bearer {bearer}", {"orchestrator-token": cookie}).roles == {"a"}


def test_a_token_ends_with_its_time(tokens, clock):
    token = tokens.create(["staff"], 60)
    clock.time += 59
    assert tokens.rights(f"Bearer {token}", {}).roles
    clock.time += 1
    assert tokens.rights(f"Bearer {token}", {}) == NO_RIGHTS


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x.y.z", "Basic dXNlcjpwYXNz", "Bearer " + "a" * 10_000],
)
def test_garbage_gives_no_rights_and_no_error(tokens, header):
    assert tokens.rights(header, {}) == NO_RIGHTS


def test_another_secret_or_no_signature_gives_nothing(tokens, clock):
    forged = SignedTokens("another secret that is long enough, too", "c", clock).create(
        ["staff"], 60
    )
    unsigned = jwt.encode({"roles": ["staff"], "exp": 2_000_000_000}, "", algorithm="none")
    assert tokens.rights(f"Bearer {forged}", {}) == NO_RIGHTS
    assert tokens.rights(f"Bearer {unsigned}", {}) == NO_RIGHTS


def test_a_token_without_expiry_is_none(tokens):
    eternal = jwt.encode({"roles": ["staff"]}, SECRET, algorithm="HS256")
    assert tokens.rights(f"Bearer {eternal}", {}) == NO_RIGHTS


@pytest.mark.parametrize(("roles", "seconds"), [([], 60), ([" "], 60), (["a"], 0), (["a"], -1)])
def test_a_token_needs_roles_and_time(tokens, roles, seconds):
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
def test_which_assets_rights_cover(held, asset_roles, covers):
    asset = an_asset(roles=asset_roles, max_unauthorised=100)
    assert Rights(frozenset(held)).cover(asset) is covers


def test_a_token_for_one_customer_opens_nothing_of_another():
    rights = Rights(frozenset({"staff"}), customer=2)
    assert not rights.cover(an_asset(roles=("staff",)))
