"""A contract double of Cantaloupe: a server on the loopback that answers as the recorded answers of
a real one (tests/support/cantaloupe_recorded.json) and has each of its faults, on demand.

It decodes the pictures of a folder, charges for a decode at needless resolution the seconds that
the real server takes, and records what it gets, decodes and purges, for tests to read.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web
from PIL import Image, ImageOps

from tests.support import cantaloupe_answers as answers
from tests.support.cantaloupe_answers import CACHED, CORS, UNCACHED, Parameters, Refused
from tests.support.cantaloupe_faults import FAULTS, Answer

CREDENTIALS = ("api", "secret")
VERBS = {"PurgeCache", "PurgeInvalidFromCache", "PurgeInfoCache", "PurgeItemFromCache"}
_IDLE_S = 30
_REASONS = {500: "Server Error"}
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 415: "Unsupported Media Type", 500: "Internal Server Error",
    501: "Not Implemented",
}  # fmt: skip
_FORMATS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "tif": "TIFF"}


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class CantaloupeDouble:
    """One running double. Everything may be changed and read while it runs."""

    folder: Path
    find: Callable[[str], Path | None]
    keeps_derivatives: bool = False
    """True if it has a derivative cache, which is keyed by identifier and parameters only."""
    fault: str = ""
    """A key of FAULTS: every image is answered with this fault."""
    slash_substitute: str = ""
    charge: float = 1.0
    """Part of the real time of a wasteful decode for which an answer is delayed."""
    address: str = ""
    received: list[Received] = field(default_factory=list)
    decodes: list[answers.Decode] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    """The identifiers of purged items; "*" for everything."""
    gate: threading.Event = field(default_factory=threading.Event)
    """A request with the fault `hang` is answered when this is set."""
    _dimensions: dict[str, tuple[int, int]] = field(default_factory=dict)
    _derivatives: dict[str, bytes] = field(default_factory=dict)
    _pictures: dict[tuple[int, int, int], Image.Image] = field(default_factory=dict)
    _tasks: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def images(self) -> list[str]:
        """The targets of the image requests, in the order of arrival."""
        return [each.target for each in self.received if each.target.count("/") == 7]

    @property
    def documents(self) -> list[str]:
        """The targets of the requests for information documents."""
        return [each.target for each in self.received if each.target.endswith("/info.json")]

    @property
    def identifiers(self) -> set[str]:
        """The identifiers of which its caches have something."""
        return {*self._dimensions, *(key.partition("?")[0] for key in self._derivatives)}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, with the fault that is set."""
        received = Received(request.method, request.raw_path, dict(request.headers))
        self.received.append(received)
        body = (await request.read()).decode(errors="replace")
        answer = await self._route(received, body)
        is_image = answer.media_type.startswith("image/")
        if self.fault and (is_image or self.fault == "hang"):
            return await FAULTS[self.fault](request, answer, self.gate)
        return await answer.send(request)

    async def _route(self, received: Received, body: str) -> Answer:
        target = received.target
        if "%00" in target:
            page = b"<h1>Bad Message 400</h1><pre>reason: Bad Request</pre>"
            headers = {"Connection": "close"}
            return Answer(400, headers, "text/html;charset=iso-8859-1", page, sized=True)
        path = urlsplit(target).path
        if path == "/":
            page = {"Cache-Control": "public, max-age=2147483647"}
            return Answer(200, page, "text/html;charset=utf-8", b"<!DOCTYPE html>\n")
        if path.endswith("/"):
            location = f"{self._base(received)}{path.rstrip('/')}"
            return Answer(301, {"Location": location}, "", b"", sized=True)
        if path in ("/health", "/status", "/configuration") or path.startswith("/tasks"):
            return self._operate(received, path, body)
        if not (match := re.fullmatch(r"/iiif/([123])(?:/(.*))?", path)):
            return _error(404, {}, "No route matched")
        if match[1] == "1":
            return _error(403, CORS, "The endpoint is disabled")
        if match[2] is None:
            headers = {**CORS, **CACHED}
            return Answer(200, headers, "text/html;charset=utf-8", b"<!DOCTYPE html>\n")
        return await self._serve(received, int(match[1]), match[2].split("/"))

    async def _serve(self, received: Received, version: int, parts: list[str]) -> Answer:
        if len(parts) not in (1, 2, 5) or (len(parts) == 2 and parts[1] != "info.json"):
            return _error(404, {}, "No route matched")
        if received.method == "OPTIONS":
            allow = {"Allow": "GET,OPTIONS"}
            if len(parts) == 2:
                allow["Access-Control-Allow-Headers"] = "Authorization"
            return Answer(204, {**CORS, **CACHED, **allow}, "", b"", sized=True)
        if received.method not in ("GET", "HEAD"):
            return _error(405, CORS, "Method not allowed")
        address = self._address(received, version, parts[0])
        if len(parts) == 1:
            headers = {**CORS, **CACHED, "Location": f"{address}/info.json"}
            return Answer(303, headers, "", b"", sized=True)
        modified: dict[str, str] = {}
        try:
            wanted = answers.parse(version, parts[1:]) if len(parts) == 5 else None
            identifier, path = self._source(parts[0])
            modified = {"Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
            if wanted is None:
                return await self._describe(received, version, address, identifier, modified)
            return await self._render(received, wanted, address, identifier, modified)
        except Refused as refused:
            cors = {} if refused.status == 404 and "route" in str(refused) else CORS
            opened = modified if refused.opened else {}
            return _error(refused.status, {**cors, **opened}, str(refused))

    def _source(self, segment: str) -> tuple[str, Path]:
        identifier = unquote(segment.replace("+", " "))
        if self.slash_substitute:
            identifier = identifier.replace(self.slash_substitute, "/")
        identifier = re.sub(r";\d+(;\d+:\d+)?$|;\d+:\d+$", "", identifier)
        while "../" in identifier:
            identifier = identifier.replace("../", "")
        path = self.find(identifier)
        if path is None or not path.is_file():
            raise Refused(404, f"NoSuchFileException: {self.folder / identifier}")
        return identifier, path

    async def _describe(
        self, received: Received, version: int, address: str, identifier: str, modified: Any
    ) -> Answer:
        is_known = identifier in self._dimensions
        width, height = await asyncio.to_thread(self._measure, identifier)
        document = answers.info(version, address, width, height)
        media_type = answers.info_media_type(version, received.headers.get("Accept", ""))
        headers = {**CORS, **CACHED, **({} if is_known else modified)}
        return Answer(200, headers, media_type, json.dumps(document).encode(), sized=True)

    async def _render(
        self, received: Received, wanted: Parameters, address: str, identifier: str, modified: Any
    ) -> Answer:
        query = urlsplit(received.target).query
        width, height = await asyncio.to_thread(self._measure, identifier)
        link = f'<{address}/{answers.canonical(wanted, width, height)}>;rel="canonical"'
        headers = {**CORS, **modified, **({} if "cache=false" in query else CACHED)}
        if "response-content-disposition" in query:
            name = f"{identifier.rpartition('/')[2]}.{wanted.format}"
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        key = f"{identifier}?{received.target.split('/', 4)[4]}"
        body = self._derivatives.get(key)
        if body is None:
            decode = answers.plan(wanted, width, height)
            self.decodes.append(decode)
            if decode.is_wasteful:
                await asyncio.sleep(decode.seconds * self.charge)
            try:
                body = await asyncio.to_thread(self._encode, identifier, wanted, decode)
            except OSError as error:
                return _error(500, {**CORS, **modified, "Link": link}, f"IOException: {error}")
            if self.keeps_derivatives:
                self._derivatives[key] = body
        headers["Link"] = link
        return Answer(200, headers, answers.MEDIA_TYPES[wanted.format], body)

    def _measure(self, identifier: str) -> tuple[int, int]:
        """The dimensions of a picture. They are kept until they are purged, as by the real one."""
        if identifier not in self._dimensions:
            path = self.find(identifier)
            try:
                with Image.open(path or "") as picture:
                    self._dimensions[identifier] = picture.size
            except OSError as error:
                raise Refused(501, "Unsupported source format", opened=True) from error
        return self._dimensions[identifier]

    def _encode(self, identifier: str, wanted: Parameters, decode: answers.Decode) -> bytes:
        path = self.find(identifier)
        assert path is not None
        status = path.stat()
        with self._lock:
            key = (status.st_ino, status.st_mtime_ns, status.st_size)
            if key not in self._pictures:
                # Pillow decodes what there is of a truncated file; opj_decompress does not.
                if path.suffix == ".jp2" and not path.read_bytes().endswith(b"\xff\xd9"):
                    raise OSError("opj_decompress: failed to decode the image")
                with Image.open(path) as opened:
                    self._pictures[key] = opened.convert("RGB")
            picture = self._pictures[key]
        x, y, w, h = decode.box
        picture = picture.resize(decode.size, Image.Resampling.BICUBIC, (x, y, x + w, y + h))
        if wanted.rotation.startswith("!"):
            picture = ImageOps.mirror(picture)
        if wanted.degrees % 360:
            picture = picture.rotate(-wanted.degrees, Image.Resampling.BICUBIC, expand=True)
        if wanted.degrees % 90:
            picture = ImageOps.fit(picture, _canvas(decode.size, wanted.degrees))
        if wanted.quality in ("gray", "bitonal"):
            picture = picture.convert("L" if wanted.quality == "gray" else "1")
        file = io.BytesIO()
        picture.save(file, _FORMATS[wanted.format])
        return file.getvalue()

    def _operate(self, received: Received, path: str, body: str) -> Answer:
        plain = {"Cache-Control": "no-cache"}
        if path == "/health":
            state = {
                "color": "GREEN",
                "message": None,
                "possibleColors": ["GREEN", "YELLOW", "RED"],
            }
            return _json(state, plain)
        token = base64.b64encode(":".join(CREDENTIALS).encode()).decode()
        if received.headers.get("Authorization") != f"Basic {token}":
            realm = 'Basic realm="Cantaloupe API Realm" charset="UTF-8"'
            return _error(401, {"WWW-Authenticate": realm}, "Unauthorized")
        if received.method == "GET" and (verb := self._tasks.get(path.rpartition("/")[2])):
            moment = "2026-11-21T01:59:21.639469327Z"
            moments = dict.fromkeys(("queued_at", "started_at", "stopped_at"), moment)
            return _json({"verb": verb, "done": True, "cancelled": False, **moments}, plain)
        task: Any = None
        with suppress(ValueError):
            task = json.loads(body)
        is_json = received.headers.get("Content-Type", "").startswith("application/json")
        if not is_json or not isinstance(task, dict) or task.get("verb") not in VERBS:
            return _error(400, {}, "IllegalArgumentException")
        self._purge(task["verb"], task.get("identifier", ""))
        number = str(uuid.uuid4())
        self._tasks[number] = task["verb"]
        location = f"{self._base(received)}/tasks/{number}"
        return Answer(202, {**plain, "Location": location}, "", b"", sized=True)

    def _purge(self, verb: str, identifier: str) -> None:
        if verb == "PurgeItemFromCache":
            self.purged.append(identifier)
            self._dimensions.pop(identifier, None)
            for key in [each for each in self._derivatives if each.startswith(f"{identifier}?")]:
                del self._derivatives[key]
            return
        self.purged.append("*")
        self._dimensions.clear()
        if verb == "PurgeCache":
            self._derivatives.clear()

    def _base(self, received: Received) -> str:
        """The address that it takes for its own. A forwarded host alone keeps its own port."""
        headers = received.headers
        scheme = headers.get("X-Forwarded-Proto", "http")
        host, _, port = headers.get("Host", "localhost").partition(":")
        host = headers.get("X-Forwarded-Host", host)
        port = headers.get("X-Forwarded-Port", port)
        suffix = "" if not port or (scheme, port) in (("https", "443"), ("http", "80")) else port
        return f"{scheme}://{host}{suffix and ':' + suffix}{headers.get('X-Forwarded-Path', '')}"

    def _address(self, received: Received, version: int, segment: str) -> str:
        segment = received.headers.get("X-Forwarded-ID", segment)
        return f"{self._base(received)}/iiif/{version}/{segment}"


def _canvas(size: tuple[int, int], degrees: float) -> tuple[int, int]:
    """The size of a rotated picture, rounded as Java does it."""
    (width, height), turn = size, math.radians(degrees)
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    return answers.half_up(width * cos + height * sin), answers.half_up(width * sin + height * cos)


def _error(status: int, headers: dict[str, str], message: str) -> Answer:
    text = f"{status} {_TITLES[status]}\n\n{message}\n\nedu.illinois.library.cantaloupe.resource\n"
    return Answer(
        status, {**headers, **UNCACHED}, "text/plain;charset=utf-8", text.encode(),
        reason=_REASONS.get(status, ""),
    )  # fmt: skip


def _json(document: dict[str, Any], headers: dict[str, str]) -> Answer:
    body = json.dumps(document).encode()
    return Answer(200, headers, "application/json;charset=utf-8", body, sized=True)


@contextmanager
def cantaloupe_double(
    folder: Path,
    *,
    find: Callable[[str], Path | None] | None = None,
    keeps_derivatives: bool = False,
    slash_substitute: str = "",
    port: int = 0,
) -> Iterator[CantaloupeDouble]:
    """A running double of the pictures below `folder`; `find` maps an identifier to a file instead.
    It runs in a thread, so a test may also block.
    """
    double = CantaloupeDouble(
        folder,
        find or (lambda identifier: folder / identifier.lstrip("/")),
        keeps_derivatives=keeps_derivatives,
        slash_substitute=slash_substitute,
    )
    started, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        server = web.Server(double.answer, keepalive_timeout=_IDLE_S, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        double.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        while not stop.is_set():
            await asyncio.sleep(0.02)
        double.gate.set()
        await runner.cleanup()

    stop = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield double
    finally:
        stop.set()
        thread.join(30)
        loop.close()
