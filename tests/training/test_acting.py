"""A bound policy acts as the unbound one does."""

import jax
import numpy as np

from fewstep.algos.contract import ActionMode
from fewstep.training import acting, compiled
from tests.deploy.helpers import SPEC, TINY, policy_of


def test_the_same_draws_for_the_same_counters():
    algorithm, cfg, policy = policy_of("sac", TINY["sac"])
    obs, key = np.ones((4, SPEC.obs_size), np.float32), jax.random.key(5)
    mode = ActionMode(candidates=3)
    plain, bound = compiled.act(algorithm, cfg, mode), acting.bind(algorithm, cfg, mode, policy, key)
    for counter in (0, 7):
        want = plain(policy, obs, key, np.uint32(counter))
        np.testing.assert_array_equal(bound(obs, counter), want)
