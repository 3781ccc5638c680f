"""Passwords: who gets which roles, and how often one may try."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from argon2 import PasswordHasher

from orchestrator.errors import Overloaded, TooManyRequests
from orchestrator.settings import Auth, AuthService
from orchestrator.sign_in.password_check import PasswordCheck, SignedInUser, hash_password

HERE = "192.0.2.1"


CHEAP = PasswordHasher(time_cost=1, memory_cost=64)
"""Hashes that cost less than those of the product."""


def a_check(attempts: int = 10) -> PasswordCheck:
    users = [
        {"name": "ada", "password": CHEAP.hash("right"), "roles": ["staff", "admin"]},
        {"name": "bob", "password": CHEAP.hash("right"), "roles": ["guest"], "customer": 2},
    ]
    return PasswordCheck(
        Auth.model_validate({"users": users, "password_attempts": attempts}), CHEAP
    )


def a_service(**values: Any) -> AuthService:
    return AuthService.model_validate(
        {"name": "staff", "label": "Library", "roles": ["staff", "guest"], **values}
    )


async def test_the_right_password_gives_the_roles_that_user_and_service_have() -> None:
    found = await a_check().check(a_service(), 1, "ada", "right", HERE)
    assert found == SignedInUser("ada", frozenset({"staff"}))


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("ada", ""), ("eve", "right"), ("", ""), ("bob", "right"), ("ADA", "right")],
)
async def test_a_wrong_name_or_password_gives_nothing(name: str, password: str) -> None:
    assert await a_check().check(a_service(), 1, name, password, HERE) is None


async def test_a_user_of_one_customer_signs_in_there_only() -> None:
    check = a_check()
    assert await check.check(a_service(), 2, "bob", "right", HERE) is not None


async def test_a_user_without_a_role_of_the_service_gets_nothing() -> None:
    service = a_service(roles=["curator"])
    assert await a_check().check(service, 1, "ada", "right", HERE) is None


async def test_a_password_of_the_service_gives_all_its_roles_to_anyone() -> None:
    service = a_service(password=CHEAP.hash("open sesame"))
    check = a_check()
    found = await check.check(service, 1, "ignored", "open sesame", HERE)
    assert found == SignedInUser("", frozenset({"staff", "guest"}))
    assert await check.check(service, 1, "ada", "right", HERE) is None


async def test_an_address_may_try_so_many_wrong_passwords_in_a_minute() -> None:
    check = a_check(attempts=3)
    for _ in range(20):
        assert await check.check(a_service(), 1, "ada", "right", HERE) is not None
    for _ in range(3):
        assert await check.check(a_service(), 1, "ada", "wrong", HERE) is None
    with pytest.raises(TooManyRequests):
        await check.check(a_service(), 1, "ada", "right", HERE)
    assert await check.check(a_service(), 1, "ada", "right", "192.0.2.2") is not None


async def test_a_name_may_be_tried_from_many_addresses_only_so_often() -> None:
    check = a_check(attempts=2)
    with pytest.raises(TooManyRequests):
        for number in range(20):
            await check.check(a_service(), 1, "ada", "wrong", f"192.0.2.{number}")


async def test_attempts_at_the_same_time_all_count() -> None:
    check = a_check(attempts=3)
    tries = [check.check(a_service(), 1, "ada", "wrong", HERE) for _ in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(each) for each in results].count(TooManyRequests) == 7


async def test_more_checks_than_can_wait_are_refused() -> None:
    check = a_check(attempts=100)
    tries = [check.check(a_service(), 1, "ada", "right", HERE) for _ in range(60)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    kinds = {type(each) for each in results}
    assert kinds == {SignedInUser, Overloaded}


async def test_an_endless_password_is_refused_without_work() -> None:
    assert await a_check().check(a_service(), 1, "ada", "x" * 100_000, HERE) is None


def test_the_hash_for_the_settings_is_of_argon2id_and_has_a_salt() -> None:
    first, second = hash_password("right"), hash_password("right")
    assert first.startswith("$argon2id$")
    assert first != second
