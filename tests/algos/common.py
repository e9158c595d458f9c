"""What the tests of algorithms and critics share: transitions, changed settings, comparisons of pytrees."""

import re
from dataclasses import replace
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval as pe

from fewstep.algos import registry
from fewstep.config import resolve, settings
from fewstep.types import Spec, Transition
from tests.critics.reference import expected
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


def moved(tree, seed=0, size=0.3):
    """The networks with noise on every number: no bias is 0, and none is a copy of another."""
    leaves, form = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    noisy = ((x, x + size * rng.normal(size=x.shape)) for x in map(np.asarray, leaves))
    return form.unflatten([jnp.asarray(y, x.dtype) for x, y in noisy])


def apart(state):
    """The state with networks that all differ, target networks from those that are trained, too."""
    old = state.critics
    critics = replace(old, online=replace(old.online, params=moved(old.online.params, 1)))
    critics = replace(critics, target=moved(old.target, 2))
    state = replace(state, critics=critics, actor=replace(state.actor, params=moved(state.actor.params, 3)))
    return (
        replace(state, target_actor=moved(state.actor.params, 4)) if hasattr(state, "target_actor") else state
    )


def lower_value(nets, obs, actions):
    """Of each state and action the lower value of two scalar critics, ``[..., B]``."""
    return np.min([np.asarray(jax.jit(jax.vmap(net))(obs, actions))[:, 0] for net in nets], axis=0)


def best_by(nets, obs, drawn):
    """Of each state that one of its draws ``[B, K, act]`` which these critics value most, and its place."""
    values = np.stack([lower_value(nets, obs, each) for each in np.asarray(drawn).swapaxes(0, 1)], axis=1)
    place = values.argmax(axis=1)
    return np.asarray(drawn)[np.arange(len(place)), place], place


def noisy_best(cfg, state, obs, key):
    """The best of the trained policy's draws by the trained critics, with noise of 0.1 alpha, cut to the box.

    Asserted on the way: the target networks would choose others.
    """
    k_draw, k_noise = jax.random.split(key)
    drawing = jax.jit(cfg.actor.drawn)
    drawn = drawing(state.actor.params, obs, k_draw)
    chosen, place = best_by(state.critics.online.params, obs, drawn)
    assert np.any(place != best_by(state.critics.target, obs, drawn)[1])
    noise = np.asarray(jax.random.normal(k_noise, chosen.shape))
    return np.clip(chosen + 0.1 * float(state.temperature.alpha) * noise, -1, 1)


def meanflow_errors(network, obs, x, r, t, v):
    """|u - (v - (t - r) du/dt)|^2 / d of each row as a function of u alone: du/dt is that of ``network``."""

    def target(s, x, r, t, v):
        slope = jax.jvp(lambda x, t: network(s, x, r, t), (x, t), (v, jnp.ones_like(t)))[1]
        return v - (t - r) * slope

    aim = jax.jit(jax.vmap(target))(obs, x, r, t, v)
    return lambda u: jnp.mean((jax.vmap(u)(obs, x, r, t) - aim) ** 2, axis=1)


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


def assert_one_step(cfg, before, after, loss):
    """``after`` is ``before`` after one step down ``loss(params)``, which has nothing else to differentiate.

    Gradients are compared in Adam's first moment, which has their size; steps have not.
    """
    assert cfg.max_grad_norm == 0, "a clipped gradient has no size"
    grads, wanted = jax.jit(lambda t: (g := jax.grad(loss)(t.params), t.step(cfg, g)))(before)
    largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(grads))
    assert largest > 0
    assert_close(after.moments.mu, wanted.moments.mu, rtol=2e-3, atol=1e-4 * largest)
    assert_close(after.params, wanted.params, rtol=1e-6, atol=0.1 * cfg.learning_rate)
    assert not same(after.params, before.params)


def assert_critics_learn(algorithm, cfg, state, data, next_action, metrics=None):
    """An update's critics regress on r + gamma Q(s', a') at these a', by their target networks.

    ``metrics`` are those of the update, if they are known.
    """
    wanted, _ = expected(cfg.critic, cfg.discount, state.critics, data, next_action, None)
    if metrics is None:  # The policy's part is not asked for, and so not compiled.
        metrics = jax.jit(lambda st: {key: algorithm.update(cfg, st, data)[1][key] for key in wanted})(state)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def reached(loss, groups):
    """Names of the groups of parameters in which the loss has a gradient that is not zero."""
    grads = jax.jit(jax.grad(loss, allow_int=True))(groups)

    def some(tree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.dtype != jax.dtypes.float0]
        return any(np.any(np.asarray(leaf) != 0) for leaf in leaves)

    return {name for name, tree in grads.items() if some(tree)}
