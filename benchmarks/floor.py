"""How far each algorithm's update is from the floor of the processor it runs on.

    python -m benchmarks.floor                 # every row
    python -m benchmarks.floor --only smfp

The floor is the number of floating-point operations of the leanest exact update (``fewstep.bench.floor``)
over the best rate of a float32 matrix product, measured in the same process on the same cores. ``ratio`` is
by the clock; ``cpu ratio`` by processor time spread over the cores: where other programs share them, only
the latter means something.
"""

import argparse

from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.update_speed import HALF_CHEETAH, SIZES, prepare, row_name
from fewstep.bench import peak
from fewstep.bench.machine import cores
from fewstep.bench.updates import update_times

CATEGORICAL = {"critic.head": "categorical", "critic.target": "polyak"}
# The small critics of policy_critic.toml under the Gaussian, then XQC's and FlashSAC's own sizes.
ROWS: list[tuple[str, str, str, dict[str, object]]] = [
    *(("mfpo", "authors", env, {}) for env in SIZES),
    *((algo, "small", HALF_CHEETAH, {}) for algo in ("smfp", "sac", "td3", "crossq")),
    ("smfp", "mujoco", HALF_CHEETAH, {}),
    ("sac", "crossq-critic", HALF_CHEETAH, {}),
    ("sac", "crossq-critic", HALF_CHEETAH, {"critic.trunk": "xqc", **CATEGORICAL}),
    ("sac", "crossq-critic", HALF_CHEETAH, {"critic.trunk": "flash", "critic.hidden": [128], **CATEGORICAL}),
    ("sac", "xqc", HALF_CHEETAH, {}),
    ("sac", "flash", HALF_CHEETAH, {}),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    columns = ("update", "ms (min)", "ms (median)", "cpu ms", "floor ms", "ratio", "cpu ratio", "temp MB")
    table = Table(*columns)
    for row in ROWS:
        name = row_name(*row)
        if arguments.only not in name:
            continue
        found = update_times(prepare(*row), arguments.repeats, peak.gemm_peak())
        del found["compile_seconds"]  # of ``update_speed``; here a warm compilation cache does no harm
        record.update("floor", f"{name}, {cores()} core(s)", found)
        keys = ("min_ms", "median_ms", "cpu_ms", "floor_ms", "ratio", "cpu_ratio", "temporaries_mb")
        table.add_row(name, *(f"{found[key]:.2f}" for key in keys))
    Console().print(table)


if __name__ == "__main__":
    main()
