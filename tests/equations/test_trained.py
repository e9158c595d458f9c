"""Parameters and their optimiser: one Adam for all, its learning rates, what counts its steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fewstep.errors import UsageError
from fewstep.nets.trained import AdamConfig, Trained, copied, descend, periodic, polyak
from tests.algos.common import assert_close, same


def params(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return {"weight": jax.random.normal(keys[0], (5, 3)), "bias": jax.random.normal(keys[1], (3,))}


@pytest.mark.parametrize(
    "cfg",
    [
        AdamConfig(),
        AdamConfig(learning_rate=1e-2, b1=0.5, b2=0.9, eps=1e-5),
        AdamConfig(max_grad_norm=0.7),
        AdamConfig(max_grad_norm=1e6),
        AdamConfig(decay_steps=8, final_share=0.1),
        AdamConfig(decay="cosine", decay_steps=8, max_grad_norm=0.7),
    ],
    ids=str,
)
def test_ten_steps_are_those_of_optax(cfg):
    """Clip by the global norm, then Adam with its schedule, as the library puts them together."""
    rate = cfg.learning_rate
    if cfg.decay_steps and cfg.decay == "linear":
        rate = optax.linear_schedule(rate, cfg.final_share * rate, cfg.decay_steps)
    elif cfg.decay_steps:
        rate = optax.cosine_decay_schedule(rate, cfg.decay_steps, cfg.final_share)
    adam = optax.adam(rate, b1=cfg.b1, b2=cfg.b2, eps=cfg.eps)
    reference = optax.chain(optax.clip_by_global_norm(cfg.max_grad_norm), adam) if cfg.max_grad_norm else adam
    ours, theirs = Trained.start(cfg, params()), params()
    moments = reference.init(theirs)
    for step in range(10):
        grads = jax.tree.map(lambda x: 3.0 * x, params(seed=step + 1))
        ours = ours.step(cfg, grads)
        updates, moments = reference.update(grads, moments, theirs)
        theirs = optax.apply_updates(theirs, updates)
        assert_close(ours.params, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("cfg", "rates"),
    [
        (AdamConfig(learning_rate=1.0), [1, 1, 1, 1, 1, 1]),
        (AdamConfig(learning_rate=1.0, decay_steps=4), [1, 0.75, 0.5, 0.25, 0, 0]),
        (AdamConfig(learning_rate=1.0, decay_start=2, decay_steps=2), [1, 1, 1, 0.5, 0, 0]),
        (AdamConfig(learning_rate=2.0, decay_steps=4, final_share=0.5), [2, 1.75, 1.5, 1.25, 1, 1]),
        (AdamConfig(learning_rate=1.0, decay="cosine", decay_steps=4), [1, 0.853553, 0.5, 0.146447, 0, 0]),
        (
            AdamConfig(learning_rate=1.0, decay="cosine", decay_steps=4, final_share=0.2),
            [1, 0.882843, 0.6, 0.317157, 0.2, 0.2],
        ),
    ],
    ids=str,
)
def test_the_learning_rate_falls_over_its_steps_and_stays(cfg, rates):
    np.testing.assert_allclose([float(cfg.rate(jnp.int32(n))) for n in range(6)], rates, atol=1e-6)
    assert float(cfg.rate(jnp.int32(10**6))) == pytest.approx(rates[-1], abs=1e-6)


def test_decay_counts_the_optimisers_own_steps_unless_others_are_given():
    """PPO counts rollouts, each of which is many steps."""
    cfg = AdamConfig(decay_steps=2)
    start, grads = Trained.start(cfg, params()), params(seed=1)
    once = start.step(cfg, grads)
    assert not same(once.step(cfg, grads).params, once.params)
    assert same(once.step(cfg, grads).step(cfg, grads).params, once.step(cfg, grads).params)
    assert same(start.step(cfg, grads, jnp.int32(2)).params, start.params)
    later = once.step(cfg, grads).step(cfg, grads)
    assert not same(later.step(cfg, grads, jnp.int32(0)).params, later.params)


def test_descend_is_one_step_down_the_gradient_of_the_first_argument():
    cfg, goal = AdamConfig(learning_rate=0.1), params(seed=3)

    def loss(p, goal):
        misses = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), p, goal)
        return sum(jax.tree.leaves(misses)), {"largest": jnp.max(jnp.abs(p["bias"] - goal["bias"]))}

    start = Trained.start(cfg, params())
    trained, value, aux = descend(cfg, start, loss, goal)
    assert same(trained, start.step(cfg, jax.grad(loss, has_aux=True)(params(), goal)[0]))
    np.testing.assert_allclose(value, loss(params(), goal)[0], rtol=1e-6)
    np.testing.assert_allclose(aux["largest"], loss(params(), goal)[1]["largest"], rtol=1e-6)
    for _ in range(100):
        trained, later, _ = descend(cfg, trained, loss, goal)
    assert float(later) < 0.1 * float(value)


def test_a_clip_bounds_the_norm_of_all_gradients_together():
    """Seen in the first moment, which is (1 - b1) times the clipped gradient."""
    cfg, grads = AdamConfig(max_grad_norm=0.5), params(seed=1)
    norm = float(optax.tree.norm(grads))
    assert norm > 0.5
    clipped = Trained.start(cfg, params()).step(cfg, grads).moments.mu
    assert_close(clipped, jax.tree.map(lambda g: 0.1 * 0.5 / norm * g, grads))
    free = Trained.start(cfg, params()).step(replace(cfg, max_grad_norm=0.0), grads).moments.mu
    assert_close(free, jax.tree.map(lambda g: 0.1 * g, grads))


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_polyak_mixes_leaf_by_leaf(tau):
    target, online = params(), params(seed=1)
    assert_close(
        polyak(target, online, tau), jax.tree.map(lambda o, t: tau * o + (1 - tau) * t, online, target)
    )


def test_a_copy_is_no_alias():
    tree = params()
    for old, new in zip(*map(jax.tree.leaves, (tree, copied(tree))), strict=True):
        assert np.array_equal(old, new)
        assert old.unsafe_buffer_pointer() != new.unsafe_buffer_pointer()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("b1", 1.0),
        ("b2", 1.0),
        ("b1", -0.1),
        ("eps", 0.0),
        ("max_grad_norm", -1.0),
        ("decay_steps", -1),
        ("final_share", 1.1),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        AdamConfig(**{name: value})


def test_periodic_copies_at_multiples_of_the_period_only():
    old, new = params(), params(seed=1)
    for steps, copies in ((1, False), (2, False), (3, True), (4, False), (6, True)):
        assert same(periodic(old, new, jnp.int32(steps), 3), new if copies else old)
