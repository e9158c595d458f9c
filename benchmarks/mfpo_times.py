"""What the distribution of training times does to the two-step policy, where everything else is exact.

Target N(m, 0.2^2) in two dimensions: the velocity is known in closed form and points are drawn from the exact
path, so the policy's width can only be wrong because of the times the network was trained at.

    python -m benchmarks.mfpo_times
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from benchmarks import record
from fewstep.algos.mfpo import config as c
from fewstep.algos.mfpo import learner, losses, policy
from fewstep.flows import meanflow
from fewstep.flows.times import TimeRows, sample_times
from fewstep.nets.trained import descend
from fewstep.types import Spec

MEAN, SIGMA = jnp.array([0.2, -0.1]), 0.2
ROWS, UPDATES, RATE = 64, 3000, 2e-3


def exact_velocity(x: jax.Array, t: jax.Array) -> jax.Array:
    """v(x, t) of the flow towards N(MEAN, SIGMA^2), from x_t ~ N((1 - t) m, (1 - t)^2 sigma^2 + t^2)."""
    variance = (1 - t) ** 2 * SIGMA**2 + t**2
    return -MEAN + (t - (1 - t) * SIGMA**2) / variance * (x - (1 - t) * MEAN)


def train(grid_share: float) -> learner.State:
    cfg = c.MFPOConfig(
        actor=c.ActorConfig(hidden=(128, 128), time_features=8, time_embed=8, learning_rate=RATE)
    )
    obs, layout = jnp.ones((ROWS, 3)), TimeRows.split(ROWS, cfg.times.equal_share, grid_share)

    def body(state: learner.State, index: jax.Array) -> tuple[learner.State, None]:
        k_t, k_a, k_e = jax.random.split(jax.random.fold_in(state.key, index), 3)
        r, t = sample_times(k_t, layout, mean=-0.4, std=1.0, clamp=1e-3, steps=2)
        a = MEAN + SIGMA * jax.random.normal(k_a, (ROWS, 2))
        x = jax.vmap(meanflow.interpolate)(a, jax.random.normal(k_e, (ROWS, 2)), t)
        v = jax.vmap(exact_velocity)(x, t)
        rows = (layout.equal, obs, x, v, r, t)
        actor, _, _ = descend(cfg.actor, state.actor, losses.actor_regression, *rows)
        return replace(state, actor=actor), None

    state = learner.init(cfg, Spec(3, 2), jax.random.key(0))
    return jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(UPDATES))[0])(state)


def main() -> None:
    noise = jax.random.normal(jax.random.key(3), (20_000, 2))
    for share in (0.0, 0.25, 0.5, 1.0):
        actor = train(share).actor.params
        result: dict[str, object] = {"target_std": SIGMA}
        for steps in (1, 2, 4, 32):
            u = policy.average_velocity(actor, jnp.ones(3))
            ends = jax.jit(jax.vmap(lambda e, u=u, steps=steps: meanflow.sample(u, e, steps)))(noise)
            result[f"std_of_{steps}_steps"] = [round(float(s), 3) for s in ends.std(0)]
        record.update("mfpo_times", f"grid_share={share:g}", result)


if __name__ == "__main__":
    main()
