"""The settings of signed tokens, and of the services by which users sign in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.field_types import Count, Seconds, Section

ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class AuthService(Section):
    """A service by which users get access to restricted images."""

    name: ServiceName
    """Its name in addresses and in the name of its cookie; not `token`."""
    kind: Literal["password", "openid", "clickthrough", "kiosk", "external"] = "password"
    """How users get access: `password` (a page of ours), `openid` (OpenID Connect), `clickthrough`
    (they agree to terms), `kiosk` (by their network), `external` (the cookie `auth.cookie` is set
    by another program).
    """
    roles: Annotated[list[str], Field(min_length=1)]
    """Roles that the service gives at most; `*` is every role."""
    customer: Annotated[int, Field(ge=1)] | None = None
    """The only customer that has the service; without it, all customers."""
    label: str
    """What the service is called, with the name of the institution."""
    heading: str = ""
    """Heading of what is shown before the user signs in."""
    note: str = ""
    """Text that is shown before the user signs in."""
    confirm_label: str = ""
    """Text of the button by which the user begins."""
    logout_label: str = ""
    """Text of the link by which the user signs out."""
    error_heading: str = ""
    """Heading that is shown if the user gets no access."""
    error_note: str = ""
    """Text that is shown if the user gets no access."""
    password: SecretStr = SecretStr("")
    """Hash of a password that all users of the service share, of kind `password`; without it, the
    users are those of `auth.users`.
    """
    networks: list[str] = []
    """Networks (CIDR) of the computers that get access, of kind `kiosk`."""


class AuthUser(Section):
    """A user of services of kind `password`."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Name that the user types."""
    password: SecretStr
    """Hash of the password; `orchestrator token hash-password` prints it."""
    roles: Annotated[list[str], Field(min_length=1)]
    """Roles of the user; a service gives those of them that it has itself. `*` is every role."""
    customer: Annotated[int, Field(ge=1)] | None = None
    """The only customer whose images the user may see; without it, all customers."""


class Auth(Section):
    """Signed tokens, which give access to restricted assets, and the services by which users sign
    in: docs/sign-in.md.
    """

    token_secret: SecretStr = SecretStr("")
    """Secret that signs tokens; when empty, one is made at the first start and kept below the data
    directory. Several hosts that serve the same images need the same secret.
    """
    cookie: str = "orchestrator-token"
    """Name of the cookie that may carry a token. The names of the cookies of signed-in users begin
    with it.
    """
    cookie_domain: str = ""
    """Domain of the cookies of signed-in users; when empty, only the host that set them gets them.
    """
    session_s: Annotated[Seconds, Field(ge=60)] = 28_800
    """How long a user stays signed in."""
    viewer_token_s: Annotated[Seconds, Field(ge=60)] = 3_600
    """How long the token of a viewer is valid. It shows documents, and no images."""
    viewer_origins: list[str] = []
    """Origins (`https://viewer.example.org`) of viewers that get a token without asking the user.
    Other viewers get one after the user has confirmed it on the page of the service.
    """
    language: str = "en"
    """Language of the texts of the services, as a BCP 47 tag."""
    services: list[AuthService] = []
    """Services by which users get access: `{name = "staff", roles = ["staff"], label = "Library"}`.
    Without any, only signed tokens give access.
    """
    users: list[AuthUser] = []
    """Users of services of kind `password`: `{name = "ada", password = "HASH", roles = ["staff"]}`.
    """
    password_attempts: Count = 10
    """Passwords that one network address may try in a minute, in each serve process; more are
    answered 429. A right password does not count.
    """
    openid_issuer: str = ""
    """Address of the OpenID Connect provider; `/.well-known/openid-configuration` is below it."""
    openid_client_id: str = ""
    """Client id that the provider gave."""
    openid_client_secret: SecretStr = SecretStr("")
    """Client secret that the provider gave; when empty, the client is a public one."""
    openid_scopes: list[str] = ["openid", "profile"]
    """Scopes that are requested."""
    openid_roles_claim: str = "roles"
    """Claim of the ID token, or of the user information, whose values are mapped to roles; a dot
    leads into an object (`realm_access.roles`).
    """
    openid_roles: dict[str, list[str]] = {}
    """Roles of each value of that claim: `{"library-staff" = ["staff"]}`. Without any, each user of
    the provider gets all roles of the service.
    """
