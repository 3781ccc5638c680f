"""Random HTTP requests, valid, nearly valid and broken, and a client that sends them as they are.

The requests follow from the seed alone. They reach every route of both ports: image requests, info
documents, manifests, pictures of /ico, pages, sign-in, uploads, the management API with its key.
"""

from __future__ import annotations

import json
import random
import socket
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote

from tests.support.patience import patience

ANSWER_S = 60.0
_REGIONS = ("full", "square", "0,0,256,256", "pct:10,10,50,50", "100,100,1,1", "300,200,900,900")
_SIZES = ("max", "^max", "200,", ",100", "100,100", "!90,90", "pct:20", "^!2000,2000", "^pct:120")
_ROTATIONS = ("0", "90", "!180", "22.5", "360")
_QUALITIES = ("default.jpg", "color.png", "gray.jpg", "bitonal.png", "default.webp", "default.gif")
_NUMBERS = (
    *("0", "-1", "1", "00", "9" * 30, "1e9", "0x10", "1.5", "NaN", "inf", "2147483648", "%31", "١"),
    *("18446744073709551616", " 1", "1 ", "+1", "1_0", ""),
)
_PIECES = (
    *("%00", "%", "%2", "%2F", "%252F", "..", "%2e%2e", "//", "\\", "%0d%0a", "%ff", "%c0%af", ";"),
    *("{}", "<script>", "'", '"', "${7*7}", "\u00e9", "\U0001f600", "%F0%9F%98%80", "a" * 300, "#"),
    *("?", "&", "=", "=&=", "\t", "%20", "+", "|", "^", "~", "*", ":", "@", ",", "!"),
)
_NAMES = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cookie", "Origin"),
    *("If-None-Match", "If-Modified-Since", "If-Match", "If-Range", "Range", "X-Forwarded-For"),
    *("X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Request-Id", "traceparent"),
    *("Access-Control-Request-Method", "Access-Control-Request-Headers", "Referer", "Via", "TE"),
    *("X-S3-Region", "X-S3-Bucket", "Tus-Resumable", "Upload-Length", "Upload-Offset", "Priority"),
    *("Upload-Metadata", "User-Agent", "X-HTTP-Method-Override", "Upgrade", "Pragma", "Date"),
)
_VALUES = (
    *(
        "*",
        "*/*",
        "text/html",
        "application/ld+json;profile=http://iiif.io/api/image/2/context.json",
    ),
    *(
        "application/json;q=0.5, image/webp",
        "gzip, br;q=1",
        "identity;q=0",
        "bytes=0-10",
        "bytes=-5",
    ),
    *("bytes=5-1", "bytes=0-1,3-4,5-6", "items=0-1", 'W/"a"', '"a", "b"', "*, *", "Bearer x.y.z"),
    *("Basic YTpi", "Basic !!!", "Sat, 28 Nov 2026 00:00:00 GMT", "yesterday", "a=b; c=d", "close"),
    *(
        "for=1.2.3.4;host=evil",
        "javascript:1",
        "https://example.org",
        "null",
        "1.0.0",
        "-5",
        "9" * 40,
    ),
    *("\u00ff\u00fe", "x" * 4000, ";;;,,,", "q=", "h2c", "filename dHJ1ZQ==,x ===="),
)
_METHODS = ("OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "G" * 40)


@dataclass(frozen=True)
class FuzzedRequest:
    """The bytes to send. `is_framed`: exactly one valid message, so that the connection stays."""

    head: bytes
    body: bytes
    method: str
    is_private: bool
    is_framed: bool

    def __str__(self) -> str:
        port = "private" if self.is_private else "public"
        return f"{port}: {self.head[:600]!r} {self.body[:300]!r}"


@dataclass
class Fuzzer:
    """Makes requests for a server that has the asset 1/1/sample."""

    seed: str
    key: str
    bad_targets: Sequence[str]
    """Targets that are known to be invalid, to be changed further."""
    operations: Sequence[tuple[str, str]]
    """(method, path template) of the management API."""
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the seed."""
        self._dice = random.Random(self.seed)

    def next(self) -> FuzzedRequest:
        """Another request."""
        dice = self._dice
        is_private = dice.random() < 0.3
        if is_private:
            method, target, body = self._api_request()
        else:
            method, target, body = self._public_request()
        if dice.random() < 0.4:
            target = self._changed(target)
        if dice.random() < 0.05:
            method = dice.choice(_METHODS)
        headers = [
            (dice.choice(_NAMES), self._value()) for _ in range(dice.choice((0, 0, 1, 2, 5)))
        ]
        if is_private and dice.random() < 0.9:
            headers.append(("Authorization", f"Bearer {self.key}"))
        return self._message(method, target, headers, body, is_private=is_private)

    def _message(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        is_private: bool,
    ) -> FuzzedRequest:
        dice = self._dice
        is_framed = True
        if body or method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(body))))
        version, line_end = "HTTP/1.1", "\r\n"
        if dice.random() < 0.04:
            is_framed = False
            version, line_end = self._break(headers)
        target_bytes = target.encode("utf-8", "surrogateescape")
        if any(each <= 0x20 or each == 0x7F for each in target_bytes) or not target_bytes:
            is_framed = False
        lines = [f"{method} {target} {version}", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = line_end.join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        return FuzzedRequest(head, body, method, is_private, is_framed)

    def _break(self, headers: list[tuple[str, str]]) -> tuple[str, str]:
        """Break a message: the version and the line end for it, after a change of its headers."""
        dice = self._dice
        version, line_end = "HTTP/1.1", "\r\n"
        match dice.randrange(6):
            case 0:
                version = dice.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/9", "http/1.1", "", "X"))
            case 1:
                headers.append(("Content-Length", dice.choice(_NUMBERS)))
            case 2:
                headers.append(("Transfer-Encoding", dice.choice(("chunked", "x", "gzip, a"))))
            case 3:
                line_end = dice.choice(("\n", "\r", "\r\n "))
            case 4:
                headers.append((dice.choice(("", " ", "a b", "\x00", "é", ":")), "x"))
            case _:
                headers += [(f"X-{n}", "y" * 100) for n in range(dice.choice((50, 400)))]
        return version, line_end

    def _public_request(self) -> tuple[str, str, bytes]:
        dice = self._dice
        method = dice.choice(("GET", "GET", "GET", "GET", "HEAD"))
        kind = dice.randrange(12)
        if kind < 4:
            return method, self._image_target(), b""
        if kind < 5:
            return method, dice.choice(self.bad_targets), b""
        if kind < 7:
            return method, self._ico_target(), b""
        if kind < 8:
            return self._upload()
        prefix = dice.choice(("/iiif/2/", "/iiif/3/", "/iiif-img/", "/iiif-img/v2/", "/thumbs/"))
        image = self._image(prefix)
        return (
            method,
            dice.choice(
                (
                    f"{prefix}{image}/info.json",
                    f"{prefix}{image}",
                    f"/iiif-manifest/{dice.choice(('', 'v2/', 'v3/', 'v4/'))}1/1/sample",
                    f"/iiif-resource/{dice.choice(('', 'v2/'))}1/{self._word()}/{self._word()}",
                    f"/iiif-collection/1/{self._number()}",
                    f"/iiif-activity/{self._number()}/all-changes",
                    f"/iiif-activity/1/{self._word()}?page={self._number()}",
                    f"/view/1/1/sample?{self._word()}={self._word()}",
                    f"/view?manifest={quote(self._word())}",
                    f"/?q={quote(self._word())}&page={self._number()}&after={self._word()}",
                    f"/access/{self._word()}/{self._word()}?origin={self._word()}&messageId=1",
                    f"/static/{self._word()}",
                    "/health/ready",
                    f"/{self._word()}",
                )
            ),
            b"",
        )

    def _image_target(self) -> str:
        dice = self._dice
        prefix = dice.choice(("/iiif/2/", "/iiif/3/", "/iiif-img/", "/iiif-img/v3/", "/thumbs/"))
        parts = [dice.choice(each) for each in (_REGIONS, _SIZES, _ROTATIONS, _QUALITIES)]
        if dice.random() < 0.5:
            n = dice.randrange(4)
            parts[n] = self._numbers_changed(parts[n])
        return prefix + "/".join([self._image(prefix), *parts])

    def _image(self, prefix: str) -> str:
        separator = "%2F" if prefix.startswith("/iiif/") else "/"
        names = ("1", "1", "sample") if self._dice.random() < 0.9 else ("1", self._number(), "x")
        return separator.join(names)

    def _ico_target(self) -> str:
        dice = self._dice
        words = ("width", "height", "crop", "focus", "format", "quality", "rotate", "fit", "w", "")
        pairs = [f"{dice.choice(words)}={self._number()}" for _ in range(dice.randrange(5))]
        parameters = dice.choice((",", "&", ";", "/")).join(pairs) or "original"
        return f"/ico/{parameters}/{dice.choice(('sample.jpg', 'no.jpg', self._word()))}"

    def _upload(self) -> tuple[str, str, bytes]:
        dice = self._dice
        path = dice.choice(("upload", "publish", "recrop", "rotate", "delete", "ping", "active/x"))
        body = "&".join(f"{self._word()}={self._word()}" for _ in range(dice.randrange(4)))
        if dice.random() < 0.5:
            body = f'--b\r\nContent-Disposition: form-data; name="{self._word()}"\r\n\r\nx\r\n--b--'
        return "POST", f"/{path}", self._changed(body).encode("utf-8", "surrogateescape")

    def _api_request(self) -> tuple[str, str, bytes]:
        dice = self._dice
        method, path = dice.choice(self.operations)
        while "{" in path:
            before, _, rest = path.partition("{")
            name, _, after = rest.partition("}")
            path = before + self._identifier(name) + after
        if dice.random() < 0.3:
            path += f"?{dice.choice(('page', 'after', 'limit', 'q', 'state'))}={self._word()}"
        body = b""
        if method in ("POST", "PUT", "PATCH"):
            text = json.dumps(self._document(3))
            if dice.random() < 0.3:
                text = self._changed(text)
            body = text.encode("utf-8", "surrogateescape")
        return method, path, body

    def _identifier(self, name: str) -> str:
        if self._dice.random() < 0.3:
            return quote(self._word(), safe="")
        return "sample" if name in ("image", "name") else self._dice.choice(("1", "2", "99999"))

    def _document(self, depth: int) -> object:
        """A JSON document with the names that the API knows."""
        dice = self._dice
        names = ("id", "space", "origin", "tags", "roles", "maxUnauthorised", "string1", "number1")
        names += ("member", "name", "customer", "policies", "preservedUri", "@type", "priority")
        kind = dice.randrange(8 if depth else 5)
        if kind == 0:
            return self._word()
        if kind == 1:
            return dice.choice((0, -1, 1, 1.5, 2**31, 2**63, -(2**70), 1e308))
        if kind == 2:
            return dice.choice((True, None, "", "1/1/sample", "file:///etc/passwd", "s3://a/b"))
        if kind == 3:
            return "http://127.0.0.1:1/" + self._word()
        if kind == 4:
            return [self._document(max(0, depth - 1)) for _ in range(dice.randrange(3))] * (
                depth > 0
            )
        return {dice.choice(names): self._document(depth - 1) for _ in range(dice.randrange(6))}

    def _value(self) -> str:
        value = self._dice.choice(_VALUES)
        return self._changed(value) if self._dice.random() < 0.3 else value

    def _word(self) -> str:
        dice = self._dice
        if dice.random() < 0.3:
            return dice.choice(_PIECES)
        return "".join(
            dice.choices(string.ascii_letters + string.digits + "-._~", k=dice.randrange(9))
        )

    def _number(self) -> str:
        dice = self._dice
        return str(dice.randrange(400)) if dice.random() < 0.5 else dice.choice(_NUMBERS)

    def _numbers_changed(self, text: str) -> str:
        return ",".join(
            self._number() if self._dice.random() < 0.5 else part for part in text.split(",")
        )

    def _changed(self, text: str) -> str:
        """`text` with one to three changes."""
        dice = self._dice
        for _ in range(dice.randrange(1, 4)):
            place = dice.randrange(len(text) + 1)
            change = dice.randrange(5)
            if change == 0:
                text = text[:place] + dice.choice(_PIECES) + text[place:]
            elif change == 1:
                text = text[:place] + text[place + 1 :]
            elif change == 2:
                text = text[:place] + chr(dice.choice((0, 1, 10, 13, 32, 127, 0xFF))) + text[place:]
            elif change == 3:
                text = text[:place] + text[place : place + 20] * dice.choice((2, 30)) + text[place:]
            else:
                text = text[:place] + dice.choice(_NUMBERS) + text[place + 1 :]
        return text


class FuzzClient:
    """Sends requests over connections that it keeps, one to each port."""

    def __init__(self, port: int, private_port: int) -> None:
        self._ports = {False: port, True: private_port}
        self._kept: dict[bool, socket.socket] = {}

    def send(self, request: FuzzedRequest) -> int | None:
        """The status of the answer; None if a broken message got none. Raises OSError or
        HTTPException if a whole one got none.
        """
        if not request.is_framed:
            return self._send_broken(request)
        for is_kept in (True, False):  # the server may have closed the connection that was kept
            connection = self._kept.pop(request.is_private, None) if is_kept else None
            if is_kept and connection is None:
                continue
            try:
                return self._exchange(connection or self._connect(request.is_private), request)
            except (OSError, HTTPException):
                if not is_kept:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def _exchange(self, connection: socket.socket, request: FuzzedRequest) -> int:
        try:
            connection.sendall(request.head + request.body)
            answer = HTTPResponse(connection, method=request.method)
            answer.begin()
            answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close or answer.getheader("Upgrade"):
            connection.close()
        else:
            self._kept[request.is_private] = connection
        return answer.status

    def _send_broken(self, request: FuzzedRequest) -> int | None:
        """Send it, say that nothing follows, and read to the end."""
        with self._connect(request.is_private) as connection:
            answer = HTTPResponse(connection, method=request.method)
            try:
                connection.sendall(request.head + request.body)
                connection.shutdown(socket.SHUT_WR)
                answer.begin()
            except (OSError, HTTPException):
                return None
            return answer.status

    def _connect(self, is_private: bool) -> socket.socket:
        timeout_s = ANSWER_S * patience()
        return socket.create_connection(("127.0.0.1", self._ports[is_private]), timeout_s)


def operations_of(document: dict[str, dict[str, object]]) -> list[tuple[str, str]]:
    """(method, path template) of each operation of an OpenAPI document."""
    return [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods  # type: ignore[attr-defined]
    ]
