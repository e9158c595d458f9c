"""Run a policy at a fixed rate, as a robot's controller would, and report its deadlines."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.cli.common import rooted, tell, whole

if TYPE_CHECKING:
    from fewstep.deploy.pacing import Timing

SHARES = {"median": 0.5, "99.9 %": 0.999, "longest": 1.0}
"""Column of the table -> which of the ticks it shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep rollout``."""
    parser.add_argument(
        "policy", metavar="POLICY", type=rooted, help="exported policy (.safetensors, .onnx or .stablehlo)"
    )
    parser.add_argument("env", metavar="ENV", nargs="?", help="environment (default: the policy's)")
    parser.add_argument(
        "--rate", type=float, metavar="HZ", help="actions per second (default: as it was trained)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="how long, in seconds (default 10)"
    )
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="S", help="of episodes and noise (default 0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Roll the policy out; the status is 0 however many deadlines were missed."""
    import numpy as np

    from fewstep import deploy, envs
    from fewstep.config import seed_of
    from fewstep.deploy import pacing
    from fewstep.envs.interface import Interface
    from fewstep.errors import UsageError

    seed_of(arguments.seed, "--seed")
    policy = deploy.load(arguments.policy, arguments.seed)
    about = policy.description
    rate = about.rate if arguments.rate is None else arguments.rate
    if rate is None:
        raise UsageError(f"{about.env} does not say how many steps a second has; give --rate")
    if not (0.0 < rate <= 1e5 and 0.0 < arguments.seconds <= 1e5):
        raise UsageError("--rate and --seconds must be positive numbers, at most 100000")
    if (ticks := round(rate * arguments.seconds)) < 1:
        raise UsageError(f"no tick in {arguments.seconds:g} s at {rate:g} Hz; give more --seconds")
    vector = envs.make(arguments.env or about.env, action_repeat=about.action_repeat)
    try:
        policy.require_observation(vector.info.obs_names)
        if (vector.info.low, vector.info.high) != (about.low, about.high):
            raise UsageError(f"the actions of {vector.env_id} have other bounds than those of the policy")
        if about.rate and abs(rate / about.rate - 1.0) > 0.01:
            tell(f"fewstep: trained at {about.rate:g} actions per second, run at {rate:g}")
        interface, generator = Interface(vector), np.random.default_rng(arguments.seed)
        needed: dict[str, Any] = {"rng": generator} if policy.noise_size and about.noise == "input" else {}
        obs = vector.reset([arguments.seed])[0]
        action: Any = policy.act(obs, **needed)  # what is compiled or loaded at the first call
        returns, total = [], 0.0

        def act() -> None:
            nonlocal action
            action = policy.act(obs, **needed)

        def apply() -> bool:
            nonlocal obs, total
            result = vector.step(interface.from_env(action[None]))
            obs, total = result.obs[0], total + float(result.reward[0])
            if not (result.terminated[0] or result.truncated[0]):
                return False
            returns.append(total)
            obs, total = vector.reset(None)[0], 0.0
            return True

        timing = pacing.run(act, apply, 1.0 / rate, ticks)
    finally:
        vector.close()
    _print(arguments.policy, vector.env_id, rate, timing, returns, arguments.json)
    return 0


def _print(
    policy: Path, env: str, rate: float, timing: "Timing", returns: list[float], as_json: bool
) -> None:
    from fewstep.deploy.pacing import quantile

    measured = {"action": timing.act, "wake-up": timing.woke, "environment": timing.apply}
    times = {
        name: {title: 1e3 * quantile(values, share) for title, share in SHARES.items()}
        for name, values in measured.items()
    }
    if as_json:
        row = {"policy": str(policy), "env": env, "rate_hz": rate, "ticks": timing.ticks}
        print(json.dumps(row | {"misses": timing.misses, "milliseconds": times, "returns": returns}))
        return
    print(f"{policy.name} on {env} at {rate:g} Hz: {timing.ticks} ticks of {1e3 * timing.period:g} ms")
    print(f"{'milliseconds':<14}" + "".join(f"{title:>10}" for title in SHARES))
    for name, row in times.items():
        print(f"{name:<14}" + "".join(f"{value:>10.3f}" for value in row.values()))
    print(
        f"missed deadlines: {timing.misses} of {timing.ticks} ({100.0 * timing.misses / timing.ticks:.2f} %)"
    )
    if returns:
        print(f"finished episodes: {len(returns)}, mean return {sum(returns) / len(returns):,.1f}")
