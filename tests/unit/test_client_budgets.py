"""Budgets of clients."""

from __future__ import annotations

import pytest

from orchestrator import client_budgets
from orchestrator.client_budgets import ClientBudgets
from orchestrator.errors import TooManyRequests


def test_a_use_that_is_given_back_may_be_spent_again() -> None:
    budgets = ClientBudgets(1, "Too often.", lambda: 0.0)
    for _ in range(5):
        budgets.spend("a")
        budgets.restore("a")
    budgets.restore("a")
    budgets.spend("a")
    with pytest.raises(TooManyRequests, match="Too often"):
        budgets.spend("a")


def test_the_memory_for_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_budgets, "MAX_CLIENTS", 100)
    budgets = ClientBudgets(1, "Too often.")
    for number in range(1000):
        budgets.spend(f"10.0.{number // 256}.{number % 256}")
    assert len(budgets._budgets) == 100
