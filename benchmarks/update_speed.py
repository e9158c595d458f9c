"""Milliseconds per update of each preset, and time per action, at the sizes of the MuJoCo tasks.

    python -m benchmarks.update_speed                 # every row
    python -m benchmarks.update_speed --only authors

The state is donated as in training; the first calls (compilation, cold caches) are left out; the median and
the minimum of ``--repeats`` calls are given, because samples on a shared machine are now and then far too
slow. Beside them the floor (``benchmarks.floor``) and the ratio of the fastest call to it.
"""

import argparse

import jax
import numpy as np

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode
from fewstep.bench import peak
from fewstep.bench.updates import Case, batch, milliseconds, update_times
from fewstep.types import Spec

SIZES = {"HalfCheetah-v4": Spec(17, 6), "Ant-v4": Spec(27, 8), "Humanoid-v4": Spec(376, 17)}
HALF_CHEETAH = "HalfCheetah-v4"
ROWS: list[tuple[str, str, str, dict[str, object]]] = [
    *(("mfpo", "authors", env, {}) for env in SIZES),
    ("mfpo", "default", HALF_CHEETAH, {}),
    ("mfpo", "small", HALF_CHEETAH, {}),
    ("smfp", "small", HALF_CHEETAH, {}),
    # The semi-implicit entropy in place of the hinge: fresh components, then components shared by 8 samples.
    ("smfp", "small", HALF_CHEETAH, {"entropy.kind": "semi_implicit", "entropy.components": 7}),
    ("smfp", "soft", HALF_CHEETAH, {}),
    ("smfp", "mujoco", HALF_CHEETAH, {}),
    ("sac", "small", HALF_CHEETAH, {}),
    ("sac", "crossq-critic", HALF_CHEETAH, {}),
]
"""Algorithm, preset, sizes of which task, and settings on top."""


def row_name(algo: str, preset: str, env: str, settings: dict[str, object]) -> str:
    return " ".join([algo, preset, env, *(f"{key}={value}" for key, value in settings.items())])


def prepare(algo: str, preset: str, env: str, settings: dict[str, object]) -> Case:
    run = config.resolve(algo, registry.get(algo).config, env=env, preset=preset, overrides=settings)
    spec = SIZES[env]
    algorithm = registry.get(algo)
    data = batch(spec, run.replay.batch_size, algorithm.numbered)
    return Case(algorithm, run.algorithm, spec, data)


def act_times(case: Case, repeats: int) -> dict[str, float]:
    """Median milliseconds per action of one observation, host round trip included."""
    state = case.algorithm.init(case.cfg, case.spec, jax.random.key(0))
    policy, key = case.algorithm.policy(state), jax.random.key(1)
    found = {}
    for name, mode in (("sample", ActionMode()), ("native", case.algorithm.native(case.cfg))):
        act = jax.jit(lambda p, o, k, mode=mode: case.algorithm.act(case.cfg, p, o, k, mode))
        np.asarray(act(policy, case.batch.obs[:1], key))
        acting = milliseconds(lambda act=act: np.asarray(act(policy, case.batch.obs[:1], key)), repeats)
        found[f"act_{name}_median_ms"] = acting["median_ms"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    for row in ROWS:
        if arguments.only in row_name(*row):
            case = prepare(*row)
            found = update_times(case, arguments.repeats, peak.gemm_peak())
            record.update("update_speed", row_name(*row), found | act_times(case, 10 * arguments.repeats))


if __name__ == "__main__":
    main()
