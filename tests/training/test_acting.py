"""A bound policy acts as the unbound one does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.contract import ActionMode
from fewstep.training import acting, compiled
from tests.deploy.helpers import SPEC, TINY, policy_of


@pytest.mark.parametrize(
    ("algo", "candidates"),
    [("sac", 1), ("sac", 3), ("smfp", 1), ("smfp", 3), ("mfpo", 1), ("mfpo", 3), ("td3", 1), ("ppo", 1)],
)
def test_the_same_draws_for_the_same_counters(algo, candidates):
    algorithm, cfg, policy = policy_of(algo, TINY[algo])
    obs, key = np.ones((4, SPEC.obs_size), np.float32), jax.random.key(5)
    mode = ActionMode(candidates=candidates)
    plain, bound = compiled.act(algorithm, cfg, mode), acting.bind(algorithm, cfg, SPEC, mode, policy, key)
    for counter in (0, 7):
        want = plain(policy, obs, key, np.uint32(counter))
        np.testing.assert_array_equal(bound(obs, counter), want)


def test_only_what_acting_reads_is_passed():
    """One sample of SMFP does not look at the critics: they may be anything."""
    algorithm, cfg, policy = policy_of("smfp", TINY["smfp"])
    blind = eqx.tree_at(lambda p: p.critics, policy, jax.tree.map(lambda x: x * jnp.nan, policy.critics))
    obs, key = np.ones((20, SPEC.obs_size), np.float32), jax.random.key(0)
    for candidates, same in ((1, True), (4, False)):
        mode = ActionMode(candidates=candidates)
        seen, unseen = (acting.bind(algorithm, cfg, SPEC, mode, p, key)(obs, 3) for p in (policy, blind))
        assert np.array_equal(seen, unseen) == same
