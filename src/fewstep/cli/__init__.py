"""The command line: one file per command, and one place that turns errors into a line and an exit status.

Nothing heavy is imported before a command runs, so ``--help`` answers at once.
"""

from fewstep.cli.main import main

__all__ = ["main"]
