"""Which public address a request came to, and whom to believe about it."""

from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict

from orchestrator.errors import InvalidInput, SettingsError
from orchestrator.web.public_address import PublicAddressResolver, validate_host

FORWARDED = {
    "X-Forwarded-Host": "images.example, inner",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Path": "/base/",
}


@pytest.mark.parametrize(
    "host", ["localhost:8080", "Example.org", "127.0.0.1", "[::1]:80", "a_b.internal", "a"]
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: str) -> None:
    assert validate_host(host) == host.lower()


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b/",
        "a/b",
        "a..b",
        "a:",
        "a:0",
        "a:99999",
        "a:b",
        "user@host",
        "<x>",
        "a\r\nb",
        "-a",
        "é",
        "a" * 300,
        "[::1",
        "a?b",
        "a#b",
        'a"b',
    ],
)
def test_any_other_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput):
        validate_host(host)


def test_forwarded_headers_of_untrusted_clients_are_ignored() -> None:
    addresses = PublicAddressResolver([], {})
    assert not addresses.trusts_peer(("127.0.0.1", 1))
    assert addresses.resolve_host("here:8080", FORWARDED, trusted=False).base == "http://here:8080"


def test_forwarded_headers_of_a_trusted_proxy_count() -> None:
    addresses = PublicAddressResolver(["10.0.0.0/8", "::1"], {})
    assert addresses.trusts_peer(("10.1.2.3", 1))
    assert addresses.trusts_peer(("::ffff:10.1.2.3", 1, 0, 0))
    assert not addresses.trusts_peer(("11.0.0.1", 1))
    assert not addresses.trusts_peer(None)
    assert not addresses.trusts_peer("")
    assert (
        addresses.resolve_host("here", FORWARDED, trusted=True).base
        == "https://images.example/base"
    )


@pytest.mark.parametrize("path", ["base", "/base", "base/"])
def test_a_forwarded_path_may_lack_its_slash(path: str) -> None:
    addresses = PublicAddressResolver(["::1"], {})
    address = addresses.resolve_host("here", {"X-Forwarded-Path": path}, trusted=True)
    assert address.base == "http://here/base"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"}, "https://here:8443"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}, "https://here"),
        ({"X-Forwarded-Proto": "javascript"}, "http://here"),
        ({"X-Forwarded-Host": "a b/<script>"}, "http://here"),
        ({"X-Forwarded-Path": '/x"><script>'}, "http://here"),
        ({"X-Forwarded-Path": "/../x"}, "http://here"),
        ({"X-Forwarded-Path": "../x"}, "http://here"),
        ({"X-Forwarded-Port": "99999999"}, "http://here"),
    ],
)
def test_malformed_forwarded_headers_are_ignored(headers: dict[str, str], base: str) -> None:
    assert (
        PublicAddressResolver(["::1"], {}).resolve_host("here", headers, trusted=True).base == base
    )


def test_the_path_template_of_a_host_forms_its_urls() -> None:
    addresses = PublicAddressResolver(
        [], {"my-proxy.com": "/const/{version}/{customer}/{assetPath}"}
    )
    facts = {"prefix": "iiif-img", "customer": "2", "space": "1", "asset_path": "a%2Fb"}
    address = addresses.resolve_host("My-Proxy.com", {}, trusted=False)
    assert address.url(**facts, version=2, native="/n") == "http://my-proxy.com/const/v2/2/a%2Fb"
    assert address.url(**facts, version=None, native="/n") == "http://my-proxy.com/const/2/a%2Fb"
    other = addresses.resolve_host("other", {}, trusted=False)
    assert other.url(**facts, version=2, native="/n") == "http://other/n"


def test_the_default_template_applies_and_3us_writes_slashes_as_underscores() -> None:
    addresses = PublicAddressResolver([], {"default": "/{assetPath:3US}"})
    address = addresses.resolve_host("x", {}, trusted=False)
    facts = {"prefix": "", "customer": "", "space": "", "native": "/n"}
    assert address.url(**facts, version=3, asset_path="a%2fb%2Fc") == "http://x/a___b___c"


@pytest.mark.parametrize("template", ["x/{assetPath}", "/{space}", "/{assetPath}/{wrong}"])
def test_an_invalid_path_template_is_refused_at_start(template: str) -> None:
    with pytest.raises(SettingsError):
        PublicAddressResolver([], {"h": template})


def test_a_malformed_proxy_address_is_refused_at_start() -> None:
    with pytest.raises(SettingsError):
        PublicAddressResolver(["not-an-address"], {})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("192.0.2.7", [], "192.0.2.7", id="no proxy"),
        pytest.param("192.0.2.7", ["198.51.100.1"], "192.0.2.7", id="header of a client"),
        pytest.param("10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="one proxy"),
        pytest.param("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1", id="two proxies"),
        pytest.param("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1", id="invented entry"),
        pytest.param("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1", id="two headers"),
        pytest.param("10.0.0.1", ["not an address"], "not an address", id="no address"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="proxy without the header"),
        pytest.param("10.0.0.1", ["10.0.0.3"], "10.0.0.3", id="only proxies"),
        pytest.param("2001:db8::1%eth0", [], "2001:db8::1", id="scope of IPv6"),
        pytest.param(None, ["198.51.100.1"], "", id="Unix socket"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(
    peer: str | None, forwarded: list[str], client: str
) -> None:
    addresses = PublicAddressResolver(["10.0.0.0/8"], {})
    transport = SimpleNamespace(get_extra_info=lambda _: (peer, 5) if peer else "")
    headers = CIMultiDict([("X-Forwarded-For", each) for each in forwarded])
    request: Any = SimpleNamespace(transport=transport, headers=headers)
    assert addresses.client_address(request) == client
