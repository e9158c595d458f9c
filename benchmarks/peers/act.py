"""Microseconds of a peer's SAC per `predict` of one observation, HalfCheetah-v4; with the peer's own Python.

    /tmp/peers/bin/python benchmarks/peers/act.py sbx
    /tmp/peers/bin/python benchmarks/peers/act.py sb3

An untrained SAC: what is timed does not depend on the weights. Median and fastest of 3,000 calls, after 200.
Prints one JSON line. `python -m benchmarks.act_speed` is ours.
"""

import argparse
import importlib
import json
import time
from statistics import median

import gymnasium as gym

PACKAGE = {"sb3": "stable_baselines3", "sbx": "sbx"}
ENV = "HalfCheetah-v4"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the predict of another library's SAC.")
    parser.add_argument("library", choices=sorted(PACKAGE))
    chosen = parser.parse_args()
    env = gym.make(ENV)
    build = importlib.import_module(PACKAGE[chosen.library]).SAC
    model = build("MlpPolicy", env, buffer_size=1000, policy_kwargs={"net_arch": [256, 256]})
    found: dict[str, float | str] = {"library": chosen.library}
    for name, deterministic in (("deterministic", True), ("stochastic", False)):
        observation, _ = env.reset(seed=0)
        times: list[float] = []
        for _ in range(3200):
            start = time.perf_counter()
            model.predict(observation, deterministic=deterministic)
            times.append(1e6 * (time.perf_counter() - start))
        found[f"{name}: median_us"] = round(median(times[200:]), 1)
        found[f"{name}: min_us"] = round(min(times[200:]), 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
