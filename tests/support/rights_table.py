"""The assets, the rights and the routes of `tests/e2e/test_rights.py`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from orchestrator.routing.access_tokens import Session, SignedTokens

SECRET = "a secret of at least thirty-two bytes"
EDGE = 300
"""Longest edge in pixels of the limited image that everyone may see."""


@dataclass(frozen=True)
class Subject:
    """An image, and what only those with its role may learn."""

    name: str
    width: int
    height: int
    edge: int
    """Longest edge that everyone may see; -1: no limit."""
    word: str
    """In its metadata."""

    @property
    def path(self) -> str:
        return f"1/1/{self.name}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no answer may have for those without the role."""
        if self.edge:
            return ()
        return (self.word, *(str(side) for side in (self.width, self.height) if side))


OPEN = Subject("open-7", 812, 613, -1, "WORD-OF-OPEN")
LIMITED = Subject("limited-7", 1733, 1201, EDGE, "WORD-OF-LIMITED")
HIDDEN = Subject("veiled-7", 1777, 1213, 0, "WORD-OF-HIDDEN")
REFUSED = Subject("zz-refused-7", 0, 0, 0, "WORD-OF-REFUSED")
"""Hidden, and its file cannot be decoded. The last one of its space."""
SUBJECTS = (OPEN, LIMITED, HIDDEN, REFUSED)


# --- rights -------------------------------------------------------------------------------------


def _tokens() -> SignedTokens:
    return SignedTokens(SECRET, "orchestrator-token")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def outsiders() -> dict[str, dict[str, str]]:
    """Headers of requests that have no right to the restricted images."""
    tokens, now = _tokens(), int(time.time())
    forged = SignedTokens("another secret that is long enough", "orchestrator-token")
    session = Session("staff", 2, frozenset({"staff"}), now + 3600)
    return {
        "anonymous": {},
        "another role": _bearer(tokens.create(["visitor"], 3600)),
        "another customer": _bearer(tokens.create(["staff"], 3600, customer=2)),
        "session of another customer": {
            "Cookie": f"orchestrator-token-2-staff={tokens.create_session(session)}"
        },
        "expired": _bearer(tokens.sign("", {"roles": ["staff"]}, now - 1)),
        "forged": _bearer(forged.create(["staff"], 3600)),
    }


def insiders() -> dict[str, dict[str, str]]:
    """Headers of requests that may see everything of the restricted images."""
    tokens = _tokens()
    session = Session("staff", 1, frozenset({"staff"}), int(time.time()) + 3600)
    return {
        "role": _bearer(tokens.create(["staff"], 3600)),
        "cookie": {"Cookie": f"orchestrator-token={tokens.create(['staff'], 3600)}"},
        "session": {"Cookie": f"orchestrator-token-1-staff={tokens.create_session(session)}"},
    }


def viewer() -> dict[str, str]:
    """Headers of a viewer's token: it shows documents, and no images."""
    expires = int(time.time()) + 3600
    return _bearer(_tokens().create_viewer_token(frozenset({"staff"}), 1, expires))


# --- routes -------------------------------------------------------------------------------------

Kind = Literal["image", "document", "list", "book", "stream", "constant"]


@dataclass(frozen=True)
class Row:
    """A route, and what it answers to those without the role.

    The status is that for a hidden and for a limited image. An `image` is checked to be no larger
    than the public edge; a `document` and a `list` not to have the secrets. A `book` has hidden
    images among others, and nothing about them but their ids. A `stream` tells once that an image
    is no longer public. A `constant` depends on no asset.
    """

    path: str
    """`{name}` stands for the name of the image."""
    kind: Kind
    hidden: int = 401
    limited: int = 200
    route: str = ""
    """The row of `docs/http.md` that it belongs to, by its fixed part; by default the first part of
    the path.
    """
    accept: str = "*/*"
    images_only: bool = False
    """True: a viewer's token has no right here."""
    whole: int = 200
    """The status for those with the role."""

    @property
    def id(self) -> str:
        return f"{self.path} {self.accept}" if self.accept != "*/*" else self.path

    @property
    def fixed_part(self) -> str:
        return self.route or "/" + self.path.split("/")[1].partition("?")[0]

    def headers(self, rights: dict[str, str]) -> dict[str, str]:
        return {"Accept": self.accept, **rights}

    def url(self, subject: Subject) -> str:
        return self.path.format(name=subject.name)

    def status(self, subject: Subject) -> int:
        return {0: self.hidden, EDGE: self.limited}.get(subject.edge, self.whole)


def _image(path: str, *, hidden: int = 401, limited: int = 200, **values: object) -> Row:
    return Row(path, "image", hidden, limited, images_only=True, **values)  # type: ignore[arg-type]


def _list(path: str, kind: Kind = "list", **values: object) -> Row:
    return Row(path, kind, 200, 200, **values)  # type: ignore[arg-type]


JSON, HTML = "application/json", "text/html"
IMG, ID = "/iiif-img/1/1/{name}", "/iiif/3/1%2F1%2F{name}"
ROWS = (
    _image(f"{IMG}/full/max/0/default.jpg"),
    _image("/iiif-img/v2/1/1/{name}/full/full/0/default.jpg", limited=401),
    _image("/iiif-img/v2/1/1/{name}/full/max/0/default.jpg"),
    _image(f"{ID}/full/max/0/default.jpg"),
    _image(f"{ID}/full/{EDGE},/0/default.jpg"),
    _image(f"{ID}/full/{EDGE + 1},/0/default.jpg", limited=401),
    _image(f"{ID}/full/400,/0/default.png", limited=401),
    _image(f"{ID}/full/^2000,/0/default.jpg", limited=401),
    _image(f"{ID}/full/pct:100/90/gray.jpg", limited=401),
    _image(f"{ID}/0,0,256,256/256,256/0/default.jpg", limited=401),
    _image(f"{ID}/0,0,256,256/max/0/default.webp"),
    _image(f"{ID}/9000,9000,10,10/max/0/default.jpg", limited=400, whole=400),
    _image("/iiif/2/1%2F1%2F{name}/512,512,256,256/256,/0/default.jpg", limited=401),
    _image("/thumbs/1/1/{name}/full/200,/0/default.jpg"),
    _image("/thumbs/1/1/{name}/full/400,/0/default.jpg", limited=401),
    _image("/thumbs/1/1/{name}/full/max/0/default.jpg"),
    _image("/ico/width=900/asset:1/1/{name}", limited=401),
    _image("/ico/width=200/asset:1/1/{name}", limited=401),
    Row(f"{IMG}/info.json", "document"),
    Row("/iiif-img/v2/1/1/{name}/info.json", "document"),
    Row(f"{ID}/info.json", "document"),
    Row("/iiif/2/1%2F1%2F{name}/info.json", "document"),
    Row("/thumbs/1/1/{name}/info.json", "document", images_only=True),
    Row(IMG, "constant", 303, 303, whole=303),
    Row("/iiif-manifest/1/1/{name}", "document", 200),
    Row("/iiif-manifest/v2/1/1/{name}", "document", 200),
    Row("/view/1/1/{name}", "document", accept=HTML, images_only=True),
    Row("/auth/v2/probe/1/1/{name}", "document", 200, route="/auth/v2/probe"),
    _list("/", accept=JSON),
    _list("/", accept=HTML),
    _list("/?limit=1&after=1%2F1%2Fopen-7", accept=JSON),
    _list("/?q=WORD", accept=JSON),
    _list("/?q=WORD&limit=1", accept=JSON),
    _list("/?q=WORD-OF-HIDDEN", accept=JSON),
    _list("/?q=veiled", accept=JSON),
    _list("/iiif-collection/1"),
    _list("/iiif-collection/1/1"),
    _list("/iiif-collection/v2/1/1"),
    _list("/iiif-resource/1/all/1", "book"),
    _list("/iiif-resource/v2/1/all/1", "book"),
    _list("/iiif-activity/1/all-changes", "stream"),
    _list("/iiif-activity/1/page/1", "stream"),
)

OUTSIDE = {
    "/auth/v2/access": "depends on no image; tests/e2e/test_sign_in.py",
    "/auth": "depends on no image; tests/e2e/test_sign_in.py",
    "/auth/openid/callback": "depends on no image; tests/e2e/test_sign_in.py",
    "/static": "files of the product",
    "/health/live": "no image",
    "/health/ready": "no image",
    **dict.fromkeys(
        (
            "/ping",
            "/upload",
            "/publish",
            "/recrop",
            "/rotate",
            "/delete",
            "/active",
            "/tus",
            "/presign",
            "/complete",
            "/uploads",
        ),
        "published pictures, which are public, and no assets",
    ),
}
"""Routes that are in no row, and why."""
