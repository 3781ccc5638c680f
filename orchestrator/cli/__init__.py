"""The command `orchestrator`. Every module here loads the settings, opens the services, calls one
of them, prints the result and closes the services. It holds no other logic.
"""

import os
import sys

from orchestrator.processes.stop_signals import unwind_on_stop


def main() -> None:
    """Run the command named on the command line; ends the process."""
    # Before anything that takes time: a signal meets this process at any moment.
    unwind_on_stop(sys.argv[1] if len(sys.argv) > 1 else "")
    # Decode workers inherit it. numpy would start a thread for each processor, with 40 MB of
    # address space each, which is limited in a worker.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported here: every spawned process imports this package, and none needs the commands.
    from orchestrator.cli.command_tree import run

    run()
