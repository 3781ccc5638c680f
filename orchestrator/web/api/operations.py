"""An operation of the API: its address, what it takes and gives, who may ask, and its handler.

One table of these (`table.py`) makes the routes, validates what comes in, and is written out as
`/openapi.json`; so a handler never sees a body that the document does not describe.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from orchestrator.errors import InvalidImageRequest, InvalidInput, NotFound, TooLarge
from orchestrator.ingest.payload.envelopes import MAX_BODY_BYTES, read_json
from orchestrator.ingest.payload.fields import faults_of
from orchestrator.model import AssetId
from orchestrator.web.api.authentication import Caller, KeyVerifier, caller_of, check_own_pages_only
from orchestrator.web.responses import REQUEST_CLASS

_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json|application/octet-stream|text/plain")
_PLACES = {
    "customer": r"[0-9]{1,9}",
    "space": r"[0-9]{1,9}",
    "batch": r"[0-9]{1,18}",
    "job": r"[0-9]{1,18}",
    "strategy": r"[0-9a-fA-F-]{36}",
    "image": r"[^{}/]+",
    "name": r"[^{}/]+",
}
"""What may stand in each place of an address; anything else is no address of ours."""

Access = Literal["open", "key", "admin"]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request of an operation: who asks, and what was validated of it."""

    request: web.Request
    caller: Caller
    body: Any = None
    """An instance of the operation's body model; the parsed JSON where it is `raw`."""
    query: Any = None

    def number(self, place: str) -> int:
        """The number at a place of the address."""
        return int(self.request.match_info[place])

    def text(self, place: str) -> str:
        """The text at a place of the address, decoded."""
        return self.request.match_info[place]

    @property
    def customer(self) -> int:
        """The customer of the address."""
        return self.number("customer")

    @property
    def asset_id(self) -> AssetId:
        """The image of the address. Raises NotFound for what no image can be called."""
        try:
            return AssetId(self.customer, self.number("space"), self.text("image"))
        except InvalidImageRequest as error:
            raise NotFound("No image can be called so.") from error

    def asked(self, model: type[M]) -> M:
        """The validated query."""
        assert isinstance(self.query, model)  # noqa: S101  the table says so
        return self.query

    def given(self, model: type[M]) -> M:
        """The validated body."""
        assert isinstance(self.body, model)  # noqa: S101  the table says so
        return self.body

    @property
    def wants_no_wait(self) -> bool:
        """True if the client would rather be answered before the work is done (RFC 7240)."""
        preferences = ",".join(self.request.headers.getall("Prefer", ())).lower()
        return "respond-async" in (each.split(";")[0].strip() for each in preferences.split(","))


Handler = Callable[[ApiCall], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A line of the table."""

    method: str
    path: str
    handle: Handler
    summary: str
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    """What each good status comes with."""
    access: Access = "key"
    body: type[BaseModel] | None = None
    raw: bool = False
    """The handler decodes the parsed body itself, by the same model."""
    query: type[BaseModel] | None = None
    max_bytes: int = MAX_BODY_BYTES
    prefers: bool = False
    """`Prefer: respond-async` is understood."""
    aliases: tuple[str, ...] = ()


class OperationRouter:
    """Where requests of operations are received: key, customer, query, body, then the handler."""

    def __init__(
        self,
        keys: KeyVerifier,
        customer_exists: Callable[[int], Awaitable[bool]],
        *,
        body_timeout_s: float = 30.0,
    ) -> None:
        self._keys = keys
        self._customer_exists = customer_exists
        self._body_timeout_s = body_timeout_s

    def add(self, router: web.UrlDispatcher, operation: Operation) -> None:
        """Put an operation on the router."""
        for path in (operation.path, *operation.aliases):
            pattern = re.sub(r"\{(\w+)\}", lambda m: f"{{{m[1]}:{_PLACES[m[1]]}}}", path)
            if operation.method == "GET":
                router.add_get(pattern, self._received(operation))
            else:
                router.add_route(operation.method, pattern, self._received(operation))

    def _received(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def receive(request: web.Request) -> web.Response:
            request[REQUEST_CLASS] = "api"
            caller = await self._admitted(request, operation)
            query = None
            if operation.query is not None:
                query = _valid(operation.query, dict(request.query))
            body = None
            if operation.body is not None:
                body = await self._body_of(request, operation.body, operation)
            return await operation.handle(ApiCall(request, caller, body, query))

        return receive

    async def _body_of(
        self, request: web.Request, model: type[BaseModel], operation: Operation
    ) -> Any:
        most = operation.max_bytes
        parsed = read_json(await read_body(request, most, self._body_timeout_s), most)
        return parsed if operation.raw else _valid(model, parsed)

    async def _admitted(self, request: web.Request, operation: Operation) -> Caller:
        """Who asks, if they may. Raises KeyRequired, Forbidden, NotFound."""
        if operation.access == "open":
            return Caller(0, admin=False)
        check_own_pages_only(request)
        caller = await caller_of(request, self._keys)
        if operation.access == "admin":
            caller.check_admin()
        if "customer" in request.match_info:
            customer = int(request.match_info["customer"])
            caller.check(customer)
            if not await self._customer_exists(customer):
                raise NotFound(f"There is no customer {customer}.")
        return caller


async def read_body(request: web.Request, max_bytes: int, timeout_s: float) -> bytes:
    """The body, decompressed, of at most so many bytes. Raises TooLarge, InvalidInput, 408, 415."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type and not _JSON_TYPES.fullmatch(media_type):
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > max_bytes:
        raise _over(max_bytes)
    read = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.content.iter_any():
                read += chunk
                if len(read) > max_bytes:
                    raise _over(max_bytes)
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidInput("The body is not encoded as its headers say.") from error
    return bytes(read)


def _over(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is over {max_bytes} bytes.")


def _valid(model: type[BaseModel], value: object) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = faults_of(error)
        raise InvalidInput(faults[0] if len(faults) == 1 else "\n".join(faults)) from error
