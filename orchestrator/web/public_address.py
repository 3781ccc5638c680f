"""The public address of this server as one request sees it, for the ids in info documents and
links.

Host is validated, never believed blindly into a document. X-Forwarded-* count only from configured
proxies; none by default.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from orchestrator.errors import InvalidInput, SettingsError

FORWARDED = ("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Path")
DEFAULT_HOST = "default"
"""The key of `server.path_templates` that serves hosts without a line of their own."""

MAX_KNOWN = 256
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]{1,100}){0,8}/?")
_TOKEN = re.compile(r"\{(\w+)(?::(\w+))?\}")
_TOKENS = frozenset({"prefix", "version", "customer", "space", "assetPath"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """One public address: `base` is scheme, host, port where it is not the scheme's own, and path
    below the host.
    """

    base: str
    template: str = ""
    """The path template of this host; "" where URLs keep the shape they were asked in."""

    def url(
        self,
        *,
        prefix: str,
        version: int | None,
        customer: str,
        space: str,
        asset_path: str,
        native: str,
    ) -> str:
        """The public URL of an image: by the host's template, else `native`, the path as it was
        asked.

        `asset_path` is already percent-encoded. Empty tokens leave no double slash behind.
        """
        if not self.template:
            return self.base + native
        values = {
            "prefix": prefix,
            "version": f"v{version}" if version else "",
            "customer": customer,
            "space": space,
            "assetPath": asset_path,
        }
        path = _TOKEN.sub(lambda m: _shaped(values[m[1]], m[2]), self.template)
        return self.base + re.sub(r"/{2,}", "/", path)


class PublicAddressResolver:
    """Works out the Site of each request; what is configured is checked once, here."""

    def __init__(self, trusted_proxies: Iterable[str], path_templates: Mapping[str, str]) -> None:
        """Raises SettingsError for an address that is none or a template with unknown tokens."""
        self._trusted = tuple(_network(text) for text in trusted_proxies)
        self._known: dict[str, PublicAddress] = {}
        self._templates = {host.lower(): _checked(host, t) for host, t in path_templates.items()}

    def resolve_request(self, request: web.BaseRequest) -> PublicAddress:
        """The site of this request. Raises InvalidInput for a malformed Host (RFC 9112, section
        3.2).
        """
        host = request.headers.get("Host", "")
        if not self._trusted and request.raw_path.startswith("/"):
            return self._by_host(host)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        if "://" in request.raw_path[:10]:  # absolute form: its authority goes before Host
            host = urlsplit(request.raw_path).netloc
        return self.resolve_host(host, request.headers, self.trusts_peer(peer))

    def _by_host(self, host: str) -> PublicAddress:
        """The usual case, remembered: hosts are few, and those that are many and made up are
        forgotten.
        """
        address = self._known.get(host)
        if address is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            address = self._known[host] = self.resolve_host(host, {}, trusted=False)
        return address

    def resolve_host(self, host: str, headers: Mapping[str, str], trusted: bool) -> PublicAddress:
        """The site for this Host header, with forwarded headers counted if `trusted`."""
        name, scheme, path = valid_host(host), "http", ""
        if trusted:
            name, scheme, path = _forwarded(name, headers)
        authority = _without_default_port(name, scheme)
        template = self._templates.get(authority) or self._templates.get(DEFAULT_HOST, "")
        return PublicAddress(f"{scheme}://{authority}{path}", template)

    def trusts_peer(self, peer: object) -> bool:
        """Whether the socket's other end (`peername`) is a proxy whose forwarded headers count."""
        if not self._trusted or not isinstance(peer, tuple) or not peer:
            return False
        try:
            address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._trusted)


def valid_host(host: str) -> str:
    """The Host header in lower case. Raises InvalidInput unless it is a name or address with at
    most a port.
    """
    found = _HOST.fullmatch(host)
    if found is None or ".." in host or not _valid_port(found["port"]):
        raise InvalidInput("The Host header is not the name of a host.")
    return host.lower()


def _valid_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65535


def _forwarded(host: str, headers: Mapping[str, str]) -> tuple[str, str, str]:
    """(host, scheme, path) as the proxy says; what is malformed is as if it were not there."""
    first = {name: headers.get(name, "").split(",")[0].strip() for name in FORWARDED}
    with suppress(InvalidInput):
        host = valid_host(first["X-Forwarded-Host"])
    scheme = first["X-Forwarded-Proto"].lower()
    scheme = scheme if scheme in _DEFAULT_PORTS else "http"
    port = first["X-Forwarded-Port"]
    if port.isascii() and port.isdigit() and len(port) <= 5 and _valid_port(port):
        host = f"{_HOST.fullmatch(host)['name']}:{int(port)}"  # type: ignore[index]  # it is valid
    path = first["X-Forwarded-Path"]
    known = path if _PATH.fullmatch(path) and ".." not in path else ""
    return host, scheme, known.rstrip("/")


def _without_default_port(host: str, scheme: str) -> str:
    return host.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


def _shaped(value: str, form: str | None) -> str:
    """`{assetPath:3US}` writes a name's slashes as three underscores."""
    return re.sub("%2F", "___", value, flags=re.IGNORECASE) if form == "3US" else value


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise SettingsError(f"server.trusted_proxies: {text!r} is no address or CIDR.") from error


def _checked(host: str, template: str) -> str:
    unknown = {m[1] for m in _TOKEN.finditer(template)} - _TOKENS
    if unknown or not template.startswith("/") or "{assetPath" not in template:
        raise SettingsError(
            f"server.path_templates: {host!r} needs a path with {{assetPath}} "
            f"and no tokens but {', '.join(sorted(_TOKENS))}."
        )
    return template
