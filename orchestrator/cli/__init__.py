"""The command `orchestrator`. Every module here builds settings, opens services, calls one of them,
prints and closes; there is no logic in it.
"""


def main() -> None:
    """Run the command named on the command line; ends the process."""
    # Late, because every spawned process imports this package and none needs the commands.
    from orchestrator.cli.command_tree import run

    run()
