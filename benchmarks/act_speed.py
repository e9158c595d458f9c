"""Microseconds per action of one observation: jax, onnxruntime, numpy, C.

    python -m benchmarks.act_speed                  # every row
    python -m benchmarks.act_speed --only smfp

HalfCheetah's sizes, preset ``small``. ``predict`` is ``Model.predict`` as a user calls it, ``jax`` the jitted
call inside it with the action back on the host, ``onnxruntime`` the bare ``session.run`` on one thread with
the noise given, ``onnx`` the same through ``fewstep.deploy``, which checks its inputs and draws the noise, as
``numpy`` does. C runs in a loop of its own, compiled with the flags that the row names, and draws its noise.

Timings are taken in very many short chunks, and the fastest is what counts: on a machine that does other
things a chunk is either undisturbed or tells of those. The median is recorded beside it.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import record
from fewstep import Model, deploy
from fewstep.algos import registry
from fewstep.deploy import formats
from fewstep.deploy.description import Exported
from fewstep.deploy.pack import pack, place

ENV = "HalfCheetah-v4"
FLAGS = {
    "c -O2": ["-std=c99", "-O2"],
    "c -O3 native": ["-std=c99", "-O3", "-march=native", "-ffp-contract=fast"],
}
ROWS = (("smfp", "sample"), ("mfpo", "sample"), ("sac", "sample"), ("smfp", "native"), ("mfpo", "native"))
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
    for _ in range(20):
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


def measure(algo: str, actions: str, only: str, chunks: int, calls: int) -> None:
    model = Model(algo, ENV, preset="small")
    cfg, algorithm, policy = model.config.algorithm, registry.get(algo), model._trainer.policy
    where = place(ENV, model._interface.observation_names, model.action_space)
    exported = pack(algorithm, cfg, policy, where, env_steps=0, updates=0, actions=actions, noise="inside")
    in_numpy = deploy.NumpyPolicy(exported, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        in_onnx = deploy.load(formats.write(exported, "onnx", Path(folder) / "policy")[0], seed=0)
    acting = model._acting(algorithm.mode(cfg, actions))
    obs = np.random.default_rng(0).normal(size=(64, 1, in_numpy.obs_size)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(64, 1, in_numpy.noise_size)).astype(np.float32)
    run = in_onnx.session.run
    timed = {
        "predict": lambda i: model.predict(obs[i % 64, 0], deterministic=actions == "native"),
        "jax": lambda i: acting(obs[i % 64], i),
        "onnxruntime": lambda i: run(None, {"obs": obs[i % 64], "noise": noise[i % 64]}),
        "onnx": lambda i: in_onnx.act(obs[i % 64, 0]),
        "numpy": lambda i: in_numpy.act(obs[i % 64, 0]),
    }
    for runtime, call in timed.items():
        if only in runtime:
            save(algo, actions, runtime, microseconds(call, chunks, calls))
    for runtime, flags in FLAGS.items():
        if only in runtime:
            save(algo, actions, runtime, in_c(exported, flags, chunks, 5 * calls))
    model.close()


def save(algo: str, actions: str, runtime: str, times: list[float]) -> None:
    result = {"median_us": round(median(times), 2), "min_us": round(min(times), 2)}
    what = "" if actions == "sample" else f"{actions} "
    record.update("act_speed", f"{algo} small {ENV} {what}{runtime}", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only algorithms whose name contains this text")
    parser.add_argument("--runtime", default="", help="run only runtimes whose name contains this text")
    parser.add_argument("--chunks", type=int, default=8000)
    parser.add_argument("--calls", type=int, default=1, help="actions per chunk (five times as many in C)")
    arguments = parser.parse_args()
    for algo, actions in ROWS:
        if arguments.only in algo:
            measure(algo, actions, arguments.runtime, arguments.chunks, arguments.calls)


if __name__ == "__main__":
    main()
