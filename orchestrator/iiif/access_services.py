"""The service descriptions of the IIIF Authorization Flow API 2.0 and the Authentication API 1.0:
they tell a viewer how its user gets access to a restricted image. Also the addresses they contain.

`web/sign_in/` answers at these addresses. A description contains nothing about the image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

CONTEXT_1 = "http://iiif.io/api/auth/1/context.json"
CONTEXT_2 = "http://iiif.io/api/auth/2/context.json"
ANY_ROLE = "*"
"""Among the roles of a service: it gives access to every restricted image of its customers."""

Kind = Literal["login", "clickthrough", "kiosk", "external"]
"""How a user gets access: the patterns of version 1.0. `login` and `clickthrough` are `active` in
version 2.0.
"""
_PROFILES_2: dict[Kind, str] = {
    "login": "active",
    "clickthrough": "active",
    "kiosk": "kiosk",
    "external": "external",
}
_PROFILE_1 = "http://iiif.io/api/auth/1/"


@dataclass(frozen=True, slots=True)
class AccessTexts:
    """What viewers show to their users; an empty text is left out. `language` is a BCP 47 tag."""

    label: str
    heading: str = ""
    note: str = ""
    confirm_label: str = ""
    error_heading: str = ""
    error_note: str = ""
    logout_label: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True)
class AccessService:
    """One way to get access: a name, which is a path segment, and the roles that it gives."""

    name: str
    kind: Kind
    roles: frozenset[str]
    texts: AccessTexts
    customer: int | None = None
    """The only customer that has this service; None for all customers."""


@dataclass(frozen=True, slots=True)
class AccessAddresses:
    """The addresses of the services of one customer. `base` is the public address of this server
    without a slash at its end.
    """

    base: str
    customer: int

    def probe(self, space: int, name: str) -> str:
        """The probe service of an asset."""
        return f"{self.base}/auth/v2/probe/{self.customer}/{space}/{quote(name, safe='')}"

    def access(self, service: str, *, version: int = 2) -> str:
        """The access service of this name."""
        return f"{self._root(version)}/{service}"

    def token(self, *, version: int = 2) -> str:
        """The token service, which all access services of the customer share."""
        return f"{self._root(version)}/token"

    def logout(self, service: str, *, version: int = 2) -> str:
        """The logout service of an access service."""
        return f"{self._root(version)}/{service}/logout"

    def _root(self, version: int) -> str:
        return f"{self.base}/auth{'/v2/access' if version == 2 else ''}/{self.customer}"


def services_for(
    services: Iterable[AccessService], customer: int, roles: Collection[str]
) -> tuple[AccessService, ...]:
    """The services that give access to an asset of this customer with these roles. An asset that is
    restricted without roles is open to every role.
    """
    return tuple(
        each
        for each in services
        if each.customer in (None, customer)
        and (not roles or ANY_ROLE in each.roles or not each.roles.isdisjoint(roles))
    )


def probe_service(
    addresses: AccessAddresses,
    asset: tuple[int, str],
    services: Iterable[AccessService],
    *,
    stub: bool = False,
) -> dict[str, Any]:
    """The AuthProbeService2 of `asset` (its space and name). With `stub`, the access services have
    only id and type: a manifest describes them once, in its `services`.
    """
    described = [access_service(addresses, each, stub=stub) for each in services]
    return {
        "id": addresses.probe(*asset),
        "type": "AuthProbeService2",
        # Mirador 4 shows no image of which a service has no profile. Other clients ignore it.
        "profile": "probe",
        "service": described,
    }


def access_service(
    addresses: AccessAddresses, service: AccessService, *, stub: bool = False
) -> dict[str, Any]:
    """One AuthAccessService2, with its token and logout services. An external one has no id: a
    client requests a token at once.
    """
    head = {"id": addresses.access(service.name), "type": "AuthAccessService2"}
    if service.kind == "external":
        del head["id"]
    elif stub:
        return head
    texts = service.texts
    token = {
        "id": addresses.token(),
        "type": "AuthAccessTokenService2",
        **_language_maps(
            texts.language, errorHeading=texts.error_heading, errorNote=texts.error_note
        ),
    }
    logout = {
        "id": addresses.logout(service.name),
        "type": "AuthLogoutService2",
        **_language_maps(texts.language, label=texts.logout_label or "Sign out"),
    }
    return {
        **head,
        "profile": _PROFILES_2[service.kind],
        **_language_maps(
            texts.language,
            label=texts.label,
            heading=texts.heading,
            note=texts.note,
            confirmLabel=texts.confirm_label,
        ),
        "service": [token] if service.kind == "external" else [token, logout],
    }


def access_service_1(addresses: AccessAddresses, service: AccessService) -> dict[str, Any]:
    """The same service as version 1.0 describes it, with its context."""
    texts = service.texts
    token = {
        "@id": addresses.token(version=1),
        "@type": "AuthTokenService1",
        "profile": f"{_PROFILE_1}token",
    }
    logout = {
        "@id": addresses.logout(service.name, version=1),
        "@type": "AuthLogoutService1",
        "profile": f"{_PROFILE_1}logout",
        "label": texts.logout_label or "Sign out",
    }
    described = {
        "label": texts.label,
        "header": texts.heading,
        "description": texts.note,
        "confirmLabel": texts.confirm_label,
        "failureHeader": texts.error_heading,
        "failureDescription": texts.error_note,
    }
    is_external = service.kind == "external"
    return {
        "@context": CONTEXT_1,
        **({} if is_external else {"@id": addresses.access(service.name, version=1)}),
        "@type": "AuthCookieService1",
        "profile": f"{_PROFILE_1}{service.kind}",
        **{key: text for key, text in described.items() if text},
        "service": [token] if is_external else [token, logout],
    }


def info_services(
    addresses: AccessAddresses,
    asset: tuple[int, str],
    services: Sequence[AccessService],
    version: int,
) -> list[dict[str, Any]]:
    """The services of an info document of version 2 or 3: the probe service, and for older viewers
    those of version 1.0. Empty without `services`.

    In version 2 each service has a context of its own; a document of version 3 needs CONTEXT_2.
    """
    if not services:
        return []
    probe = probe_service(addresses, asset, services)
    older = [access_service_1(addresses, each) for each in services]
    return [*older, {"@context": CONTEXT_2, **probe}] if version == 2 else [probe, *older]


def _language_maps(language: str, **texts: str) -> dict[str, dict[str, list[str]]]:
    return {key: {language: [text]} for key, text in texts.items() if text}
