"""HTTP origins on a real server that can fail in every way."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.errors import (
    InvalidInput,
    NotAnImage,
    OrchestratorError,
    OriginUnavailable,
    TooLarge,
)
from orchestrator.origins.access_resolver import AccessResolver
from orchestrator.origins.http_reader import HttpReader
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.reader_types import OriginAccess, OriginStream
from orchestrator.settings import Ingest
from tests.support.origins import OriginServer, origin_server
from tests.support.patience import patience

PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 4000
SETTINGS = Ingest(
    allow_private_addresses=True,
    max_bytes=2_000_000,
    connect_timeout_s=2 * patience(),
    read_timeout_s=0.4 * patience(),
    total_timeout_s=1.2 * patience(),
    max_redirects=3,
)


@pytest.fixture
async def origin() -> AsyncIterator[OriginServer]:
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.media_types["/picture"] = "image/JPEG; charset=binary"
        yield server


@asynccontextmanager
async def open_fetcher(
    settings: Ingest, is_permitted: Callable[[str], bool] = is_public
) -> AsyncIterator[OriginFetcher]:
    async with HttpReader(settings, is_permitted) as http:
        yield OriginFetcher({OriginKind.DEFAULT: http}, AccessResolver(), settings=settings)


@pytest.fixture
async def fetcher() -> AsyncIterator[OriginFetcher]:
    async with open_fetcher(SETTINGS) as opened:
        yield opened


async def test_a_picture_arrives_whole_with_its_hash_etag_and_type(
    origin: OriginServer, fetcher: OriginFetcher, tmp_path: Path
) -> None:
    fetched = await fetcher.fetch(1, origin.url("/picture"), tmp_path / "original")
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.bytes == len(PICTURE)
    assert fetched.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert fetched.etag.startswith('"')
    assert fetched.media_type == "image/jpeg"
    assert origin.headers[0]["accept-encoding"] == "identity"


async def test_as_many_redirects_as_allowed_are_followed(
    origin: OriginServer, fetcher: OriginFetcher, tmp_path: Path
) -> None:
    fetched = await fetcher.fetch(1, origin.url("/hops/2"), tmp_path / "original")
    assert fetched.bytes == len(PICTURE)


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/hops/3", OriginUnavailable, "more than 3 times"),
        ("/redirect-nowhere", OriginUnavailable, "without a Location"),
        ("/status/404", OriginUnavailable, "answered 404"),
        ("/status/403", OriginUnavailable, "answered 403"),
        ("/status/500", OriginUnavailable, "answered 500"),
        ("/status/204", OriginUnavailable, "answered 204"),
        ("/hang", OriginUnavailable, "sent nothing for {read_timeout_s:g} s"),
        ("/stall", OriginUnavailable, "sent nothing for {read_timeout_s:g} s"),
        ("/huge", TooLarge, "2000000 bytes"),
        ("/huge-announced", TooLarge, "2000000 bytes"),
        ("/html", NotAnImage, "HTML"),
        ("/json", NotAnImage, "JSON"),
        ("/empty", NotAnImage, "empty"),
        ("/truncated", OriginUnavailable, "before the end of the file"),
        ("/chunks-without-end", OriginUnavailable, "before the end of the file"),
        ("/compressed", OriginUnavailable, "compressed"),
        ("/hang-up", OriginUnavailable, "without an answer"),
        ("/garbage", OriginUnavailable, "not valid HTTP"),
        ("/two-lengths", OriginUnavailable, "not valid HTTP"),
    ],
)
async def test_each_failure_has_its_message(
    origin: OriginServer,
    fetcher: OriginFetcher,
    tmp_path: Path,
    path: str,
    kind: type[OrchestratorError],
    message: str,
) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=message.format(**SETTINGS.model_dump())) as caught:
        await fetcher.fetch(1, origin.url(path), tmp_path / "original")
    assert type(caught.value) is kind
    assert time.monotonic() - began < 3 * patience()


async def test_a_file_that_comes_too_slowly_is_given_up(
    origin: OriginServer, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"read_timeout_s": 600})
    message = f"longer than {SETTINGS.total_timeout_s:g} s"
    began = time.monotonic()
    async with open_fetcher(settings) as fetcher:
        with pytest.raises(OriginUnavailable, match=message) as caught:
            await fetcher.fetch(1, origin.url("/drip"), tmp_path / "original")
    assert type(caught.value) is OriginUnavailable
    assert time.monotonic() - began < 3 * patience()


@pytest.mark.parametrize(
    ("path", "retryable"),
    [("/status/503", True), ("/status/429", True), ("/status/404", False), ("/hang", True)],
)
async def test_only_temporary_failures_are_retryable(
    origin: OriginServer, fetcher: OriginFetcher, tmp_path: Path, path: str, retryable: bool
) -> None:
    with pytest.raises(OriginUnavailable) as caught:
        await fetcher.fetch(1, origin.url(path), tmp_path / "original")
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "http://u:p@127.0.0.1/"]
)
async def test_a_redirect_to_an_address_that_is_not_http_is_refused(
    origin: OriginServer, fetcher: OriginFetcher, tmp_path: Path, target: str
) -> None:
    origin.redirects["/away"] = target
    with pytest.raises(OriginUnavailable, match="not an HTTP address"):
        await fetcher.fetch(1, origin.url("/away"), tmp_path / "original")


async def test_an_unknown_host_and_a_closed_port_have_different_messages(
    fetcher: OriginFetcher, tmp_path: Path
) -> None:
    with pytest.raises(OriginUnavailable, match="refused the connection"):
        await fetcher.fetch(1, "http://127.0.0.1:1/x", tmp_path / "original")
    with pytest.raises(OriginUnavailable, match="host name is not known"):
        await fetcher.fetch(1, "http://no-such-host.invalid/x", tmp_path / "original")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b", ".a"])
async def test_an_invalid_host_name_is_a_permanent_fault_of_the_origin(
    origin: OriginServer, fetcher: OriginFetcher, tmp_path: Path, host: str
) -> None:
    origin.redirects["/away"] = f"http://{host}/x.jpg"
    for address in (f"http://{host}/x.jpg", origin.url("/away")):
        with pytest.raises(OriginUnavailable) as caught:
            await fetcher.fetch(1, address, tmp_path / "original")
        assert not caught.value.retryable


async def test_the_number_of_concurrent_reads_from_one_host_is_not_limited(
    origin: OriginServer,
) -> None:
    async with HttpReader(SETTINGS) as reader, AsyncExitStack() as stack:
        for _ in range(70):
            opened = reader.open(origin.url("/stall"), OriginAccess(OriginKind.DEFAULT))
            assert isinstance(await stack.enter_async_context(opened), OriginStream)


@pytest.mark.parametrize(
    "origin_text", ["http://", "https:///path", "gopher://x/", "http://user:secret@host/x"]
)
async def test_a_malformed_origin_is_the_callers_fault(
    fetcher: OriginFetcher, tmp_path: Path, origin_text: str
) -> None:
    with pytest.raises(InvalidInput):
        await fetcher.fetch(1, origin_text, tmp_path / "original")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
async def test_a_private_address_is_refused_in_every_spelling(
    origin: OriginServer, tmp_path: Path, host: str
) -> None:
    async with open_fetcher(
        SETTINGS.model_copy(update={"allow_private_addresses": False})
    ) as fetcher:
        with pytest.raises(OriginUnavailable) as caught:
            await fetcher.fetch(1, origin.url("/picture", host), tmp_path / "original")
    assert "public internet" in caught.value.public
    assert not caught.value.retryable
    assert origin.requests == []


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "127.1", "017700000001", "0", "localhost."]
)
async def test_odd_spellings_of_loopback_never_connect(
    origin: OriginServer, tmp_path: Path, host: str
) -> None:
    async with open_fetcher(
        SETTINGS.model_copy(update={"allow_private_addresses": False})
    ) as fetcher:
        with pytest.raises(OrchestratorError):
            await fetcher.fetch(1, origin.url("/picture", host), tmp_path / "original")
    assert origin.requests == []


async def test_a_redirect_to_a_private_address_is_refused(
    origin: OriginServer, tmp_path: Path
) -> None:
    origin.redirects["/away"] = f"http://127.0.0.2:{origin.port}/picture"
    strict = SETTINGS.model_copy(update={"allow_private_addresses": False})
    async with open_fetcher(strict, is_permitted=lambda address: address == "127.0.0.1") as fetcher:
        with pytest.raises(OriginUnavailable, match="public internet"):
            await fetcher.fetch(1, origin.url("/away"), tmp_path / "original")
    assert origin.requests == ["/away"]


async def test_an_origin_below_the_lowest_rate_is_given_up(
    origin: OriginServer, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(
        update={"min_rate": 1000, "rate_window_s": 0.5, "read_timeout_s": 30, "total_timeout_s": 60}
    )
    async with open_fetcher(settings) as fetcher:
        began = time.monotonic()
        with pytest.raises(OriginUnavailable, match=r"fewer than 500 bytes in 0\.5 s") as caught:
            await fetcher.fetch(1, origin.url("/drip"), tmp_path / "original")
        assert (caught.value.code, caught.value.retryable) == ("origin_timeout", True)
        assert time.monotonic() - began < 30
        fetched = await fetcher.fetch(1, origin.url("/picture"), tmp_path / "picture")
        assert fetched.bytes == len(PICTURE)
