"""A real algorithm small enough for the tests of the loop: a Gaussian policy pulled towards rewarded actions.

``fewstep train tiny_algorithm:ALGORITHM ENV`` runs it. It compiles in a tenth of a second and can be made to
fail (``poison_at``: the update at which the weights, or a metric, become NaN).
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import ReplayConfig
from fewstep.errors import require


@dataclass(frozen=True)
class ActorConfig:
    learning_rate: float = 0.05
    std: float = 0.3
    candidates: int = 4
    hidden: tuple[int, ...] = (4,)

    def __post_init__(self):
        require(self.learning_rate > 0, "actor.learning_rate must be positive")


@dataclass(frozen=True)
class TinyConfig:
    discount: float = 0.9
    poison_at: int = -1
    poison: Literal["weights", "metric"] = "weights"
    centre: Literal["mean", "zero"] = "mean"
    target: float | None = None
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)


class State(NamedTuple):
    weight: jax.Array
    baseline: jax.Array
    key: jax.Array
    updates: jax.Array


def init(cfg, spec, key):
    shape = (spec.obs_size, spec.act_size)
    weight = 0.1 * jax.random.normal(jax.random.fold_in(key, 0), shape)
    return State(weight, jnp.zeros(()), jnp.copy(key), jnp.int32(0))


def update(cfg, state, batch):
    """One step towards actions in proportion to how much better than the baseline their reward was."""
    noise = jax.random.normal(jax.random.fold_in(state.key, state.updates), batch.action.shape)
    advantage = batch.reward - state.baseline

    def loss(weight):
        miss = batch.action + 0.01 * noise - batch.obs @ weight
        return jnp.mean(advantage[:, None] * miss**2 * (1.0 - 0.5 * batch.terminated[:, None]))

    value, gradient = jax.value_and_grad(loss)(state.weight)
    weight = jnp.clip(state.weight - cfg.actor.learning_rate * gradient, -2.0, 2.0)
    poisoned = state.updates == cfg.poison_at
    if cfg.poison == "weights":
        weight = jnp.where(poisoned, jnp.nan, weight)
    else:
        value = jnp.where(poisoned, jnp.nan, value)
    baseline = 0.99 * state.baseline + 0.01 * batch.reward.mean()
    metrics = {"actor/loss": value, "critic/q_mean": baseline}
    return State(weight, baseline, state.key, state.updates + 1), metrics


def policy(state):
    return {"weight": state.weight}


def draw(cfg, policy, obs, noise):
    return obs @ policy["weight"] + cfg.actor.std * noise


def nearest_to_the_mean(cfg, policy):
    return lambda obs, action: -jnp.abs(action - jnp.clip(obs @ policy["weight"], -1.0, 1.0)).sum()


ALGORITHM = Algorithm(
    name="tiny",
    title="a tiny test algorithm",
    config=TinyConfig,
    init=init,
    update=update,
    policy=policy,
    noise=lambda cfg, policy: policy["weight"].shape[1:],
    draw=draw,
    value=nearest_to_the_mean,
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    citation="@misc{tiny}",
)
