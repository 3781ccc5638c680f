"""Rules between the settings of sign-in; `consistency` applies them. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from orchestrator.settings.sections import Settings

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)")


def check_services(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the names of services, and of what their kinds need."""
    auth = settings.auth
    names = [each.name for each in auth.services]
    for each in auth.services:
        if each.name == "token" or names.count(each.name) > 1:
            yield "auth.services", f"{each.name} should be another name: not token, and only once"
        if each.kind == "password" and not (each.password.get_secret_value() or auth.users):
            yield "auth.services", f"{each.name} needs a password, or users in auth.users"
        if each.kind == "openid" and not (auth.openid_issuer and auth.openid_client_id):
            yield "auth.openid_issuer", f"{each.name} needs openid_issuer and openid_client_id"


def check_networks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of the networks of kiosks."""
    for each in settings.auth.services:
        if each.kind == "kiosk" and not each.networks:
            yield "auth.services", f"{each.name} needs networks, or it gives access to everyone"
        for network in each.networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                yield "auth.services", f"{network} should be a network such as 10.0.0.0/8"


def check_passwords(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of passwords: the settings hold hashes."""
    auth = settings.auth
    for setting, entries in (("services", auth.services), ("users", auth.users)):
        for entry in entries:
            password = entry.password.get_secret_value()
            if (password or setting == "users") and not password.startswith("$argon2"):
                advice = "should be a hash, which `orchestrator token hash-password` prints"
                yield f"auth.{setting}", f"the password of {entry.name} {advice}"


def check_addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of origins, of the domain of cookies, and of the address of the provider."""
    auth = settings.auth
    for origin in auth.viewer_origins:
        if not _ORIGIN.fullmatch(origin):
            yield "auth.viewer_origins", f"{origin} should look like https://viewer.example.org"
    if not re.fullmatch(r"[A-Za-z0-9.-]*", auth.cookie_domain):
        yield "auth.cookie_domain", "should be a domain such as images.example.org"
    issuer = auth.openid_issuer
    if issuer and not issuer.startswith("https://") and not _LOOPBACK.match(issuer):
        yield "auth.openid_issuer", "should begin with https://"


AUTH_RULES = (check_services, check_networks, check_passwords, check_addresses)
