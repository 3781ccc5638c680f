"""Checks the passwords of users. Only hashes (Argon2id) are stored; the check takes the same time
for an unknown user, runs in a thread, and few run at once, because each takes 64 MiB.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from orchestrator.client_budgets import ClientBudgets, network_of
from orchestrator.errors import Overloaded
from orchestrator.settings import Auth, AuthService, AuthUser
from orchestrator.sign_in.access_rules import common_roles

MAX_PASSWORD_CHARS = 1024
MAX_CHECKS = 2
"""Checks that run at once in a process."""
MAX_WAITING = 20
_ATTEMPTS_OF_A_NAME = 6
"""How many times more attempts a user name has than an address: users of one name may try from
several networks, and a stranger who tries cannot easily lock the user out.
"""


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A user whose password is right, with the roles that the service gives."""

    name: str
    roles: frozenset[str]


def hash_password(password: str) -> str:
    """The hash of a password, for the settings. Blocks for a moment."""
    return PasswordHasher().hash(password)


class PasswordCheck:
    """Checks the passwords of one process."""

    def __init__(self, settings: Auth, hasher: PasswordHasher | None = None) -> None:
        self._users: Sequence[AuthUser] = settings.users
        self._hasher = hasher or PasswordHasher()
        # Compared for users that do not exist. No password has this hash.
        self._absent = self._hasher.hash(secrets.token_hex())
        rate, refusal = settings.password_attempts, "Too many passwords were tried. Wait a minute."
        self._by_address = ClientBudgets(rate, refusal)
        self._by_name = ClientBudgets(rate * _ATTEMPTS_OF_A_NAME, refusal)
        self._slots = asyncio.Semaphore(MAX_CHECKS)
        self._waiting = 0

    async def check(
        self, service: AuthService, customer: int, name: str, password: str, address: str
    ) -> SignedInUser | None:
        """The user of this name, or None if there is none who may use the service, or if the
        password is wrong. A service with a password of its own ignores the name.

        `address` is the client's. Raises TooManyRequests, and Overloaded if too many checks wait.
        """
        shared = service.password.get_secret_value()
        user = None if shared else self._find_user(name, customer)
        client = network_of(address)
        account = service.name if shared else f"{service.name}/{name.casefold()}"
        self._by_address.spend(client)
        self._by_name.spend(account)
        stored = shared or (user.password.get_secret_value() if user else self._absent)
        if not await self._verify(stored, password) or not (shared or user):
            return None
        self._by_address.restore(client)
        self._by_name.restore(account)
        roles = frozenset(service.roles) if user is None else common_roles(user.roles, service)
        return SignedInUser(user.name if user else "", roles) if roles else None

    def _find_user(self, name: str, customer: int) -> AuthUser | None:
        return next(
            (
                user
                for user in self._users
                if user.name == name and user.customer in (None, customer)
            ),
            None,
        )

    async def _verify(self, stored: str, password: str) -> bool:
        if len(password) > MAX_PASSWORD_CHARS:
            return False
        if self._waiting >= MAX_WAITING:
            raise Overloaded("Too many users sign in at this moment. Try again shortly.")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(self._is_right, stored, password)
        finally:
            self._waiting -= 1

    def _is_right(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False
