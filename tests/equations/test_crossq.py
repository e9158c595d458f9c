"""CrossQ's critic: one batch of both pairs, statistics that only training moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.critics.crossq import CrossQ, joint_values
from fewstep.critics.scalar import td_target
from fewstep.nets.renorm import RenormConfig

KEYS = jax.random.split(jax.random.key(0), 5)
OBS, NEXT_OBS = jax.random.normal(KEYS[0], (2, 32, 3))
ACTION, NEXT_ACTION = jax.random.uniform(KEYS[1], (2, 32, 2), minval=-1.0)
NEXT_ACTION = 0.1 * NEXT_ACTION + 0.8


def critic():
    return CrossQ.create(KEYS[2], 3, 2, (16, 16), RenormConfig())


def test_the_joint_forward_is_one_training_forward_of_both_halves():
    q, nxt, stats = joint_values(critic(), OBS, ACTION, NEXT_OBS, NEXT_ACTION)
    rows = jnp.concatenate([jnp.concatenate([OBS, ACTION], 1), jnp.concatenate([NEXT_OBS, NEXT_ACTION], 1)])
    values, expected = critic().net.train(critic().stats, rows)
    np.testing.assert_array_equal(jnp.concatenate([q, nxt]), values[:, 0])
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(stats[0].mean, 0.01 * rows.mean(0), rtol=1e-5, atol=1e-7)


def test_swapping_the_halves_permutes_the_values_and_keeps_the_statistics():
    q, nxt, stats = joint_values(critic(), OBS, ACTION, NEXT_OBS, NEXT_ACTION)
    swapped_nxt, swapped_q, swapped = joint_values(critic(), NEXT_OBS, NEXT_ACTION, OBS, ACTION)
    np.testing.assert_allclose(swapped_q, q, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(swapped_nxt, nxt, rtol=1e-4, atol=1e-5)
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(swapped), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_the_halves_alone_would_be_normalised_differently():
    q, _, _ = joint_values(critic(), OBS, ACTION, NEXT_OBS, NEXT_ACTION)
    alone, _ = critic().net.train(critic().stats, jnp.concatenate([OBS, ACTION], 1))
    assert float(jnp.abs(q - alone[:, 0]).max()) > 0.05


def test_evaluation_sees_no_batch():
    net = critic()
    one = net(OBS[0], ACTION[0])
    rows = jax.vmap(net)(OBS, ACTION)
    np.testing.assert_allclose(rows[0], one, rtol=1e-5)
    elsewhere = jax.vmap(net)(OBS.at[1:].set(100.0), ACTION)
    np.testing.assert_allclose(elsewhere[0], one, rtol=1e-5)


def test_evaluation_follows_the_running_statistics():
    _, _, stats = joint_values(critic(), OBS, ACTION, NEXT_OBS, NEXT_ACTION)
    moved = CrossQ(critic().net, stats)
    assert float(moved(OBS[0], ACTION[0])) != float(critic()(OBS[0], ACTION[0]))


@pytest.mark.parametrize(("terminated", "expected"), [(False, 0.5 + 0.9 * 4.0), (True, 0.5)])
def test_only_a_terminal_state_stops_the_bootstrap(terminated, expected):
    assert td_target(jnp.float32(0.5), jnp.array(terminated), 0.9, jnp.float32(4.0)) == expected
