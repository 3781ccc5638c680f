"""Signed tokens: the rights they carry, and when they are valid."""

from __future__ import annotations

import time

import jwt
import pytest

from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId
from orchestrator.routing.access_tokens import (
    MAX_SESSIONS,
    NO_RIGHTS,
    Rights,
    Session,
    SignedTokens,
)
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


def a_session(customer: int = 1, service: str = "staff", **changes) -> Session:
    values = {"roles": frozenset({"staff"}), "expires": int(time.time()) + 60, **changes}
    return Session(service, customer, **values)


def cookies_of(tokens: SignedTokens, *sessions: Session) -> dict[str, str]:
    return {
        tokens.session_cookie(each.customer or 0, each.service): tokens.create_session(each)
        for each in sessions
    }


def test_the_cookies_of_several_sessions_give_the_rights_of_all(tokens):
    cookies = cookies_of(
        tokens, a_session(), a_session(2), a_session(service="readers", roles=frozenset({"reader"}))
    )
    cookies["orchestrator-token"] = tokens.create(["guest"], 60)
    rights = tokens.rights("", cookies)
    for customer, role, covers in (
        (1, "staff", True),
        (1, "reader", True),
        (2, "staff", True),
        (2, "reader", False),
        (3, "staff", False),
        (3, "guest", True),
    ):
        asset = an_asset(id=AssetId(customer, 1, "a"), roles=(role,))
        assert rights.cover(asset) is covers, (customer, role)


def test_a_session_is_read_as_it_was_created(tokens):
    session = a_session(origins=("https://viewer.example.org",), user="ada")
    assert tokens.sessions(cookies_of(tokens, session)) == [session]


def test_a_token_of_one_purpose_gives_no_rights_as_another(tokens):
    expires = int(time.time()) + 60
    session = tokens.create_session(a_session())
    viewer = tokens.create_viewer_token(frozenset({"staff"}), 1, expires)
    pending = tokens.sign("sign-in", {"roles": ["staff"]}, expires)
    for text in (session, pending):
        assert tokens.rights(f"Bearer {text}", {}, documents=True) == NO_RIGHTS
    for text in (session, viewer, pending):
        assert tokens.rights("", {"orchestrator-token": text}) == NO_RIGHTS
    plain = tokens.create(["staff"], 60)
    for text in (plain, viewer, pending):
        assert tokens.rights("", {"orchestrator-token-1-staff": text}) == NO_RIGHTS


def test_the_cookie_of_one_service_is_not_that_of_another(tokens):
    value = tokens.create_session(a_session())
    assert tokens.rights("", {"orchestrator-token-2-staff": value}) == NO_RIGHTS
    assert tokens.rights("", {"orchestrator-token-1-other": value}) == NO_RIGHTS


def test_the_token_of_a_viewer_shows_documents_and_no_images(tokens):
    viewer = tokens.create_viewer_token(frozenset({"staff"}), 1, int(time.time()) + 60)
    asset = an_asset(roles=("staff",))
    assert tokens.rights(f"Bearer {viewer}", {}, documents=True).cover(asset)
    assert not tokens.rights(f"Bearer {viewer}", {}).cover(asset)
    # A viewer that sends it with an image request gets the image by the cookie of the session.
    assert tokens.rights(f"Bearer {viewer}", cookies_of(tokens, a_session())).cover(asset)


def test_an_earlier_release_refuses_the_tokens_of_later_purposes(tokens):
    viewer = tokens.create_viewer_token(frozenset({"staff"}), 1, int(time.time()) + 60)
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(viewer, SECRET, algorithms=["HS256"])


def test_only_so_many_session_cookies_are_read(tokens):
    sessions = [a_session(number) for number in range(1, 40)]
    assert len(tokens.sessions(cookies_of(tokens, *sessions))) == MAX_SESSIONS
