"""The access services of the settings: which roles they give, and to which origins a viewer's token
may be sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.iiif.access_services import ANY_ROLE, AccessService, AccessTexts, Kind
from orchestrator.settings import Auth, AuthService

_KINDS: dict[str, Kind] = {
    "password": "login",
    "openid": "login",
    "clickthrough": "clickthrough",
    "kiosk": "kiosk",
    "external": "external",
}


def access_services_of(settings: Auth) -> tuple[AccessService, ...]:
    """The services as documents describe them, in the order of the settings."""
    return tuple(
        AccessService(
            each.name,
            _KINDS[each.kind],
            frozenset(each.roles),
            AccessTexts(
                label=each.label,
                heading=each.heading,
                note=each.note,
                confirm_label=each.confirm_label,
                error_heading=each.error_heading,
                error_note=each.error_note,
                logout_label=each.logout_label,
                language=settings.language,
            ),
            each.customer,
        )
        for each in settings.services
    )


def common_roles(given: Iterable[str], service: AuthService) -> frozenset[str]:
    """The roles of a user that the service gives; `*` is every role of the other side."""
    roles, limit = frozenset(given), frozenset(service.roles)
    if ANY_ROLE in limit:
        return roles
    return limit if ANY_ROLE in roles else roles & limit


def openid_roles(settings: Auth, service: AuthService, claims: Mapping[str, Any]) -> frozenset[str]:
    """The roles of a user of the OpenID Connect provider with these claims."""
    if not settings.openid_roles:
        return frozenset(service.roles)
    values = _claim_values(claims, settings.openid_roles_claim)
    mapped = [role for value in values for role in settings.openid_roles.get(value, ())]
    return common_roles(mapped, service)


def is_in_networks(address: str, networks: Sequence[str]) -> bool:
    """True if this IP address is in one of the networks (CIDR)."""
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    client = getattr(client, "ipv4_mapped", None) or client
    return any(client in ipaddress.ip_network(each, strict=False) for each in networks)


def _claim_values(claims: Mapping[str, Any], path: str) -> list[str]:
    """The values of a claim: a text, or a list of texts. A dot leads into an object, unless a claim
    has the whole name: names of claims may be addresses.
    """
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
