"""Microseconds per action of one observation: jax, the numpy artefact, the C artefact.

    python -m benchmarks.act_speed                  # every row
    python -m benchmarks.act_speed --only smfp

HalfCheetah's sizes, preset ``small``, one draw of the policy with its noise drawn inside. jax is timed as
``Model.predict`` calls it (one dispatch, the action back on the host); C in a loop of its own, compiled with
the flags that the row names. Timings are taken in chunks; the median and the fastest chunk are given.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
import numpy as np

from benchmarks import record
from fewstep import __version__, config
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode
from fewstep.deploy import NumpyPolicy, formats
from fewstep.deploy.description import Box, Description, Exported
from fewstep.deploy.lower import lower
from fewstep.training import compiled
from fewstep.types import Spec

ENV, SPEC = "HalfCheetah-v4", Spec(17, 6)
BOX = Box((-1.0,) * 6, (1.0,) * 6, (6,))
FLAGS = {
    "c -O2": ["-std=c99", "-O2"],
    "c -O3 native": ["-std=c99", "-O3", "-march=native", "-ffp-contract=fast"],
}
MAIN = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "policy.h"
static float obs[64][FEWSTEP_OBS_SIZE];
int main(int argc, char **argv)
{
    const int chunks = argc > 1 ? atoi(argv[1]) : 1, calls = argc > 2 ? atoi(argv[2]) : 1;
    float action[FEWSTEP_ACT_SIZE], sum = 0.0f;
    struct timespec a, b;
    fewstep_rng rng;
    fewstep_seed(&rng, 0);
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < FEWSTEP_OBS_SIZE; j++)
            obs[i][j] = 0.1f * (float)((7 * i + 3 * j) % 41 - 20);
    for (int k = 0; k < chunks; k++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < calls; i++) {
            fewstep_act_seeded(&rng, obs[i % 64], action);
            sum += action[0];
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double us = 1e6 * (double)(b.tv_sec - a.tv_sec) + 1e-3 * (double)(b.tv_nsec - a.tv_nsec);
        printf("%.6f\\n", us / calls);
    }
    return sum == 0.0f;
}
"""


def microseconds(call, chunks: int, calls: int) -> list[float]:
    for _ in range(3):
        call(0)
    times = []
    for _ in range(chunks):
        start = time.perf_counter()
        for i in range(calls):
            call(i)
        times.append(1e6 * (time.perf_counter() - start) / calls)
    return times


def in_c(exported: Exported, flags: list[str], chunks: int, calls: int) -> list[float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        formats.write(exported, "c", folder / "policy")
        (folder / "main.c").write_text(MAIN)
        subprocess.run(["gcc", *flags, "main.c", "policy.c", "-o", "main", "-lm"], cwd=folder, check=True)
        done = subprocess.run(
            [folder / "main", str(chunks), str(calls)], stdout=subprocess.PIPE, text=True, check=True
        )
    return [float(line) for line in done.stdout.split()]


def measure(algo: str, chunks: int, calls: int) -> None:
    algorithm = registry.get(algo)
    cfg = config.resolve(algo, algorithm.config, env=ENV, preset="small").algorithm
    policy = algorithm.policy(compiled.init(algorithm, cfg, SPEC)(jax.random.key(0)))
    about = Description(algo, ENV, 0, 0, "sample", "inside", BOX.shape, __version__)
    exported = Exported(lower(algorithm, cfg, policy, SPEC, BOX), about)
    act, key = compiled.act(algorithm, cfg, ActionMode()), jax.random.key(1)
    in_numpy = NumpyPolicy(exported, seed=0)
    obs = np.random.default_rng(0).normal(size=(64, 1, SPEC.obs_size)).astype(np.float32)
    rows = {
        "jax": microseconds(lambda i: np.asarray(act(policy, obs[i % 64], key, np.uint32(i))), chunks, calls),
        "numpy": microseconds(lambda i: in_numpy.act(obs[i % 64, 0]), chunks, calls),
    }
    rows |= {name: in_c(exported, flags, chunks, 10 * calls) for name, flags in FLAGS.items()}
    for runtime, times in rows.items():
        result = {"median_us": round(median(times), 2), "min_us": round(min(times), 2)}
        record.update("act_speed", f"{algo} small {ENV} {runtime}", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only algorithms whose name contains this text")
    parser.add_argument("--chunks", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200, help="actions per chunk (ten times as many in C)")
    arguments = parser.parse_args()
    for algo in ("smfp", "mfpo", "sac"):
        if arguments.only in algo:
            measure(algo, arguments.chunks, arguments.calls)


if __name__ == "__main__":
    main()
