"""One request to an access service, with everything that it names looked up and checked."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.iiif.access_services import AccessAddresses
from orchestrator.routing.access_tokens import Session, SignedTokens
from orchestrator.settings import Auth, AuthService
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.sign_in.request_checks import origin_of, parse_origin

MAX_ORIGINS = 6
"""Origins in one session; the cookie must stay below 4096 bytes. The oldest one is forgotten."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to the access service of a customer for the viewer of `origin` ("" for none)."""

    service: AuthService
    customer: int
    version: int
    """Version of the authorization API, by the path: 1 or 2."""
    base: str
    """Our public address."""
    origin: str
    is_trusted: bool
    """True if the viewer gets a token without asking the user: it is ours, or in the settings."""
    session: Session | None
    """The session of the user with this service, if there is one."""

    @property
    def action(self) -> str:
        """The address of the service."""
        addresses = AccessAddresses(self.base, self.customer)
        return addresses.access(self.service.name, version=self.version)

    @property
    def is_settled(self) -> bool:
        """True if there is nothing left to do for the user."""
        return self.session is not None and (self.is_trusted or self.origin in self.session.origins)

    def new_session(self, roles: frozenset[str], user: str, session_s: float) -> Session:
        """The session of a user who signed in now. The viewer is recorded by `confirmed`."""
        expires = int(time.time() + session_s)
        return Session(self.service.name, self.customer, roles, expires, user=user[:200])

    def confirmed(self, session: Session) -> Session:
        """The session after its user has confirmed the viewer of this request on our page."""
        if not self.origin or self.is_trusted or self.origin in session.origins:
            return session
        origins = (*session.origins, self.origin)[-MAX_ORIGINS:]
        return replace(session, origins=origins)


class VisitReader:
    """Reads requests to access services."""

    def __init__(
        self, settings: Auth, tokens: SignedTokens, addresses: PublicAddressResolver
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._addresses = addresses

    def read(self, request: web.Request, origin: str) -> Visit:
        """The request with this `origin`. Raises NotFound for an unknown service, InvalidInput for
        a malformed origin.
        """
        match = request.match_info
        version = 2 if request.path.startswith("/auth/v2/") else 1
        return self.find(request, match["service"], int(match["customer"]), version, origin)

    def find(
        self, request: web.Request, name: str, customer: int, version: int, origin: str
    ) -> Visit:
        """The same for a service and customer that the path does not name."""
        service = next(
            (
                each
                for each in self._settings.services
                if each.name == name and each.customer in (None, customer)
            ),
            None,
        )
        if service is None:
            raise NotFound("There is no such service. Check the path.")
        base = self._addresses.resolve_request(request).base
        origin = parse_origin(origin) if origin else ""
        sessions = self._tokens.sessions(request.cookies)
        found = (each for each in sessions if (each.service, each.customer) == (name, customer))
        return Visit(
            service,
            customer,
            version,
            base,
            origin,
            self.trusts(origin, base),
            next(found, None),
        )

    def trusts(self, origin: str, base: str) -> bool:
        """True if a viewer of this origin gets a token without asking the user."""
        return origin in ("", origin_of(base)) or origin in self._settings.viewer_origins
