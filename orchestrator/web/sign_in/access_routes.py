"""The access and logout services: users sign in on our page, at an OpenID Connect provider, or by
agreeing to terms; computers of a kiosk by their network (docs/adr/0026-sign-in.md).

A GET changes nothing for a viewer that the user has not confirmed; a POST counts only from our
page.
"""

from __future__ import annotations

import hmac
import logging
import time

from aiohttp import web

from orchestrator.errors import Forbidden, NotFound, Overloaded, TooManyRequests
from orchestrator.routing.access_tokens import Session, SignedTokens
from orchestrator.settings import Auth
from orchestrator.sign_in.access_rules import is_in_networks, openid_roles
from orchestrator.sign_in.openid_client import OpenIdClient, PendingSignIn
from orchestrator.sign_in.password_check import PasswordCheck
from orchestrator.web.error_table import make_problem
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.sign_in.request_checks import (
    check_sent_by_our_page,
    check_shown_in_a_window,
)
from orchestrator.web.sign_in.session_cookies import STATE_S, SessionCookies, state_cookie
from orchestrator.web.sign_in.sign_in_pages import NO_STORE, SignInPages
from orchestrator.web.sign_in.visits import Visit, VisitReader

log = logging.getLogger(__name__)
CALLBACK = "/auth/openid/callback"
_CUSTOMER = "{customer:[0-9]{1,9}}"
_WRONG = "The user name or the password is wrong, or this user has no access."
_EXPIRED = (
    "The sign-in took too long, or began in another browser. Close this window and try again."
)


class AccessRoutes:
    """Handlers of the access and logout services of one process."""

    def __init__(
        self,
        settings: Auth,
        tokens: SignedTokens,
        visits: VisitReader,
        pages: SignInPages,
        addresses: PublicAddressResolver,
        *,
        passwords: PasswordCheck,
        openid: OpenIdClient,
    ) -> None:
        self._pages = pages
        self._settings = settings
        self._tokens = tokens
        self._visits = visits
        self._addresses = addresses
        self._passwords = passwords
        self._openid = openid
        self._cookies = SessionCookies(tokens, settings.cookie_domain)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes. Those of the token services must have been added before."""
        router.add_get(CALLBACK, self.return_from_provider)
        for root in (f"/auth/v2/access/{_CUSTOMER}", f"/auth/{_CUSTOMER}"):
            router.add_get(f"{root}/{{service}}/logout", self.sign_out)
            router.add_get(f"{root}/{{service}}", self.show)
            router.add_post(f"{root}/{{service}}", self.submit)

    async def show(self, request: web.Request) -> web.Response:
        """Answer GET of an access service: its page, or what needs no page."""
        self._pages.begin(request)
        visit = self._visits.read(request, request.query.get("origin", ""))
        if visit.is_settled:
            return self._signed_in(visit)
        match visit.service.kind:
            case "external":
                raise NotFound("This service has no page: another program signs users in.")
            case "kiosk":
                return self._enter_kiosk(request, visit)
            case "clickthrough" if visit.version == 1 and visit.is_trusted:
                return self._begin_session(visit, frozenset(visit.service.roles), "")
            case "openid" if visit.is_trusted:
                return await self._send_to_provider(visit)
        return self._form(visit)

    async def submit(self, request: web.Request) -> web.Response:
        """Answer POST of our page: the user signs in, or confirms another viewer."""
        self._pages.begin(request)
        fields = await request.post()
        visit = self._visits.read(request, str(fields.get("origin", "")))
        check_sent_by_our_page(request.headers, visit.base)
        if visit.session is not None:
            return self._keep(visit, visit.confirmed(visit.session))
        match visit.service.kind:
            case "password":
                name, password = str(fields.get("name", "")), str(fields.get("password", ""))
                return await self._check_password(request, visit, name, password)
            case "clickthrough":
                return self._begin_session(visit, frozenset(visit.service.roles), "")
            case "openid":
                return await self._send_to_provider(visit)
        raise NotFound("This service has no page.")

    async def return_from_provider(self, request: web.Request) -> web.Response:
        """Answer GET of the address to which the OpenID Connect provider sends users back."""
        self._pages.begin(request)
        state = request.query.get("state", "")
        kept = self._tokens.verify(request.cookies.get(state_cookie(state), ""), "sign-in")
        if not kept or not hmac.compare_digest(str(kept["state"]).encode(), state.encode()):
            raise Forbidden(_EXPIRED)
        pending = PendingSignIn.of(kept)
        visit = self._visits.find(
            request, kept["service"], kept["customer"], kept["version"], kept["origin"]
        )
        claims = await self._openid.finish(request.query, pending)
        roles = openid_roles(self._settings, visit.service, claims)
        user = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
        if roles:
            response = self._begin_session(visit, roles, user)
        else:
            log.info("sign-in refused", extra={"service": visit.service.name, "user": user})
            response = self._no_roles(visit)
        self._cookies.set_state(response, state, "", pending.redirect_uri)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """Answer GET of a logout service: delete the cookie of the session."""
        self._pages.begin(request)
        check_shown_in_a_window(request.headers)
        visit = self._visits.read(request, "")
        response = self._pages.message(
            "Signed out",
            "You are signed out. You can close this window.",
            visit.base,
            closes=True,
        )
        self._cookies.delete_session(response, visit.customer, visit.service.name, visit.base)
        return response

    def _form(self, visit: Visit, problem: str = "", status: int = 200) -> web.Response:
        return self._pages.form(
            visit.service,
            action=visit.action,
            base=visit.base,
            origin="" if visit.is_trusted else visit.origin,
            user=None if visit.session is None else visit.session.user,
            problem=problem,
            status=status,
        )

    async def _check_password(
        self, request: web.Request, visit: Visit, name: str, password: str
    ) -> web.Response:
        address = self._addresses.client_address(request)
        fields = {"service": visit.service.name, "user": name[:200], "address": address}
        try:
            user = await self._passwords.check(
                visit.service, visit.customer, name, password, address
            )
        except (TooManyRequests, Overloaded) as error:
            problem = make_problem(error)
            page = self._form(visit, problem.public, problem.status)
            page.headers.extend(problem.headers)
            return page
        if user is None:
            log.info("sign-in refused", extra=fields)
            return self._form(visit, _WRONG, 403)
        return self._begin_session(visit, user.roles, user.name)

    def _enter_kiosk(self, request: web.Request, visit: Visit) -> web.Response:
        address = self._addresses.client_address(request)
        if not is_in_networks(address, visit.service.networks):
            return self._no_roles(visit)
        session = visit.new_session(frozenset(visit.service.roles), "", self._settings.session_s)
        return self._keep(visit, session)

    async def _send_to_provider(self, visit: Visit) -> web.Response:
        address, pending = await self._openid.begin(f"{visit.base}{CALLBACK}")
        claims = {
            **pending.as_claims(),
            "service": visit.service.name,
            "customer": visit.customer,
            "version": visit.version,
            "origin": visit.origin,
        }
        kept = self._tokens.sign("sign-in", claims, int(time.time()) + STATE_S)
        response = web.Response(status=303, headers={**NO_STORE, "Location": address})
        self._cookies.set_state(response, pending.state, kept, pending.redirect_uri)
        return response

    def _begin_session(self, visit: Visit, roles: frozenset[str], user: str) -> web.Response:
        log.info("user signed in", extra={"service": visit.service.name, "user": user})
        session = visit.new_session(roles, user, self._settings.session_s)
        return self._keep(visit, visit.confirmed(session))

    def _keep(self, visit: Visit, session: Session) -> web.Response:
        response = self._signed_in(visit)
        self._cookies.set_session(response, session, visit.base)
        return response

    def _signed_in(self, visit: Visit) -> web.Response:
        text = "You have access now. You can close this window."
        return self._pages.message("Signed in", text, visit.base, closes=True)

    def _no_roles(self, visit: Visit) -> web.Response:
        service = visit.service
        text = service.error_note or "You have no access to these images."
        title = service.error_heading or "No access"
        return self._pages.message(title, text, visit.base, status=403)
