"""`make load`: the mixed scenario. One scenario alone:

    PYTHONPATH=. locust -f loadtests/scenarios/deep_zoom.py --headless -u 16 -t 60s --host ADDRESS

Every answer is counted under what was asked and the tier that gave it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # locust imports this as a bare file

from loadtests.scenarios.mixed import Mixed

__all__ = ["Mixed"]
