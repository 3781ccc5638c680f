"""Makes a process read changed policies and origin strategies again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from orchestrator.app import Services

log = logging.getLogger(__name__)
RULES_CHANNEL = "orchestrator_rules"
"""The channel of the notices that a policy or an origin strategy has changed. Triggers send them
(migration 0012): the table and the customer, 0 for all.
"""


def rule_notices(services: Services) -> Callable[[str], None]:
    """The function that a Listener calls for RULES_CHANNEL."""

    def on_notice(payload: str) -> None:
        table, _, customer = payload.partition(" ")
        if table == "origin_strategies" and customer.isdecimal():
            services.origins.matcher.forget(int(customer))
        else:
            services.pipeline.policies.forget()

    return on_notice


def forget_rules(services: Services) -> None:
    """Read all rules again: notices may have been missed."""
    services.origins.matcher.forget_all()
    services.pipeline.policies.forget()
