"""A signal during the start ends a service also if the code that it met ignores every exception."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOST = """
import os, signal
from contextlib import suppress

from orchestrator.processes.stop_signals import unwind_on_stop

unwind_on_stop("serve")
with suppress(SystemExit):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""
EVENT_LOOP = """
import asyncio

from orchestrator.processes.stop_request import StopRequest

async def serve():
    await asyncio.wait_for(StopRequest().received.wait(), 10)

asyncio.run(serve())
"""
SUPERVISOR = """
from orchestrator.processes.supervisor import Supervisor
from orchestrator.settings import Settings

supervisor = Supervisor(Settings(), "unused:unused")
with supervisor._catch_signals() as receiver:
    receiver.settimeout(10)
    assert receiver.recv(1)
    assert supervisor._signals == [signal.SIGTERM]
"""


@pytest.mark.parametrize("runs", [EVENT_LOOP, SUPERVISOR], ids=["event loop", "supervisor"])
def test_a_signal_whose_exception_was_lost_ends_the_process_when_it_runs(runs: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOST + runs], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
