"""Random transitions for the tests of the controls."""

import jax.numpy as jnp
import numpy as np

from fewstep.types import Transition


def batch(rows=16, seed=0):
    """Transitions with observations of size 3 and actions of size 2, a third of them terminal."""
    rng = np.random.default_rng(seed)
    obs, nxt = rng.normal(size=(2, rows, 3)).astype(np.float32)
    action = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    arrays = (obs, action, rng.normal(size=rows).astype(np.float32), rng.random(rows) < 0.3, nxt)
    return Transition(*map(jnp.asarray, arrays))
