"""The probe and token services, which viewers call (docs/adr/0026-sign-in.md)."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from orchestrator.errors import InvalidInput
from orchestrator.iiif.access_services import CONTEXT_2
from orchestrator.iiif.paths import encode_identifier, parse_path
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import Session, SignedTokens
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.settings import Auth
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.sign_in.request_checks import parse_origin
from orchestrator.web.sign_in.sign_in_pages import NO_STORE, SignInPages
from orchestrator.web.sign_in.visits import VisitReader

PROBE = "/auth/v2/probe/"
MAX_MESSAGE_ID_CHARS = 500
_CUSTOMER = "{customer:[0-9]{1,9}}"
_ERRORS = {
    "missingAspect": ("missingCredentials", "You are not signed in."),
    "expiredAspect": ("invalidCredentials", "Your session has expired. Sign in again."),
    "invalidOrigin": ("invalidOrigin", "You have not permitted this viewer. Sign in again."),
}
"""Errors of the token service by their names in version 2.0: (name in version 1.0, text)."""


class ViewerRoutes:
    """Handlers of the probe and token services of one process."""

    def __init__(
        self,
        settings: Auth,
        tokens: SignedTokens,
        assets: CurrentAssets,
        visits: VisitReader,
        *,
        pages: SignInPages,
        addresses: PublicAddressResolver,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._assets = assets
        self._visits = visits
        self._pages = pages
        self._addresses = addresses

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(f"{PROBE}{{asset:(?s:.+)}}", self.probe)
        router.add_get(f"/auth/v2/access/{_CUSTOMER}/token", self.token)
        router.add_get(f"/auth/{_CUSTOMER}/token", self.token_1)

    async def probe(self, request: web.Request) -> web.StreamResponse:
        """Answer whether the image can be seen with the rights of this request. The status of the
        answer is in its body (Authorization Flow API 2.0); the response is 200.
        """
        self._pages.begin(request, for_people=False)
        path = parse_path("/iiif-img/" + request.raw_path.partition("?")[0].removeprefix(PROBE))
        asset = await self._assets.known(AssetId.parse(path.identifier))
        authorization = request.headers.get("Authorization", "")
        rights = self._tokens.rights(authorization, request.cookies, documents=True)
        edge = None if rights.cover(asset) else asset.public_edge
        result: dict[str, Any] = {"@context": CONTEXT_2, "type": "AuthProbeResult2"}
        result["status"] = 200 if edge is None else 401
        if edge:
            result["substitute"] = _public_image(asset, self._base_of(request))
        return web.json_response(result, headers=NO_STORE)

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page that posts a token, or the reason why there is none, to the viewer.

        Raises InvalidInput if the request does not name the viewer.
        """
        self._pages.begin(request, for_people=False)
        message_id = _message_id(request)
        if message_id is None or "origin" not in request.query:
            raise InvalidInput("Send messageId and origin.")
        origin = parse_origin(request.query["origin"])
        sessions, fault = self._sessions_for(request, origin)
        head = {"@context": CONTEXT_2, "messageId": message_id}
        if fault:
            note = {self._settings.language: [_ERRORS[fault][1]]}
            message = {**head, "type": "AuthAccessTokenError2", "profile": fault, "note": note}
        else:
            message = {**head, "type": "AuthAccessToken2", **self._make_token(request, sessions)}
        return self._pages.post_message(message, origin, self._base_of(request))

    async def token_1(self, request: web.Request) -> web.StreamResponse:
        """Answer in the form of version 1.0: JSON without `messageId`, for clients that are no
        browsers. A script of another site cannot read it.
        """
        self._pages.begin(request, for_people=False)
        message_id = _message_id(request)
        origin = parse_origin(request.query["origin"]) if "origin" in request.query else ""
        if message_id is not None and not origin:
            raise InvalidInput("Send origin with messageId.")
        sessions, fault = self._sessions_for(request, origin)
        message: dict[str, Any] = {} if message_id is None else {"messageId": message_id}
        if fault:
            name, text = _ERRORS[fault]
            message |= {"error": name, "description": text}
        else:
            message |= self._make_token(request, sessions)
        if message_id is not None:
            return self._pages.post_message(message, origin, self._base_of(request))
        headers = {**NO_STORE, "Cross-Origin-Resource-Policy": "same-origin"}
        return web.json_response(message, status=401 if fault else 200, headers=headers)

    def _sessions_for(self, request: web.Request, origin: str) -> tuple[list[Session], str]:
        """The sessions of the customer whose user permits the viewer of this origin; if there are
        none, the reason.
        """
        customer = int(request.match_info["customer"])
        sessions = [
            each
            for each in self._tokens.sessions(request.cookies)
            if each.customer in (None, customer)
        ]
        is_trusted = self._visits.trusts(origin, self._base_of(request))
        permitted = [each for each in sessions if is_trusted or origin in each.origins]
        if permitted:
            return permitted, ""
        if sessions:
            return [], "invalidOrigin"
        is_expired = self._tokens.has_session_cookie(request.cookies)
        return [], "expiredAspect" if is_expired else "missingAspect"

    def _base_of(self, request: web.Request) -> str:
        return self._addresses.resolve_request(request).base

    def _make_token(self, request: web.Request, sessions: list[Session]) -> dict[str, Any]:
        now = int(time.time())
        expires = min(
            now + int(self._settings.viewer_token_s), *(each.expires for each in sessions)
        )
        roles = frozenset().union(*(each.roles for each in sessions))
        token = self._tokens.create_viewer_token(
            roles, int(request.match_info["customer"]), expires
        )
        return {"accessToken": token, "expiresIn": max(1, expires - now)}


def _message_id(request: web.Request) -> str | None:
    found = request.query.get("messageId")
    if found is not None and len(found) > MAX_MESSAGE_ID_CHARS:
        raise InvalidInput(f"messageId must have at most {MAX_MESSAGE_ID_CHARS} characters.")
    return found


def _public_image(asset: Asset, base: str) -> dict[str, str]:
    """What everyone may see of the asset, as the substitute in a probe result."""
    identifier = encode_identifier(str(asset.id))
    address = f"{base}/iiif/3/{identifier}/full/max/0/default.jpg"
    return {"id": address, "type": "Image", "format": "image/jpeg"}
