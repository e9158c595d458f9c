"""List environments that are known to work."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep envs`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print id, suite and note of each environment."""
    from fewstep.suites import SUITES, list_ids

    rows = list_ids()
    wide, suite_wide = (max(len(row[column]) for row in rows) for column in (0, 1))
    for env_id, suite, note in rows:
        print(f"{env_id:<{wide}}  {suite:<{suite_wide}}  {note}")
    print()
    for suite in SUITES:
        if not suite.installed:
            print(f"{suite.name} ({suite.title}) is not installed: {suite.install}")
    print("Any other Gymnasium id with continuous bounded actions works too, and MODULE:Id-v0 for your own.")
    return 0
