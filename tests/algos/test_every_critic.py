"""Every actor of the house learns with every critic: trunk x head, on a toy that has an answer."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.training import state_io
from fewstep.types import Spec, Transition
from tests.algos.common import changed, same
from tests.few import few

ACTORS = ("sac", "td3", "crossq", "smfp", "mfpo", "mpo")
TRUNKS = ("mlp", "layernorm", "crossq", "xqc", "flash")
HEADS = ("scalar", "categorical", "gaussian")
DIAGONAL = [
    ("sac", "mlp", "categorical"),
    ("sac", "xqc", "categorical"),
    ("td3", "flash", "categorical"),
    ("td3", "layernorm", "gaussian"),
    ("crossq", "layernorm", "scalar"),
    ("smfp", "layernorm", "gaussian"),
    ("mfpo", "mlp", "scalar"),
    ("mpo", "crossq", "categorical"),
    ("mpo", "mlp", "gaussian"),
]
"""Each actor on a critic that is not its own; each trunk and each head among them."""
REST = [each for each in product(ACTORS, TRUNKS, HEADS) if each not in DIAGONAL]


def steps(count, rows=32):
    """Rewards -|a - f(s)|^2 in [-8, 0], a third of the steps terminal."""
    keys = jax.random.split(jax.random.key(0), 4)
    obs, nxt = jax.random.normal(keys[0], (2, count, rows, 3))
    action = jax.random.uniform(keys[1], (count, rows, 2), minval=-1.0)
    reward = -jnp.sum((action - jnp.tanh(obs[..., :2])) ** 2, -1)
    return Transition(obs, action, reward, jax.random.bernoulli(keys[2], 0.3, (count, rows)), nxt)


@partial(jax.jit, static_argnums=(0, 1))
def learn(algorithm, cfg, state, data):
    return jax.lax.scan(lambda s, batch: algorithm.update(cfg, s, batch), state, data)


def train(actor, trunk, head, updates):
    algorithm = registry.get(actor)
    critic = {"trunk": trunk, "head": head, "atoms": 21, "v_min": -20.0, "v_max": 10.0}
    cfg = changed(changed(algorithm.config(), algorithm.tiny), {"critic": critic, "discount": 0.9})
    state = jax.jit(partial(algorithm.init, cfg, Spec(3, 2)))(jax.random.key(1))
    after, metrics = learn(algorithm, cfg, state, steps(updates))
    for name, values in metrics.items():
        assert np.isfinite(values).all(), (name, int(np.argmin(np.isfinite(values))))
    assert state_io.first_non_finite(state_io.to_arrays(after)) is None
    assert not same(algorithm.policy(after), algorithm.policy(state))
    return metrics


@few(("actor", "trunk", "head"), DIAGONAL, keep=3)
def test_each_actor_on_a_critic_of_another_kind(actor, trunk, head):
    train(actor, trunk, head, updates=6)


@pytest.mark.slow
@pytest.mark.parametrize(("actor", "trunk", "head"), DIAGONAL + REST)
def test_two_hundred_finite_updates(actor, trunk, head):
    """And values that have come near to what rewards allow, whatever the head began with."""
    metrics = train(actor, trunk, head, updates=200)
    assert -20.0 < float(metrics["critic/q_mean"][-20:].mean()) < 10.0
