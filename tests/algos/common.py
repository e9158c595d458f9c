"""What the tests of algorithms and critics share: transitions, changed settings, comparisons of pytrees."""

import re
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval as pe

from fewstep.algos import registry
from fewstep.config import resolve, settings
from fewstep.types import Spec, Transition
from tests.few import slow

C = TypeVar("C")
SPEC = Spec(3, 2)
TARGET = jnp.array([0.4, -0.3])


def representatives(*more):
    """Names of the algorithms of the house for tests of code that is the same for all.

    In `make test` one of each kind, replay and rollouts, and ``more``; in `make test-all` the others, too.
    """
    few = {"sac", "ppo", *more}
    return [*sorted(few), *slow(*(name for name in registry.BUILT_IN if name not in few))]


def batch(rows=16, seed=0, spec=SPEC):
    """Random transitions, a third of them terminal."""
    rng = np.random.default_rng(seed)
    obs, nxt = rng.normal(size=(2, rows, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (rows, spec.act_size)).astype(np.float32)
    arrays = (obs, action, rng.normal(size=rows).astype(np.float32), rng.random(rows) < 0.3, nxt)
    return Transition(*map(jnp.asarray, arrays))


def numbered(rows=16, seed=0):
    """The same with their numbers in the replay buffer."""
    return batch(rows, seed)._replace(number=jnp.arange(100, 100 + rows, dtype=jnp.int32))


def bump(s, a):
    """A critic with its maximum at ``TARGET``."""
    return -jnp.sum((a - TARGET) ** 2)


def tiny(name, **more):
    """An algorithm with the smallest networks: its record, its config, a fresh state."""
    algorithm = registry.get(name)
    cfg = resolve(name, algorithm.config, "none", overrides=dict(algorithm.tiny) | more).algorithm
    return algorithm, cfg, algorithm.init(cfg, SPEC, jax.random.key(0))


def changed(cfg: C, changes) -> C:
    """The config with other settings, by dotted names or in sections."""
    return settings.build(type(cfg), settings.flatten(cfg) | settings.dotted(changes, "changes"))


def program(update, cfg, *args):
    """The text of what ``update(cfg, *args)`` computes, without what its results do not depend on.

    An option that leaves it alone changes nothing. Tracing takes a fraction of what compiling does.
    """
    closed = jax.make_jaxpr(partial(update, cfg))(*args)
    needed, _ = pe.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return re.sub(r"0x[0-9a-f]+", "", str(needed))


def same(left, right):
    """Whether two trees have equal leaves, bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True))


def assert_close(left, right, rtol=1e-5, atol=1e-6):
    for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def reached(loss, groups):
    """Names of the groups of parameters in which the loss has a gradient that is not zero."""
    grads = jax.jit(jax.grad(loss, allow_int=True))(groups)

    def some(tree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.dtype != jax.dtypes.float0]
        return any(np.any(np.asarray(leaf) != 0) for leaf in leaves)

    return {name for name, tree in grads.items() if some(tree)}
