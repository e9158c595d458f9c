"""Does MFPO's policy reach the Boltzmann density of ``toy/bandit``, and what does each departure do to it?

The true reward stands in for the critic and the temperature is fixed, so that only the policy side is tested:
importance-sampled velocity, MeanFlow regression, average divergence, few-step sampler. Total variation is
between 40,000 samples on a 40 x 40 grid and the exact cell probabilities; exact samples score ``floor``.
Learning rates fall to a tenth for the last 30 % of the updates, because at 1e-3 the distance swings by 0.1.

    python -m benchmarks.mfpo_boltzmann                 # T = 1, 2, 4, 8 and the departures
    python -m benchmarks.mfpo_boltzmann --only steps=2  # rows whose name contains this text
"""

import argparse
import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.smfp_bandit import true_reward
from fewstep.algos.mfpo import config as c
from fewstep.algos.mfpo import learner, policy
from fewstep.envs.toys import bandit
from fewstep.envs.toys.gaussian_fit import best_gaussian
from fewstep.types import Spec

ALPHA = 0.2
SAMPLES = 40_000
UPDATES = 6_000
CHUNK = 500
SETTLING = 0.3
"""Share of the updates, at the end, that are made with a tenth of the learning rate."""

BASE = c.MFPOConfig(
    actor=c.ActorConfig(hidden=(128, 128, 128), time_features=32, time_embed=32, learning_rate=1e-3),
    divergence=c.DivergenceConfig(learning_rate=1e-3),
    proposals=c.ProposalConfig(block=32),
    times=c.TimesConfig(equal_share=0.25),
    temperature=c.TemperatureConfig(initial=ALPHA, automatic=False),
)


def rows() -> dict[str, c.MFPOConfig]:
    """Name -> configuration: the sampler's steps, then one departure at a time from the two-step default."""
    steps = {f"steps={t}": replace(BASE, actor=replace(BASE.actor, steps=t)) for t in (2, 1, 4, 8)}
    return steps | {
        "times.equal_share=0.75 (authors)": replace(BASE, times=replace(BASE.times, equal_share=0.75)),
        "times.grid_share=0 (authors)": replace(BASE, times=replace(BASE.times, grid_share=0.0)),
        "times.grid_share=1": replace(BASE, times=replace(BASE.times, grid_share=1.0)),
        "actor.bound=tanh": replace(BASE, actor=replace(BASE.actor, bound="tanh")),
        "divergence.log_prob=exact": replace(BASE, divergence=replace(BASE.divergence, log_prob="exact")),
        "divergence.probe=gaussian (authors)": replace(
            BASE, divergence=replace(BASE.divergence, probe="gaussian")
        ),
    }


def measure(cfg: c.MFPOConfig, updates: int, seed: int) -> dict[str, object]:
    """Train one policy and judge it."""
    obs = jnp.ones((128, 1))
    settled = replace(
        cfg,
        actor=replace(cfg.actor, learning_rate=0.1 * cfg.actor.learning_rate),
        divergence=replace(cfg.divergence, learning_rate=0.1 * cfg.divergence.learning_rate),
    )

    @partial(jax.jit, static_argnums=0)
    def train(cfg: c.MFPOConfig, state: learner.State) -> learner.State:
        def body(s: learner.State, _: None) -> tuple[learner.State, None]:
            s, _ = learner.improve(cfg, s, true_reward, obs)
            return replace(s, updates=s.updates + 1), None

        return jax.lax.scan(body, state, None, length=CHUNK)[0]

    averaged_cfg = replace(cfg, divergence=replace(cfg.divergence, log_prob="averaged"))

    @jax.jit
    def judge(state: learner.State, noise: jax.Array) -> tuple[policy.Draw, policy.Draw]:
        def one(e: jax.Array) -> tuple[policy.Draw, policy.Draw]:
            exact = policy.log_prob_oracle(cfg, state.actor.params, obs[0], e)
            return exact, policy.draw(averaged_cfg, state.actor.params, state.divergence.params, obs[0], e)

        return jax.vmap(one)(noise)

    state = learner.init(cfg, Spec(1, 2), jax.random.key(seed))
    start = time.perf_counter()
    for done in range(0, updates, CHUNK):
        state = train(cfg if done < (1 - SETTLING) * updates else settled, state)
    jax.block_until_ready(state.updates)
    seconds = time.perf_counter() - start
    exact, averaged = judge(state, jax.random.normal(jax.random.key(seed + 1), (SAMPLES, 2)))
    actions = np.asarray(exact.action)
    result = {
        "total_variation": float(bandit.total_variation(actions, ALPHA)),
        "mode_shares": [round(float(x), 3) for x in bandit.mode_shares(actions)],
        "mean_reward": float(bandit.reward(actions).mean()),
        "entropy_exact": -float(exact.log_prob.mean()),
        "seconds": round(seconds, 1),
    }
    if cfg.divergence.log_prob == "averaged":
        result["entropy_averaged"] = -float(averaged.log_prob.mean())
        result["log_prob_rmse"] = float(jnp.sqrt(jnp.mean((exact.log_prob - averaged.log_prob) ** 2)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fits = best_gaussian(ALPHA)
    record.update(
        "mfpo_boltzmann",
        "reference",
        {
            "alpha": ALPHA,
            "floor_total_variation": float(bandit.sampling_floor(ALPHA, SAMPLES)),
            "target_shares": [round(float(x), 3) for x in bandit.target_shares(ALPHA)],
            "target_mean_reward": float(bandit.mean_reward(ALPHA)),
            "target_entropy": float(bandit.entropy(ALPHA)),
            "best_gaussian_total_variation": float(fits.best.total_variation),
            "moment_matched_gaussian_total_variation": float(fits.moment_matched.total_variation),
        },
    )
    for name, cfg in rows().items():
        if arguments.only in name:
            settings = {"updates": arguments.updates, "seed": arguments.seed}
            result = measure(cfg, arguments.updates, arguments.seed) | settings
            record.update("mfpo_boltzmann", name, result)


if __name__ == "__main__":
    main()
