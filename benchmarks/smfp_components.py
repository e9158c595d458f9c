"""What K buys: the semi-implicit entropy H_K against the true one in 2, 6 and 17 action dimensions.

The target is a product: in every dimension the Boltzmann density of two bumps of heights 1 and 0.8, so it has
2^d modes and a known log Z. Each policy is trained by ``improve`` on the true value, without mirror
descent, with 256 network rows per update whatever K is: 256 / (K + 1) states with K + 1 samples that share
their components, or, with a learned proposal, one sample each with K of its own. ``residual`` policies start
as a = e, wide. Judged by KL(policy || target) in nats, from above: the policy's entropy is bounded by H_4095.

    python -m benchmarks.smfp_components             # about five minutes on one free core
    python -m benchmarks.smfp_components --only d=6
    python -m benchmarks.smfp_components --only learned
"""

import argparse
import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from fewstep.algos.smfp import config as c
from fewstep.algos.smfp import learner, policy
from fewstep.flows import semi_implicit
from fewstep.types import Spec

ALPHA = 0.2
CENTRES, HEIGHTS, WIDTH = (-0.5, 0.5), (1.0, 0.8), 0.2
ROWS_PER_UPDATE = 256
UPDATES = 4_000
ANNEAL = 2_000
JUDGES = 4096
SAMPLES = 2048


def value(_: jax.Array, a: jax.Array) -> jax.Array:
    """Sum over dimensions of two bumps."""
    bumps = [h * jnp.exp(-((a - m) ** 2) / (2 * WIDTH**2)) for m, h in zip(CENTRES, HEIGHTS, strict=True)]
    return jnp.sum(sum(bumps), axis=-1)


def per_dimension() -> tuple[float, float]:
    """log Z, and the share of the higher bump, of one dimension (midpoint rule)."""
    x = (np.arange(200_000) + 0.5) / 100_000 - 1.0
    bumps = [h * np.exp(-((x - m) ** 2) / (2 * WIDTH**2)) for m, h in zip(CENTRES, HEIGHTS, strict=True)]
    density = np.exp(sum(bumps) / ALPHA)
    return float(np.log(2.0 * density.mean())), float(density[x < 0].sum() / density.sum())


def config(size: int, components: int, start: str, proposal: str) -> c.SMFPConfig:
    return c.SMFPConfig(
        actor=c.ActorConfig(
            hidden=(128, 128, 128),
            output="residual" if start == "residual" else "direct",
            learning_rate=5e-4,
            samples=1 if proposal == "learned" else components + 1,
            bound_weight=5.0 * size,
        ),
        critic=c.CriticConfig(hidden=(4,)),
        mirror=c.MirrorConfig(weight=0.0, candidates=2),
        entropy=c.EntropyConfig(
            kind="semi_implicit",
            components=components,
            noise="independent" if proposal == "learned" else "stratified",
            proposal="learned" if proposal == "learned" else "prior",
        ),
        temperature=c.TemperatureConfig(initial=ALPHA, anneal_factor=1.0 / ALPHA, anneal_updates=ANNEAL),
    )


def measure(
    size: int, components: int, seed: int, start: str = "direct", proposal: str = "prior"
) -> dict[str, object]:
    """Train one policy and judge it."""
    cfg = config(size, components, start, proposal)
    obs = jnp.ones((ROWS_PER_UPDATE // (components + 1), 1))
    unused = jnp.zeros((obs.shape[0], size))

    @partial(jax.jit, donate_argnums=0)
    def chunk(state: learner.State) -> tuple[learner.State, jax.Array]:
        def one(s: learner.State, _: None) -> tuple[learner.State, jax.Array]:
            s, metrics = learner.improve(cfg, s, value, obs, unused)
            return replace(s, updates=s.updates + 1), metrics["policy/entropy"]

        state, bound = jax.lax.scan(one, state, length=500)
        return state, bound.mean()

    @jax.jit
    def judge(state: learner.State) -> tuple[jax.Array, jax.Array, jax.Array]:
        k_e, k_eps = jax.random.split(jax.random.key(1234))
        e = semi_implicit.draw_noises(k_e, "independent", JUDGES, size)
        parts = jax.vmap(lambda noise: policy.component(cfg, state.actor, obs[0], noise))(e)
        drawn = jax.tree.map(lambda field: field[:SAMPLES], parts)
        z = policy.sample(drawn, jax.random.normal(k_eps, (SAMPLES, size)))
        log_q = jax.lax.map(lambda one: semi_implicit.mixture_log_density(one, *parts), z, batch_size=64)
        actions = jnp.clip(z, -1.0, 1.0)
        return -log_q.mean(), jax.vmap(lambda a: value(a, a))(actions).mean(), actions

    state, _ = chunk(learner.init(cfg, Spec(1, size), jax.random.key(seed)))
    began = time.process_time()
    bound = jnp.float32(0.0)
    for _ in range(UPDATES // 500 - 1):
        state, bound = chunk(state)
    trained_with = float(bound)
    milliseconds = 1e3 * (time.process_time() - began) / (UPDATES - 500)
    entropy, reached, actions = judge(state)
    log_z, _ = per_dimension()
    shares = np.asarray((actions < 0).mean(axis=0))
    both = np.minimum(shares, 1.0 - shares)
    return {
        "kl_to_target_nats_at_most": round(size * log_z - float(reached) / ALPHA - float(entropy), 3),
        "bound_while_training": round(trained_with, 3),
        "entropy_at_least": round(float(entropy), 3),
        "dimensions_with_both_bumps": int((both > 0.1).sum()),
        "cpu_ms_per_update": round(milliseconds, 2),
        "updates": UPDATES,
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    log_z, share = per_dimension()
    reference = {"alpha": ALPHA, "log_z_per_dimension": log_z, "share_of_the_higher_bump": share}
    record.update("smfp_components", "reference", reference)
    rows = [(k, "direct", "prior") for k in (0, 1, 3, 7, 15, 31, 63, 255)]
    rows += [(k, "residual", "prior") for k in (3, 15, 63)]
    rows += [(k, "residual", "learned") for k in (1, 3, 7, 15)]
    for size in (2, 6, 17):
        for components, start, proposal in rows:
            marks = [mark for mark in (start, proposal) if mark not in ("direct", "prior")]
            name = " ".join([f"d={size} K={components}", *marks])
            if arguments.only in name:
                result = measure(size, components, arguments.seed, start, proposal)
                record.update("smfp_components", name, result)


if __name__ == "__main__":
    main()
