"""How long to wait before the next try: exponential growth with jitter, the one formula of the
product (docs/adr/0019-what-stays-our-own.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable


def backoff_s(
    tries: int,
    *,
    first_s: float,
    longest_s: float,
    factor: float = 2.0,
    jitter: Callable[[], float] = random.random,
) -> float:
    """Return the seconds to wait after failure number `tries` (from 1).

    The wait starts at `first_s`, grows by `factor` with each failure and stops at `longest_s`. A
    random part of up to half of it is subtracted, so that many callers do not retry at the same
    moment. `jitter` returns a uniform number from 0 to 1.
    """
    exponent = min(max(tries, 1) - 1, 30)
    return float(min(first_s * factor**exponent, longest_s) * (1 - jitter() / 2))
