"""An algorithm as a user writes one: its own network, its own values to choose by. It never learns."""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import ReplayConfig


@dataclass(frozen=True)
class Config:
    discount: float = 0.9
    width: int = 8
    replay: ReplayConfig = field(default_factory=ReplayConfig)


class Policy(eqx.Module):
    inner: jax.Array
    outer: jax.Array
    skip: jax.Array
    curve: jax.Array
    centre: jax.Array


class State(eqx.Module):
    acting: Policy
    key: jax.Array
    updates: jax.Array


def init(cfg, spec, key):
    """Random weights."""
    shapes = {
        "inner": (spec.obs_size + spec.act_size, cfg.width),
        "outer": (cfg.width, spec.act_size),
        "skip": (spec.obs_size, spec.act_size),
        "curve": (spec.act_size, spec.act_size),
        "centre": (spec.obs_size, spec.act_size),
    }
    keys = jax.random.split(jax.random.fold_in(key, 0), len(shapes))
    arrays = {
        name: 0.5 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return State(Policy(**arrays), jnp.copy(key), jnp.int32(0))


def draw(cfg, policy, obs, noise):
    """Two layers with a skip connection, inside a loop of two steps that changes the action."""

    def step(a, time):
        hidden = jax.nn.silu(jnp.concatenate([obs, a]) @ policy.inner)
        return a + time * jnp.tanh(hidden @ policy.outer + obs @ policy.skip), None

    return jax.lax.scan(step, 0.3 * noise, jnp.array([0.5, 0.25]))[0]


def value(cfg, policy):
    """-|C (a - m(s))|^2."""

    def q(s, a):
        miss = policy.curve @ (a - jnp.tanh(s @ policy.centre))
        return -jnp.sum(miss**2)

    return q


ALGORITHM = Algorithm(
    name="own",
    title="a user's own",
    config=Config,
    init=init,
    update=lambda cfg, state, batch: (state, {}),
    policy=lambda state: state.acting,
    noise=lambda cfg, policy: (policy.outer.shape[1],),
    draw=draw,
    value=value,
    native=lambda cfg: ActionMode(candidates=4),
    citation="@misc{own}",
)
