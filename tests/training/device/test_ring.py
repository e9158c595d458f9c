"""The replay buffer on the device keeps what the one on the host keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.replay import ReplayBuffer
from fewstep.training.device import ring
from fewstep.types import STORED, Spec, Transition

SPEC = Spec(3, 2)


def rows(start, count):
    """Transitions that know their numbers."""
    number = np.arange(start, start + count, dtype=np.float32)
    obs = np.repeat(number[:, None], 3, axis=1)
    return Transition(obs, np.zeros((count, 2), np.float32), number, number % 3 == 0, obs + 0.5)


@pytest.mark.parametrize(("capacity", "envs", "times"), [(12, 4, 2), (10, 4, 7), (5, 5, 3), (7, 1, 20)])
def test_the_last_transitions_are_kept(capacity, envs, times):
    device, host = ring.empty(capacity, SPEC), ReplayBuffer(capacity, SPEC, 0)
    add = jax.jit(ring.add)
    for time in range(times):
        device = add(device, time * envs, rows(time * envs, envs))
        host.add(rows(time * envs, envs))
    added = times * envs
    start = max(0, added - capacity)
    ours, theirs = ring.read(ring.on_host(device), start, added), host.read(start, added)
    assert set(ours) == set(theirs) == set(STORED)
    for name, field in theirs.items():
        np.testing.assert_array_equal(ours[name], field)
        assert ours[name].dtype == field.dtype
    again = ring.refilled(
        ring.empty(capacity, SPEC), [(start, ring.read(ring.on_host(device), start, added))]
    )
    for left, right in zip(jax.tree.leaves(again), jax.tree.leaves(device), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("added", [3, 10, 25])
def test_samples_are_uniform_over_what_is_held(added):
    device = ring.empty(10, SPEC)
    for number in range(added):
        device = ring.add(device, number, rows(number, 1))
    drawn = jax.jit(lambda key: ring.sample(device, added, key, (40, 500), 0))(jax.random.key(1))
    assert drawn.obs.shape == (40, 500, 3)
    np.testing.assert_array_equal(drawn.number, drawn.reward)  # each knows its number
    np.testing.assert_array_equal(drawn.next_obs, drawn.obs + 0.5)
    held, counts = np.unique(np.asarray(drawn.number), return_counts=True)
    np.testing.assert_array_equal(held, np.arange(max(0, added - 10), added))
    np.testing.assert_allclose(counts / counts.sum(), 1 / len(held), rtol=0.1)
    assert ring.sample(device, added, jax.random.key(1), (2, 3)).number is None
    later = ring.sample(device, added, jax.random.key(1), (40, 500), 30)  # began anew at the 30th transition
    np.testing.assert_array_equal(later.number, drawn.number + 30)
    assert jnp.issubdtype(drawn.terminated.dtype, jnp.bool_)
