"""Microseconds per action of one observation, by what runs the policy."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fewstep import deploy
from fewstep.api import Model
from fewstep.deploy.export import pack
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.program.description import Exported
from fewstep.training import seeds
from fewstep.training.acting import bind

FLAGS = {
    "c -O2": ["-std=c99", "-O2"],
    "c -O3 native": ["-std=c99", "-O3", "-march=native", "-ffp-contract=fast"],
}
DRAWN = {
    "-DSTART": "fewstep_rng rng;fewstep_seed(&rng,0)",
    "-DACT": "fewstep_act_seeded(&rng,obs[i%64],action)",
}
"""Macros of ``MAIN`` for a policy that draws its noise."""
NOISE_FREE = {"-DSTART": "", "-DACT": "fewstep_act(obs[i%64],NULL,action)"}
"""The same for one that needs none."""
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
    START;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < FEWSTEP_OBS_SIZE; j++)
            obs[i][j] = 0.1f * (float)((7 * i + 3 * j) % 41 - 20);
    for (int k = 0; k < chunks; k++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < calls; i++) {
            ACT;
            sum += action[0];
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double us = 1e6 * (double)(b.tv_sec - a.tv_sec) + 1e-3 * (double)(b.tv_nsec - a.tv_nsec);
        printf("%.6f\\n", us / calls);
    }
    return sum == 0.0f;
}
"""


def measure(
    model: Model, actions: str, chunks: int, calls: int, only: Sequence[str] = ("",)
) -> dict[str, list[float]]:
    """Microseconds per action, one number per chunk, for every runtime that is installed.

    ``predict`` is ``Model.predict`` as a user calls it, ``jax`` the jitted call inside it with the action
    back on the host, ``onnxruntime`` the bare ``session.run`` on one thread with the noise given, ``onnx``
    the same through ``fewstep.deploy``, which checks its inputs and draws the noise, as ``numpy`` does. C
    runs in a loop of its own and draws its noise.

    Args:
        model: whose policy acts.
        actions: ``sample`` or ``native``.
        chunks: how many numbers.
        calls: actions per chunk; five times as many in C.
        only: leave out runtimes whose name contains none of these.

    Raises:
        UsageError: the algorithm cannot be exported.
    """
    config, trainer = model.config, model._trainer  # pyright: ignore[reportPrivateUsage]
    drawn = not trainer.algorithm.mode(config.algorithm, actions).noise_free
    noise = "inside" if drawn and any(trainer.algorithm.noise(config.algorithm, trainer.policy)) else "input"
    own: Any = {"env_steps": 0, "updates": 0, "actions": actions, "noise": noise}
    exported = pack(trainer.algorithm, config.algorithm, trainer.policy, trainer.info, **own)
    wanted = lambda name: any(text in name for text in only)  # noqa: E731
    in_numpy = deploy.NumpyPolicy(exported, seed=0)
    mode, key = trainer.algorithm.mode(config.algorithm, actions), seeds.key(0, seeds.Stream.PREDICT)
    acting = bind(trainer.algorithm, config.algorithm, trainer.spec, mode, trainer.policy, key)
    obs = np.random.default_rng(0).normal(size=(64, 1, in_numpy.obs_size)).astype(np.float32)
    draws = np.random.default_rng(1).normal(size=(64, 1, in_numpy.noise_size)).astype(np.float32)
    given = {"obs": obs, **({"noise": draws} if in_numpy.noise_size else {})}
    timed: dict[str, Callable[[int], Any]] = {
        "predict": lambda i: model.predict(obs[i % 64, 0], deterministic=actions == "native"),
        "jax": lambda i: acting(obs[i % 64], i),
        "numpy": lambda i: in_numpy.act(obs[i % 64, 0]),
    }
    if find_spec("onnx") and find_spec("onnxruntime"):
        in_onnx = _onnx(exported)
        run = in_onnx.session.run
        timed["onnxruntime"] = lambda i: run(None, {name: each[i % 64] for name, each in given.items()})
        timed["onnx"] = lambda i: in_onnx.act(obs[i % 64, 0])
    found = {name: microseconds(call, chunks, calls) for name, call in timed.items() if wanted(name)}
    defined = [f"{name}={text}" for name, text in (DRAWN if noise == "inside" else NOISE_FREE).items()]
    if shutil.which("gcc"):
        for name, flags in FLAGS.items():
            if wanted(name):
                found[name] = in_c(exported, [*flags, *defined], chunks, 5 * calls)
    return found


def _onnx(exported: Exported) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return deploy.load(formats.write(exported, "onnx", Path(folder) / "policy")[0], seed=0)


def microseconds(call: Callable[[int], Any], chunks: int, calls: int) -> list[float]:
    """Per call, one number per chunk of ``calls``, after a few that do not count."""
    for _ in range(20):
        call(0)
    times: list[float] = []
    for _ in range(chunks):
        start = time.perf_counter()
        for i in range(calls):
            call(i)
        times.append(1e6 * (time.perf_counter() - start) / calls)
    return times


def in_c(exported: Exported, flags: list[str], chunks: int, calls: int) -> list[float]:
    """The same of the C file, compiled by gcc with these flags."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        formats.write(exported, "c", folder / "policy")
        (folder / "main.c").write_text(MAIN)
        subprocess.run(["gcc", *flags, "main.c", "policy.c", "-o", "main", "-lm"], cwd=folder, check=True)
        done = subprocess.run(
            [folder / "main", str(chunks), str(calls)], stdout=subprocess.PIPE, text=True, check=True
        )
    return [float(line) for line in done.stdout.split()]
