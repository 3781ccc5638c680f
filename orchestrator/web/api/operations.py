"""An operation of the API: its path, its request and response models, who may call it, and its
handler.

One table of operations (`operation_table.py`) defines the routes, validates the requests, and is
written to `/openapi.json`. A handler therefore never gets a body that the document does not
describe.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from orchestrator.client_budgets import ClientBudgets
from orchestrator.errors import InvalidImageRequest, InvalidInput, NotFound, TooLarge
from orchestrator.ingest.payload.envelopes import MAX_BODY_BYTES, read_json
from orchestrator.ingest.payload.fields import faults_of
from orchestrator.model import AssetId
from orchestrator.web.api.authentication import (
    Caller,
    KeyVerifier,
    authenticate,
    refuse_cross_site_change,
)
from orchestrator.web.page_templates import PAGES, Pages
from orchestrator.web.responses import REQUEST_CLASS

_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json|application/octet-stream|text/plain")
_PARAMETER_PATTERNS = {
    "customer": r"[0-9]{1,9}",
    "space": r"[0-9]{1,9}",
    "batch": r"[0-9]{1,18}",
    "job": r"[0-9]{1,18}",
    "strategy": r"[0-9a-fA-F-]{36}",
    "key": r"[0-9a-f]{16}",
    "image": r"[^/]+",
    "name": r"[^/]+",
}
"""The values that each path parameter accepts; a path with any other value is a 404."""

_WRONG_ENCODING = (
    "The body does not have the encoding that the headers state."
    " Check Content-Encoding and Content-Length."
)
Access = Literal["open", "key", "admin", "sender"]
"""Who may call an operation: anyone, the holder of a key, of an admin key, or a sender of events,
which the handler checks.
"""
Responses = Mapping[int, type[BaseModel] | None]
"""The response model of each status below 400; None: no body."""
M = TypeVar("M", bound=BaseModel)


_TOO_MANY = "This customer sent too many requests. Repeat it after the seconds of Retry-After."


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request of an operation, authenticated and validated."""

    request: web.Request
    caller: Caller
    body: Any = None
    """An instance of the operation's body model; the parsed JSON if the operation is `raw`."""
    query: Any = None
    is_picture: bool = False
    """True if the body is a picture, which the handler reads."""

    def path_number(self, name: str) -> int:
        """Return the value of a numeric path parameter."""
        return int(self.request.match_info[name])

    def path_text(self, name: str) -> str:
        """Return the decoded value of a path parameter."""
        return self.request.match_info[name]

    @property
    def customer(self) -> int:
        """The customer in the path."""
        return self.path_number("customer")

    @property
    def asset_id(self) -> AssetId:
        """The id of the asset in the path. Raises NotFound for a name that no asset can have."""
        try:
            return AssetId(self.customer, self.path_number("space"), self.path_text("image"))
        except InvalidImageRequest as error:
            raise NotFound("No asset can have this name. Check the path.") from error

    def query_as(self, model: type[M]) -> M:
        """Return the validated query."""
        assert isinstance(self.query, model)  # noqa: S101  the table names the model
        return self.query

    def body_as(self, model: type[M]) -> M:
        """Return the validated body."""
        assert isinstance(self.body, model)  # noqa: S101  the table names the model
        return self.body

    @property
    def prefers_async(self) -> bool:
        """True if the client asks for a response before the work is done (RFC 7240)."""
        preferences = ",".join(self.request.headers.getall("Prefer", ())).lower()
        return "respond-async" in (each.split(";")[0].strip() for each in preferences.split(","))


Handler = Callable[[ApiCall], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the table."""

    method: str
    path: str
    handle: Handler
    summary: str
    responses: Responses = field(default_factory=dict)
    access: Access = "key"
    body: type[BaseModel] | None = None
    raw: bool = False
    """True if the handler itself validates the parsed body with `body`."""
    query: type[BaseModel] | None = None
    max_bytes: int = MAX_BODY_BYTES
    pages: Pages | None = None
    """Set if the operation answers people: clients that prefer HTML get its errors as pages."""
    can_respond_async: bool = False
    """True if the operation accepts `Prefer: respond-async`."""
    aliases: tuple[str, ...] = ()
    takes_picture: bool = False
    """True if the body may be a picture instead of JSON."""


class OperationRouter:
    """Routes requests to operations: checks key, customer, query and body, then calls the
    handler.
    """

    def __init__(
        self,
        keys: KeyVerifier,
        customer_exists: Callable[[int], Awaitable[bool]],
        *,
        body_timeout_s: float = 30.0,
        rate_limit: int = 0,
    ) -> None:
        """`rate_limit` is in requests per minute of one customer; 0 means none."""
        self._budgets = ClientBudgets(rate_limit, _TOO_MANY) if rate_limit else None
        self._keys = keys
        self._customer_exists = customer_exists
        self._body_timeout_s = body_timeout_s

    def add(self, router: web.UrlDispatcher, operation: Operation) -> None:
        """Add the routes of an operation."""
        for path in (operation.path, *operation.aliases):
            pattern = re.sub(
                r"\{(\w+)\}", lambda m: f"{{{m[1]}:{_PARAMETER_PATTERNS[m[1]]}}}", path
            )
            if operation.method == "GET":
                router.add_get(pattern, self._make_handler(operation))
            else:
                router.add_route(operation.method, pattern, self._make_handler(operation))

    def _make_handler(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            request[REQUEST_CLASS] = "api"
            if operation.pages is not None:
                request[PAGES] = operation.pages
            caller = await self._authorise(request, operation)
            query = _read_query(request, operation.query)
            body = None
            is_picture = operation.takes_picture and _is_picture(request)
            if operation.body is not None and not is_picture:
                body = await self._read_body(request, operation.body, operation)
            return await operation.handle(ApiCall(request, caller, body, query, is_picture))

        return handle

    async def _read_body(
        self, request: web.Request, model: type[BaseModel], operation: Operation
    ) -> Any:
        max_bytes = operation.max_bytes
        body = await read_body(request, max_bytes, self._body_timeout_s)
        document = read_json(body, max_bytes)
        return document if operation.raw else _validate(model, document)

    async def _authorise(self, request: web.Request, operation: Operation) -> Caller:
        """Return the caller if it may call the operation. Raises KeyRequired, Forbidden, NotFound,
        TooManyRequests.
        """
        if operation.access in ("open", "sender"):
            return Caller(0, admin=False)
        refuse_cross_site_change(request)
        caller = await authenticate(request, self._keys)
        if self._budgets is not None and not caller.admin:
            self._budgets.spend(str(caller.customer))
        if operation.access == "admin":
            caller.require_admin()
        if "customer" in request.match_info:
            customer = int(request.match_info["customer"])
            caller.require_access(customer)
            if not await self._customer_exists(customer):
                raise NotFound(f"There is no customer {customer}. Check the path.")
        return caller


def _is_picture(request: web.Request) -> bool:
    return request.headers.get("Content-Type", "").strip().lower().startswith("image/")


async def read_picture(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the bytes of a body that is a picture. Raises InvalidInput for a body that does not
    have the encoding or the length that the headers state.
    """
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidInput(_WRONG_ENCODING) from error


def _read_query(request: web.Request, model: type[BaseModel] | None) -> BaseModel | None:
    """Return the validated query. A parameter that the operation does not have is refused: with a
    misspelt `state=` a client would get, or retry, more than it asked for.
    """
    known = _parameters_of(model)
    unknown = sorted({name[:40] for name in request.query if name not in known})
    if unknown:
        has = f"It has {', '.join(known)}." if known else "It has none."
        raise InvalidInput(f"This operation has no query parameter {', '.join(unknown)}. {has}")
    if len(set(request.query)) < len(request.query):
        raise InvalidInput("A query parameter occurs more than once. Send it once.")
    return None if model is None else _validate(model, dict(request.query))


@cache
def _parameters_of(model: type[BaseModel] | None) -> tuple[str, ...]:
    if model is None:
        return ()
    return tuple(field.alias or name for name, field in model.model_fields.items())


async def read_body(request: web.Request, max_bytes: int, timeout_s: float) -> bytes:
    """Return the decompressed body of at most `max_bytes` bytes. Raises TooLarge, InvalidInput, and
    aiohttp's errors for 408 and 415.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type and not _JSON_TYPES.fullmatch(media_type):
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > max_bytes:
        raise _body_too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise _body_too_large(max_bytes)
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidInput(_WRONG_ENCODING) from error
    return bytes(body)


def _body_too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes} bytes. Send a smaller one.")


def _validate(model: type[BaseModel], value: object) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = faults_of(error)
        raise InvalidInput(faults[0] if len(faults) == 1 else "\n".join(faults)) from error
