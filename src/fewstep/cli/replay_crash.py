"""Find the update that made a run diverge, from the file it left in crash/."""

import argparse
import sys

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep replay-crash``."""
    parser.add_argument("file", metavar="FILE", type=rooted, help="RUN/crash/divergence.json")


def run(arguments: argparse.Namespace) -> int:
    """Print the failing update; the status is 1 if it does not fail again."""
    from fewstep.training.run import replay_crash
    from fewstep.training.signals import watched

    with watched() as check:
        found = replay_crash.replay(arguments.file, check, lambda line: print(line, file=sys.stderr))
    if found is None:
        print("every update was sound this time: the divergence does not repeat on this machine")
        return 1
    print(f"update {found.update:,} (environment step {found.env_steps:,}) is the first that is not finite")
    for name, share in found.names.items():
        print(f"  {name}: {share:.0%} of its entries")
    for name, (low, mean, high, bad) in found.batch.items():
        print(f"  batch {name}: {low:.4g} to {high:.4g}, mean {mean:.4g}, {bad} not finite")
    if found.file is not None:
        print(f"the state before it and its batch are in {found.file}")
    return 0
