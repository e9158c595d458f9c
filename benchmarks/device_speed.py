"""Environment steps and updates per second of training on the device, beside the loop on the host.

    python -m benchmarks.device_speed
    python -m benchmarks.device_speed --only sac --envs 1 16

The same algorithm, sizes and task (``toy/multigoal``) both ways, for each number of environments; one update
per iteration, so that steps do not grow with the updates. After compiling, the two are timed in turn for
``--repeats`` stretches of ``--iterations``; medians.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import jax

from benchmarks import record
from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.training.device import trainer as device

ENV = "toy/multigoal"
ROWS = ["sac", "dpmd"]
NETWORKS = {"actor.hidden": (64, 64), "critic.hidden": (64, 64)}


def trainer(algo: str, envs: int, where: str | None):
    sets = NETWORKS | {
        "training.device_env": where,
        "training.envs": envs,
        "training.log_every": 10**6,
        "training.eval_every": 0,
        "training.checkpoint_every": 0,
        "replay.learning_starts": 2 * envs,
        "replay.updates_per_step": 1 / envs,
        "replay.batch_size": 64,
        "replay.capacity": 100_000,
    }
    algorithm = registry.get(algo)
    return device.make(resolve(algo, algorithm.config, ENV, preset="small", overrides=sets), algorithm)


def go(one, iterations: int) -> float:
    """Seconds that so many iterations take."""
    start = time.perf_counter()
    if isinstance(one, device.DeviceTrainer):
        one.advance(iterations)
    else:
        for _ in range(iterations):
            one.advance()
    jax.block_until_ready(one.learner.state.updates)
    return time.perf_counter() - start


def measure(algo: str, envs: int, iterations: int, repeats: int, folder: Path = record.FOLDER) -> None:
    both = {"host": trainer(algo, envs, None), "device": trainer(algo, envs, ENV)}
    times: dict[str, list[float]] = {name: [] for name in both}
    for one in both.values():
        go(one, 20)
    for _ in range(repeats):
        for name, one in both.items():
            times[name].append(go(one, iterations) / iterations)
    first = jax.devices()[0]
    result: dict[str, object] = {"device": f"{first.platform} {first.device_kind}"}
    for name, each in times.items():
        result[f"{name}: steps_per_second"] = round(envs / median(each))
        result[f"{name}: updates_per_second"] = round(1 / median(each))
    record.update("device_speed", f"{algo} {ENV} {envs} environments", result, folder)
    for one in both.values():
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only algorithms whose name contains this text")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=record.FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    for algo in ROWS:
        if arguments.only in algo:
            for envs in arguments.envs:
                measure(algo, envs, arguments.iterations, arguments.repeats, arguments.out)


if __name__ == "__main__":
    main()
