"""The public address of this server as one client sees it. The ids in info documents and links
contain it.

The Host header is validated before a document contains it. X-Forwarded-* headers count only if a
configured proxy sends them; by default no proxy is trusted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from orchestrator.errors import InvalidInput, SettingsError

FORWARDED = ("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Path")
DEFAULT_HOST = "default"
"""The key of `server.path_templates` for hosts that have no template of their own."""

MAX_REMEMBERED_HOSTS = 256
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
    """One public address. `base` is scheme, host, port unless it is the default port of the scheme,
    and the path that a proxy adds.
    """

    base: str
    template: str = ""
    """The path template of this host; "" if public paths are the requested paths."""

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
        """Return the public URL of an asset: by the template of the host, else with `native`, the
        requested path.

        `asset_path` is already percent-encoded. An empty token does not leave a double slash.
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
        path = _TOKEN.sub(lambda m: _format_token(values[m[1]], m[2]), self.template)
        return self.base + re.sub(r"/{2,}", "/", path)


class PublicAddressResolver:
    """Finds the PublicAddress of each request. The constructor checks the settings."""

    def __init__(self, trusted_proxies: Iterable[str], path_templates: Mapping[str, str]) -> None:
        """Raises SettingsError for a malformed proxy address or a template with unknown tokens."""
        self._trusted = tuple(_parse_network(text) for text in trusted_proxies)
        self._remembered: dict[str, PublicAddress] = {}
        self._templates = {
            host.lower(): _check_template(host, t) for host, t in path_templates.items()
        }

    def resolve_request(self, request: web.BaseRequest) -> PublicAddress:
        """Return the public address of this request. Raises InvalidInput for a malformed Host (RFC
        9112, section 3.2).
        """
        host = request.headers.get("Host")
        if host is None and request.version < HttpVersion11:
            host = _local_host(request.transport)
        host = host or ""
        if not self._trusted and request.raw_path.startswith("/"):
            return self._remember_host(host)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        if "://" in request.raw_path[:10]:  # absolute form: its authority has precedence over Host
            host = urlsplit(request.raw_path).netloc
        return self.resolve_host(host, request.headers, self.trusts_peer(peer))

    def _remember_host(self, host: str) -> PublicAddress:
        """Return the address of a host, from a table that is cleared when it is full: real hosts
        are few, and a client can invent many.
        """
        address = self._remembered.get(host)
        if address is None:
            if len(self._remembered) >= MAX_REMEMBERED_HOSTS:
                self._remembered.clear()
            address = self._remembered[host] = self.resolve_host(host, {}, trusted=False)
        return address

    def resolve_host(self, host: str, headers: Mapping[str, str], trusted: bool) -> PublicAddress:
        """Return the address for this Host header; X-Forwarded-* headers count if `trusted`."""
        name, scheme, path = validate_host(host), "http", ""
        if trusted:
            name, scheme, path = _read_forwarded(name, headers)
        authority = _without_default_port(name, scheme)
        template = self._templates.get(authority) or self._templates.get(DEFAULT_HOST, "")
        return PublicAddress(f"{scheme}://{authority}{path}", template)

    def client_address(self, request: web.BaseRequest) -> str:
        """Return the IP address of the client: the peer of the socket or, behind trusted proxies,
        the last address of X-Forwarded-For that is not one of them. "" for a Unix socket.
        """
        peer = request.transport.get_extra_info("peername") if request.transport else None
        found = str(peer[0]).partition("%")[0] if isinstance(peer, tuple) and peer else ""
        chain = [each.strip() for each in ",".join(_forwarded_for(request)).split(",")]
        while chain and self.trusts_peer((found,)):
            found = chain.pop() or found
        return found

    def trusts_peer(self, peer: object) -> bool:
        """Return True if the peer of the socket (`peername`) is a trusted proxy."""
        if not self._trusted or not isinstance(peer, tuple) or not peer:
            return False
        try:
            address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._trusted)


def _forwarded_for(request: web.BaseRequest) -> list[str]:
    return request.headers.getall("X-Forwarded-For", [])


def _local_host(transport: asyncio.BaseTransport | None) -> str:
    """Return the address of our end of the connection. HTTP/1.0 requires no Host; health probes of
    load balancers often send none.
    """
    name = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(name, tuple):
        return "localhost"
    address = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{address}:{name[1]}"


def validate_host(host: str) -> str:
    """Return the Host header in lower case. Raises InvalidInput unless it is a name or an address,
    with or without a port.
    """
    match = _HOST.fullmatch(host)
    if match is None or ".." in host or not _is_port(match["port"]):
        raise InvalidInput(
            "The Host header is malformed. Send a host name or address, with or without a port."
        )
    return host.lower()


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65535


def _read_forwarded(host: str, headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Return (host, scheme, path) of the X-Forwarded-* headers; malformed ones are ignored."""
    first = {name: headers.get(name, "").split(",")[0].strip() for name in FORWARDED}
    with suppress(InvalidInput):
        host = validate_host(first["X-Forwarded-Host"])
    scheme = first["X-Forwarded-Proto"].lower()
    scheme = scheme if scheme in _DEFAULT_PORTS else "http"
    port = first["X-Forwarded-Port"]
    if port.isascii() and port.isdigit() and len(port) <= 5 and _is_port(port):
        host = f"{_HOST.fullmatch(host)['name']}:{int(port)}"  # type: ignore[index]  # it is valid
    path = first["X-Forwarded-Path"]
    path = path if path.startswith("/") else f"/{path}"
    valid_path = path if _PATH.fullmatch(path) and ".." not in path else ""
    return host, scheme, valid_path.rstrip("/")


def _without_default_port(host: str, scheme: str) -> str:
    return host.removesuffix(f":{_DEFAULT_PORTS[scheme]}")


def _format_token(value: str, form: str | None) -> str:
    """Return the value of a token; the form 3US writes slashes in a name as three underscores."""
    return re.sub("%2F", "___", value, flags=re.IGNORECASE) if form == "3US" else value


def _parse_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise SettingsError(
            f"server.trusted_proxies: {text!r} is not an address or a CIDR range."
        ) from error


def _check_template(host: str, template: str) -> str:
    unknown = {m[1] for m in _TOKEN.finditer(template)} - _TOKENS
    if unknown or not template.startswith("/") or "{assetPath" not in template:
        raise SettingsError(
            f"server.path_templates: the template of {host!r} must begin with / and contain"
            f" {{assetPath}}; the tokens are {', '.join(sorted(_TOKENS))}."
        )
    return template
