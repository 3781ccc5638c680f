"""What SIGTERM, SIGINT and SIGHUP do while a command starts and while it ends.

Once a process runs, its supervisor or its event loop handles signals. Before that, a signal unwinds
the start: what was started is stopped again, and the exit status is that of the command. After
that, signals are ignored: the process is ending already, and must not leave the database running.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SERVICES = ("serve", "worker")
"""The commands that run until they are stopped, which is their success."""
_received: list[int] = []


def unwind_on_stop(command: str) -> None:
    """From now on the first signal ends this process by SystemExit: with status 0 for a service,
    with 128 + the number of the signal for another command. Later signals are ignored.
    """

    def unwind(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        ignore_stop()
        sys.exit(0 if command in SERVICES else 128 + number)

    for number in STOP_SIGNALS:
        if number != signal.SIGINT or command in SERVICES:  # else KeyboardInterrupt unwinds it
            signal.signal(number, unwind)


def was_stopped() -> bool:
    """True if a signal came during the start. Code that ignores every exception, as in a callback
    of a C library, can lose the SystemExit; so the next handler of signals asks this once.
    """
    return bool(_received)


def ignore_stop() -> None:
    """Ignore the signals until the process has ended."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
