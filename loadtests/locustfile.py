"""`make load` runs the mixed scenario. To run another one:

    PYTHONPATH=. locust -f loadtests/scenarios/deep_zoom.py --headless -u 16 -t 60s --host ADDRESS

Every response is counted by the kind of request and the tier that answered.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # locust imports this file outside a package

from loadtests.scenarios.mixed import Mixed

__all__ = ["Mixed"]
