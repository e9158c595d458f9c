"""How good is MFPO's velocity estimate, by candidates, noise and mixing, and what does it cost?

The target and the estimates are those of ``fewstep.papers.estimates``; the policy's samples come from the
target itself, or from the same with modes of twice the width (``--width 2``). Mean squared error per
dimension over ``--states`` states.

``cost`` is the counted operations (``fewstep.bench.floor``) of the whole update at HalfCheetah's sizes,
relative to the authors' setting.

    python -m benchmarks.mfpo_estimator
    python -m benchmarks.mfpo_estimator --width 2
"""

import argparse
from dataclasses import replace

import jax
import jax.numpy as jnp

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.mfpo.config import MFPOConfig, ProposalConfig
from fewstep.bench import floor
from fewstep.papers import estimates
from fewstep.types import Spec

CELLS = [(1, 0.1), (1, 0.5), (1, 0.9)] + [(act, t) for act in (6, 17) for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
AUTHORS = ProposalConfig(policy=16, gaussian=32)
BETTER = {"noise": "stratified", "mixing": "ess_per_candidate"}
ROWS = {
    "authors: 16, 32": AUTHORS,
    "mixing": replace(AUTHORS, mixing="ess_per_candidate"),
    "stratified": replace(AUTHORS, noise="stratified"),
    "both": ProposalConfig(16, 32, **BETTER),
    "both, 16, 24": ProposalConfig(16, 24, **BETTER),
    "both, 16, 24, points 4": ProposalConfig(16, 24, points=4, **BETTER),
    "both, 16, 20, points 4": ProposalConfig(16, 20, points=4, **BETTER),
    "both, 16, 24, points 8": ProposalConfig(16, 24, points=8, **BETTER),
    "both, 8, 24, points 4": ProposalConfig(8, 24, points=4, **BETTER),
}


def error(p: ProposalConfig, act: int, t: jax.Array, sigma: float, states: int) -> jax.Array:
    """Mean squared error per dimension at time ``t``."""
    judged = estimates.judge(act, p.policy, p.gaussian, p.noise, sigma, states, t, 3)
    return judged.ess_per_candidate if p.mixing == "ess_per_candidate" else judged.ess


def operations(p: ProposalConfig) -> float:
    """Of the update of preset ``authors`` with these proposals and the same number of rows."""
    cfg = config.resolve(
        "mfpo", registry.get("mfpo").config, env="HalfCheetah-v4", preset="authors", overrides={}
    ).algorithm
    assert isinstance(cfg, MFPOConfig)
    cfg = replace(cfg, proposals=p, actor=replace(cfg.actor, batch_size=256 // p.points))
    return floor.operations(cfg, Spec(17, 6), 256)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--states", type=int, default=4000)
    parser.add_argument("--width", type=float, default=1.0, help="of the policy's modes, in the target's")
    arguments = parser.parse_args()
    known: dict[tuple[object, ...], dict[str, float]] = {}
    for name, p in ROWS.items():
        if arguments.only not in name:
            continue
        same = (p.policy, p.gaussian, p.noise, p.mixing)  # points share, they do not change one's error
        if same not in known:
            found = jax.jit(error, static_argnums=(0, 1, 3, 4))
            sigma = arguments.width * estimates.SIGMA
            known[same] = {
                f"A{act}_t{t}": round(float(found(p, act, jnp.float32(t), sigma, arguments.states)), 4)
                for act, t in CELLS
            }
        cost = {"cost": round(operations(p) / operations(AUTHORS), 3)}
        record.update("mfpo_estimator", f"width {arguments.width:g} | {name}", cost | known[same])


if __name__ == "__main__":
    main()
