"""The command `orchestrator`. Every module here loads the settings, opens the services, calls one
of them, prints the result and closes the services. It holds no other logic.
"""


def main() -> None:
    """Run the command named on the command line; ends the process."""
    # Imported here: every spawned process imports this package, and none needs the commands.
    from orchestrator.cli.command_tree import run

    run()
