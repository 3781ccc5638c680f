"""Which roles a service gives to a user."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.settings import Auth, AuthService
from orchestrator.sign_in.access_rules import (
    access_services_of,
    common_roles,
    is_in_networks,
    openid_roles,
)


def a_service(*roles: str, **values: Any) -> AuthService:
    fields = {"name": "staff", "label": "Library", "kind": "openid", "roles": list(roles)}
    return AuthService.model_validate({**fields, **values})


@pytest.mark.parametrize(
    ("given", "limit", "roles"),
    [
        (["staff", "admin"], ["staff"], {"staff"}),
        (["reader"], ["staff"], set()),
        (["*"], ["staff", "reader"], {"staff", "reader"}),
        (["staff"], ["*"], {"staff"}),
        (["*"], ["*"], {"*"}),
    ],
)
def test_a_user_gets_the_roles_that_user_and_service_have(
    given: list[str], limit: list[str], roles: set[str]
) -> None:
    assert common_roles(given, a_service(*limit)) == roles


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"groups": ["library", "else"]}, {"staff"}),
        ({"groups": "library"}, {"staff"}),
        ({"groups": ["admins"]}, set()),  # the service does not give it
        ({"groups": [None, 7, {}]}, set()),
        ({"groups": {"library": True}}, set()),
        ({}, set()),
    ],
)
def test_the_values_of_the_claim_are_mapped(claims: dict[str, Any], roles: set[str]) -> None:
    mapping = {"library": ["staff"], "admins": ["admin"]}
    settings = Auth(openid_roles_claim="groups", openid_roles=mapping)
    assert openid_roles(settings, a_service("staff"), claims) == roles


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["library"]}}),
        ("https://example.org/roles", {"https://example.org/roles": ["library"]}),
    ],
)
def test_a_claim_may_be_in_an_object_or_have_dots_in_its_name(
    name: str, claims: dict[str, Any]
) -> None:
    settings = Auth(openid_roles_claim=name, openid_roles={"library": ["staff"]})
    assert openid_roles(settings, a_service("staff"), claims) == {"staff"}


def test_without_a_mapping_every_user_of_the_provider_gets_the_roles() -> None:
    assert openid_roles(Auth(), a_service("staff", "reader"), {}) == {"staff", "reader"}


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::7", True),
        ("11.0.0.1", False),
        ("2001:db9::7", False),
        ("", False),
        ("nowhere", False),
    ],
)
def test_an_address_is_in_a_network(address: str, is_inside: bool) -> None:
    assert is_in_networks(address, ["10.0.0.0/8", "2001:db8::/32"]) is is_inside


def test_services_are_described_in_the_order_of_the_settings() -> None:
    services = [a_service("a", name="one"), a_service("b", name="two", kind="kiosk", customer=7)]
    described = access_services_of(Auth(services=services, language="cy"))
    assert [(each.name, each.kind, each.customer) for each in described] == [
        ("one", "login", None),
        ("two", "kiosk", 7),
    ]
    assert described[0].texts.language == "cy"
