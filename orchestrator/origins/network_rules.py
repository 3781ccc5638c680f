"""Which network addresses an origin may have. Pure. The answer is about a numeric address, never
about a host name.

The check is made on the address that a socket is about to connect to (`checked_sockets.py`), so a
name that resolves to another address a moment later, a decimal spelling or a redirect cannot bypass
it.
"""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
"""RFC 9637. Python knows it from 3.14 on."""
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(text: str) -> bool:
    """Return whether `text`, a numeric address, belongs to the public internet.

    Loopback, private, link-local (cloud metadata), site-local (fec0::/10), multicast, reserved and
    unspecified addresses are not public. Neither are IPv6 forms that carry such an IPv4 address
    inside (mapped, compatible, 6to4, NAT64, Teredo).
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_is_global(each) for each in (address, *_embedded(address)))


def _is_global(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address in _NAT64:
            return True  # the IPv4 address inside decides
        if address.is_site_local or address in _DOCUMENTATION:
            return False  # `is_global` is True for both
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses that the address carries."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner: list[Address] = [a for a in (address.ipv4_mapped, address.sixtofour) if a is not None]
    if address.teredo is not None:
        inner += address.teredo
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner
