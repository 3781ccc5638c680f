"""The pages below `/auth/`. They are never cached; errors are pages, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from orchestrator.settings import AuthService
from orchestrator.web.page_templates import PAGES, Pages, page_policy
from orchestrator.web.responses import ERROR_HEADERS, REQUEST_CLASS

NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_CONFIRM = {"password": "Sign in", "openid": "Sign in", "clickthrough": "I agree"}


class SignInPages:
    """Makes the pages of one process."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def begin(self, request: web.Request, *, for_people: bool = True) -> None:
        """Begin a request: from now on its errors are never cached, and pages `for_people`."""
        request[REQUEST_CLASS] = "auth"
        request[ERROR_HEADERS] = tuple(NO_STORE.items())
        if for_people:
            request[PAGES] = self._pages

    def form(
        self,
        service: AuthService,
        *,
        action: str,
        base: str,
        origin: str,
        user: str | None,
        problem: str = "",
        status: int = 200,
    ) -> web.Response:
        """The page on which a user signs in to a service for the viewer of `origin` ("" for none).
        `action` is the address of the service. `user` is who is signed in already ("" if the
        service knows no names), None before that. `problem` says why the last try failed.
        """
        is_known = user is not None
        has_password = service.kind == "password" and not is_known
        body = self._pages.render(
            "sign_in.html",
            base,
            title=service.label,
            service=service,
            problem=problem,
            origin=origin,
            user=user,
            action=action,
            has_names=has_password and not service.password.get_secret_value(),
            has_password=has_password,
            confirm="Continue"
            if is_known
            else service.confirm_label or _CONFIRM.get(service.kind, "Continue"),
        )
        policy = page_policy()
        if service.kind == "openid":
            # A browser applies form-action also to the redirect that answers the form, which leads
            # to the provider.
            policy = policy.replace("form-action 'self'; ", "")
        return _response(body, policy, status)

    def message(
        self, title: str, text: str, base: str, *, status: int = 200, closes: bool = False
    ) -> web.Response:
        """A page with one message; `closes`: it closes its window if a viewer opened it."""
        body = self._pages.render(
            "sign_in_message.html", base, title=title, text=text, closes=closes
        )
        return _response(body, page_policy(), status)

    def post_message(self, message: Mapping[str, Any], origin: str, base: str) -> web.Response:
        """The page of a hidden frame, which posts `message` to the viewer of this origin."""
        text = json.dumps(message)
        body = self._pages.render("viewer_token.html", base, message=text, origin=origin)
        policy = f"default-src 'none'; script-src 'self'; frame-ancestors {origin}"
        return _response(body, policy, 200)


def _response(body: bytes, policy: str, status: int) -> web.Response:
    return web.Response(
        body=body,
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={
            **NO_STORE,
            "Content-Security-Policy": policy,
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )
