"""A bound policy acts as the unbound one does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.contract import ActionMode
from fewstep.training import acting
from tests.deploy.helpers import SPEC, TINY, policy_of
from tests.few import slow


@pytest.mark.parametrize(
    ("algo", "candidates"),
    [
        ("sac", 1),
        ("smfp", 3),
        *slow(("sac", 3), ("smfp", 1), ("mfpo", 1), ("mfpo", 3), ("td3", 1), ("ppo", 1)),
    ],
)
def test_the_same_draws_for_the_same_counters(algo, candidates):
    algorithm, cfg, policy = policy_of(algo, TINY[algo])
    obs, key = np.ones((4, SPEC.obs_size), np.float32), jax.random.key(5)
    mode = ActionMode(candidates=candidates)
    plain = jax.jit(lambda policy, obs, key: algorithm.act(cfg, policy, obs, key, mode))
    bound = acting.bind(algorithm, cfg, SPEC, mode, policy, key)
    for counter in (0, 7):
        want = plain(policy, obs, jax.random.fold_in(key, counter))
        np.testing.assert_array_equal(bound(obs, counter), want)


@pytest.mark.parametrize(
    ("algo", "mode"), [("sac", "mode"), ("smfp", "best-of-8"), *slow(("mfpo", "best-of-10"))]
)
def test_each_row_by_itself_whatever_else_is_in_the_batch(algo, mode):
    """To the last bit: alone, in batches of every size, at every place, beside other rows."""
    algorithm, cfg, policy = policy_of(algo, TINY[algo])
    how, key = algorithm.mode(cfg, mode), jax.random.key(5)
    act = acting.bind_each(algorithm, cfg, SPEC, how, policy, key)
    obs = np.random.default_rng(0).normal(size=(40, SPEC.obs_size)).astype(np.float32)
    alone = np.concatenate([act(row[None], 0) for row in obs])
    for size in (2, 15, 16, 17, 40):
        assert np.array_equal(act(obs[:size], 0), alone[:size])
        assert np.array_equal(act(obs[::-1][:size], 0), alone[::-1][:size])
    assert len(np.unique(act(np.repeat(obs[:1], 20, 0), 0), axis=0)) == 1
    plain = acting.bind(algorithm, cfg, SPEC, how, policy, key)(obs[:1], 0)
    np.testing.assert_allclose(alone[:1], plain, atol=1e-6)


def test_only_what_acting_reads_is_passed():
    """One sample of SMFP does not look at the critics: they may be anything."""
    algorithm, cfg, policy = policy_of("smfp", TINY["smfp"])
    blind = eqx.tree_at(lambda p: p.critics, policy, jax.tree.map(lambda x: x * jnp.nan, policy.critics))
    obs, key = np.ones((20, SPEC.obs_size), np.float32), jax.random.key(0)
    for candidates, same in ((1, True), (4, False)):
        mode = ActionMode(candidates=candidates)
        seen, unseen = (acting.bind(algorithm, cfg, SPEC, mode, p, key)(obs, 3) for p in (policy, blind))
        assert np.array_equal(seen, unseen) == same
