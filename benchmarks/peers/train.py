"""Train a peer's SAC, TD3 or CrossQ with the protocol of our `small` presets, in the peer's own Python.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benchmarks/peers/requirements.txt
    /tmp/peers/bin/python benchmarks/peers/train.py sbx sac HalfCheetah-v4 --seed 0 --out runs/peers

One environment, one gradient step per environment step, batch 256, two hidden layers of 256, Adam at 3e-4,
discount 0.99, tau 0.005, 5000 random steps first; evaluations on an environment of their own with the
deterministic action. TD3 explores with noise 0.1. CrossQ, which SBX alone has, keeps SBX's own settings
(critics of 2 x 1024) but for the random steps; ``--critic-width 256`` makes them as wide as ours, and the
algorithm is then called ``crossq256``. ``--minutes`` ends a run at the first evaluation after that much
training. Nothing of fewstep is imported. Each evaluation is a line of
``OUT/LIBRARY-ALGO-ENV-seed-N.jsonl``: env_steps, the returns, seconds spent so far outside evaluations.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

SMALL = {"learning_rate": 3e-4, "batch_size": 256, "gamma": 0.99, "tau": 0.005, "buffer_size": 1_000_000}
PACKAGE = {"sb3": "stable_baselines3", "sbx": "sbx"}


def model(library: str, algo: str, env: gym.Env, seed: int, learning_starts: int, critic_width: int | None):
    found = getattr(importlib.import_module(PACKAGE[library]), {"crossq": "CrossQ"}.get(algo, algo.upper()))
    if algo == "crossq":
        sizes = {"pi": [256, 256], "qf": [critic_width] * 2} if critic_width else None
        return found(
            "MlpPolicy",
            env,
            learning_starts=learning_starts,
            seed=seed,
            policy_kwargs={"net_arch": sizes},
        )
    settings = SMALL | {
        "learning_starts": learning_starts,
        "seed": seed,
        "policy_kwargs": {"net_arch": [256, 256]},
    }
    if algo == "td3":
        size = env.action_space.shape
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, 0.1))
    return found("MlpPolicy", env, **settings)


class Evaluations(BaseCallback):
    """Writes a line per evaluation without counting its time; ends training after ``limit`` seconds."""

    def __init__(self, env: gym.Env, every: int, episodes: int, seed: int, path: Path, limit: float) -> None:
        super().__init__()
        self.env, self.every, self.episodes, self.first_seed, self.path = env, every, episodes, seed, path
        self.limit, self.spent, self.resumed = limit, 0.0, time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            self.spent += time.perf_counter() - self.resumed
            returns = [self.episode(self.first_seed + k) for k in range(self.episodes)]
            row = {"env_steps": self.num_timesteps, "returns": returns, "train_seconds": round(self.spent, 2)}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self.resumed = time.perf_counter()
        return self.spent < self.limit

    def episode(self, seed: int) -> float:
        observation, _ = self.env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = self.model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = self.env.step(action)
            total, over = total + float(reward), terminated or truncated
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Train SAC, TD3 or CrossQ of another library.")
    parser.add_argument("library", choices=sorted(PACKAGE))
    parser.add_argument("algo", choices=["sac", "td3", "crossq"])
    parser.add_argument("env")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--critic-width", type=int, help="of CrossQ alone")
    parser.add_argument("--learning-starts", type=int, default=5000)
    parser.add_argument("--eval-every", type=int, default=5000)
    parser.add_argument("--eval-episodes", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    chosen = parser.parse_args()
    if chosen.critic_width and chosen.algo != "crossq":
        parser.error("--critic-width is CrossQ's")
    chosen.out.mkdir(parents=True, exist_ok=True)
    name = f"{chosen.algo}{chosen.critic_width or ''}"
    path = chosen.out / f"{chosen.library}-{name}-{chosen.env}-seed-{chosen.seed}.jsonl"
    path.write_text("")
    env, test = gym.make(chosen.env), gym.make(chosen.env)
    learner = model(
        chosen.library, chosen.algo, env, chosen.seed, chosen.learning_starts, chosen.critic_width
    )
    first_seed, limit = 10_000 + 100 * chosen.seed, 60 * chosen.minutes
    watch = Evaluations(test, chosen.eval_every, chosen.eval_episodes, first_seed, path, limit)
    learner.learn(chosen.steps, callback=watch)


if __name__ == "__main__":
    main()
