"""Normalised observations: the moments are those of the batches, and an affine change of the observations
makes no difference to what is learned."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import normalised, registry
from fewstep.algos.contract import ActionMode
from tests.algos.common import SPEC, assert_close, batch, program, tiny
from tests.few import slow

ON = {"replay.normalise_obs": True}
SHIFT, SCALE = jnp.arange(SPEC.obs_size) * 7.0 - 5.0, jnp.geomspace(0.01, 300.0, SPEC.obs_size)


@partial(jax.jit, static_argnums=(0, 1))
def updated(algorithm, cfg, state, data):
    return algorithm.update(cfg, state, data)


def units(obs):
    """The same observations in other units."""
    return obs * SCALE + SHIFT


def in_other_units(data):
    return data._replace(obs=units(data.obs), next_obs=units(data.next_obs))


def test_the_moments_are_those_of_the_observations_of_all_batches():
    algorithm, cfg, state = tiny("sac", **ON)
    batches = [batch(seed=i) for i in range(4)]
    for data in batches:
        state, _ = updated(algorithm, cfg, state, data)
    seen = np.concatenate([data.obs for data in batches]).astype(np.float64)
    assert state.moments.count == len(seen)
    np.testing.assert_allclose(state.moments.mean, seen.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.moments.var, seen.var(0), rtol=1e-5)
    assert int(state.updates) == 4


@pytest.mark.parametrize("name", ["sac", *slow("mfpo", "smfp", "td3", "fpmd")])
def test_units_make_no_difference(name):
    algorithm, cfg, plain = tiny(name, **ON)
    other = plain
    for seed in range(3):
        plain, metrics = updated(algorithm, cfg, plain, batch(seed=seed))
        other, others = updated(algorithm, cfg, other, in_other_units(batch(seed=seed)))
    policies = [algorithm.policy(state).inner for state in (plain, other)]
    assert_close(*policies, rtol=1e-3, atol=1e-4)
    assert_close(metrics, others, rtol=1e-2, atol=1e-3)
    obs, key = batch(8, 9).obs, jax.random.key(0)
    for mode in (ActionMode(), ActionMode(candidates=4))[: 1 if algorithm.value is None else 2]:
        made = [
            algorithm.act(cfg, algorithm.policy(state), s, key, mode)
            for state, s in ((plain, obs), (other, units(obs)))
        ]
        np.testing.assert_allclose(*made, atol=1e-2)


def test_units_do_make_one_without_it():
    algorithm, cfg, state = tiny("sac")
    obs, key = batch(8, 9).obs, jax.random.key(0)
    made = [algorithm.act(cfg, algorithm.policy(state), s, key, ActionMode()) for s in (obs, units(obs))]
    assert np.abs(made[0] - made[1]).max() > 0.1


def test_a_hand_made_update_on_scaled_rows_is_the_update():
    algorithm, cfg, state = tiny("sac", **ON)
    plain, plain_cfg, inner = tiny("sac")
    data = batch()
    mean, std = data.obs.mean(0), jnp.sqrt(data.obs.var(0) + 1e-8)
    scaled = data._replace(obs=(data.obs - mean) / std, next_obs=(data.next_obs - mean) / std)
    assert float(jnp.abs(scaled.next_obs).max()) < normalised.CLIP
    left = algorithm.policy(updated(algorithm, cfg, state, data)[0]).inner
    right = plain.policy(updated(plain, plain_cfg, inner, scaled)[0])
    assert_close(left, right, rtol=1e-3)


def test_the_outliers_are_clipped():
    algorithm, cfg, state = tiny("sac", **ON)
    state, _ = updated(algorithm, cfg, state, batch())
    policy, far = algorithm.policy(state), jnp.full((1, SPEC.obs_size), 1e6)
    key = jax.random.key(0)
    made = [algorithm.act(cfg, policy, s, key, ActionMode()) for s in (far, 10 * far)]
    assert np.array_equal(*made)


def test_without_it_an_algorithm_is_what_it_is_without_the_wrapper():
    from fewstep.algos.sac import ALGORITHM

    wrapped, cfg, state = tiny("sac")
    assert program(wrapped.update, cfg, state, batch()) == program(ALGORITHM.update, cfg, state, batch())


def test_one_that_learns_from_rollouts_is_left_alone():
    from fewstep.algos.ppo import ALGORITHM

    assert registry.get("ppo") is ALGORITHM
