"""Which header blocks may be answered from memory: only those whose meaning is certain."""

import pytest

from orchestrator.web.header_profile import parse_header_profile
from orchestrator.web.public_address import PublicAddressResolver

HOST = "Host: here\r\n"


def _read(lines: str, proxies: tuple[str, ...] = ()) -> object:
    block = f"{lines}\r\n".encode("latin-1")
    return parse_header_profile(
        block, PublicAddressResolver(proxies, {}), ("10.0.0.1", 1), "ticket"
    )


@pytest.mark.parametrize(
    "lines",
    [
        HOST,
        "hOST:here\r\n",
        HOST + "Connection: Keep-Alive\r\nAccept: image/webp,*/*;q=0.8\r\n",
        HOST + "Cookie: other=1\r\nUser-Agent: Mozilla/5.0 (X11)\r\n",
        HOST + "Upgrade-Insecure-Requests: 1\r\nCache-Control: no-cache\r\n",
        HOST + 'If-None-Match: "x"\r\nIf-Modified-Since: yesterday\r\n',
        HOST + "X-Forwarded-Host: evil.example\r\n",
    ],
)
def test_an_ordinary_block_has_a_profile(lines: str) -> None:
    profile = _read(lines)
    assert profile is not None
    assert profile.base == "http://here"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "Accept: x\r\n",
        HOST + HOST,
        "Host: a b/\r\n",
        "Host : here\r\n",
        HOST + " folded\r\n",
        HOST + "Content-Length: 5\r\n",
        HOST + "content-length: 0\r\n",
        HOST + "Transfer-Encoding: chunked\r\n",
        HOST + "Expect: 100-continue\r\n",
        HOST + "Upgrade: h2c\r\n",
        HOST + "Connection: close\r\n",
        HOST + "Connection: keep-alive, Upgrade\r\n",
        HOST + "Range: bytes=0-1\r\n",
        HOST + "If-Match: *\r\n",
        HOST + "If-Modified-Since: Sun, 01 Mar 2026 12:00:00 GMT\r\n",
        HOST + "Authorization: Bearer x\r\n",
        HOST + "Cookie: a=1; ticket=x\r\n",
        HOST + "X-S3-Region: eu-west-1\r\n",
        HOST + "x-s3-bucket: press\r\n",
        HOST + "X: a\x00b\r\n",
        HOST + "X: \xe9\r\n",
        HOST + "X: a\nY: b\r\n",
        HOST + "X: a\rY: b\r\n",
        HOST + "no colon\r\n",
        HOST + "X: a\r\n" * 64,
        HOST + f"X: {'a' * 4096}\r\n",
        HOST + "\r\nGET /hidden HTTP/1.1\r\nHost: here\r\n",
    ],
)
def test_an_unusual_block_has_no_profile(lines: str) -> None:
    assert _read(lines) is None


def test_a_valid_request_id_is_accepted_and_an_invalid_one_is_not() -> None:
    assert _read(HOST + "X-Request-Id: abc-1.2_3\r\n").request_id == b"abc-1.2_3"  # type: ignore[attr-defined]
    assert _read(HOST + "X-Correlation-Id: c\r\n").request_id == b"c"  # type: ignore[attr-defined]
    assert _read(HOST + "X-Request-Id: a b\r\n").request_id == b""  # type: ignore[attr-defined]
    assert _read(HOST + f"X-Request-Id: {'a' * 65}\r\n").request_id == b""  # type: ignore[attr-defined]


def test_forwarded_headers_of_a_trusted_proxy_set_the_base_url() -> None:
    profile = _read(HOST + "X-Forwarded-Host: out.example\r\n", ("10.0.0.0/8",))
    assert profile.base == "http://out.example"  # type: ignore[attr-defined]


def test_accept_and_accept_encoding_make_the_variant() -> None:
    plain = _read(HOST + "Accept: application/json\r\n")
    linked = _read(HOST + "Accept: application/ld+json\r\n")
    zipped = _read(HOST + "Accept: application/json\r\nAccept-Encoding: gzip\r\n")
    webp = _read(HOST + "Accept: image/webp,*/*\r\n")
    avif = _read(HOST + "Accept: image/avif,image/webp,*/*\r\n")
    profiles = (plain, linked, zipped, webp, avif)
    assert len({p.variant for p in profiles}) == 5  # type: ignore[attr-defined]
