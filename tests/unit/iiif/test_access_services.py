"""The descriptions of access services have the shapes of their specifications."""

from __future__ import annotations

import pytest

from orchestrator.iiif.access_services import (
    CONTEXT_1,
    AccessAddresses,
    AccessService,
    AccessTexts,
    Kind,
    access_service,
    access_service_1,
    probe_service,
    services_for,
)

HERE = AccessAddresses("https://images.example.org", 7)


def a_service(kind: Kind = "login", name: str = "staff", **changes: object) -> AccessService:
    texts = AccessTexts("Sign in at the library", "Staff only", note="Ask at the desk.")
    values = {"roles": frozenset({"staff"}), "texts": texts, **changes}
    return AccessService(name, kind, **values)  # type: ignore[arg-type]  # of the right types


def test_a_probe_service_has_access_services_with_a_token_and_a_logout_service() -> None:
    assert probe_service(HERE, (1, "a/b c"), [a_service()]) == {
        "id": "https://images.example.org/auth/v2/probe/7/1/a%2Fb%20c",
        "type": "AuthProbeService2",
        "profile": "probe",
        "service": [
            {
                "id": "https://images.example.org/auth/v2/access/7/staff",
                "type": "AuthAccessService2",
                "profile": "active",
                "label": {"en": ["Sign in at the library"]},
                "heading": {"en": ["Staff only"]},
                "note": {"en": ["Ask at the desk."]},
                "service": [
                    {
                        "id": "https://images.example.org/auth/v2/access/7/token",
                        "type": "AuthAccessTokenService2",
                    },
                    {
                        "id": "https://images.example.org/auth/v2/access/7/staff/logout",
                        "type": "AuthLogoutService2",
                        "label": {"en": ["Sign out"]},
                    },
                ],
            }
        ],
    }


def test_a_stub_has_ids_and_types_only() -> None:
    [access] = probe_service(HERE, (1, "a"), [a_service()], stub=True)["service"]
    assert set(access) == {"id", "type"}


def test_a_service_of_version_1_has_its_context_and_profiles() -> None:
    service = access_service_1(HERE, a_service())
    assert service["@context"] == CONTEXT_1
    assert service["@id"] == "https://images.example.org/auth/7/staff"
    assert service["profile"] == "http://iiif.io/api/auth/1/login"
    assert (service["header"], service["description"]) == ("Staff only", "Ask at the desk.")
    assert "confirmLabel" not in service
    token, logout = service["service"]
    assert token["@id"] == "https://images.example.org/auth/7/token"
    assert token["profile"] == "http://iiif.io/api/auth/1/token"
    assert logout["@id"] == "https://images.example.org/auth/7/staff/logout"
    assert logout["profile"] == "http://iiif.io/api/auth/1/logout"


@pytest.mark.parametrize(
    ("kind", "profile"),
    [("login", "active"), ("clickthrough", "active"), ("kiosk", "kiosk"), ("external", "external")],
)
def test_each_kind_has_a_profile_in_both_versions(kind: Kind, profile: str) -> None:
    assert access_service(HERE, a_service(kind))["profile"] == profile
    assert access_service_1(HERE, a_service(kind))["profile"].endswith(f"/1/{kind}")


def test_an_external_service_has_no_address_and_no_logout_and_its_stub_is_whole() -> None:
    service = access_service(HERE, a_service("external"), stub=True)
    assert "id" not in service
    assert [each["type"] for each in service["service"]] == ["AuthAccessTokenService2"]
    assert "@id" not in access_service_1(HERE, a_service("external"))


def test_an_asset_has_the_services_that_give_one_of_its_roles() -> None:
    staff, readers = a_service(), a_service(name="readers", roles=frozenset({"reader"}))
    everything = a_service(name="all", roles=frozenset({"*"}))
    elsewhere = a_service(name="other", customer=8)
    services = [staff, readers, everything, elsewhere]
    assert services_for(services, 7, ["staff"]) == (staff, everything)
    assert services_for(services, 7, ["nothing"]) == (everything,)
    assert services_for(services, 7, []) == (staff, readers, everything)
    assert services_for(services, 8, ["staff"]) == (staff, everything, elsewhere)
