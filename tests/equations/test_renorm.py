"""Batch renormalisation: the batch's statistics, the running ones, the way from one to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets.layers import Linear
from fewstep.nets.renorm import BatchRenorm, RenormConfig, RenormMLP, Stats

COLD = RenormConfig()
WARM = RenormConfig(warm_up=0)
ROWS = 2.0 + 3.0 * jax.random.normal(jax.random.key(0), (64, 4))


def normalised(norm, cfg, stats, x):
    """The rows themselves, and the new statistics."""
    y, after = norm.train(cfg, stats, x)
    return y.rows * y.slope + y.shift, after


def layer():
    return BatchRenorm(jnp.array([1.0, 2.0, 0.5, 1.0]), jnp.array([0.0, 1.0, -1.0, 3.0]))


def test_before_the_warm_up_it_is_plain_batch_normalisation():
    stats = Stats(jnp.full(4, 7.0), jnp.full(4, 0.1), jnp.int32(99_999))
    y, _ = normalised(BatchRenorm.create(4), COLD, stats, ROWS)
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var(0), ROWS.var(0) / (ROWS.var(0) + 1e-3), rtol=1e-4)
    scaled, _ = normalised(layer(), COLD, stats, ROWS)
    np.testing.assert_allclose(scaled, y * layer().scale + layer().bias, rtol=1e-5, atol=1e-5)


def test_the_running_statistics_move_by_one_minus_momentum_per_batch():
    stats = Stats(jnp.full(4, 1.0), jnp.full(4, 2.0), jnp.int32(5))
    _, after = layer().train(COLD, stats, ROWS)
    np.testing.assert_allclose(after.mean, 0.99 * 1.0 + 0.01 * ROWS.mean(0), rtol=1e-6)
    np.testing.assert_allclose(after.variance, 0.99 * 2.0 + 0.01 * ROWS.var(0), rtol=1e-5)
    assert int(after.batches) == 6


def test_warm_and_within_the_limits_the_values_are_those_of_evaluation():
    stats = Stats(ROWS.mean(0) + 0.5, 1.7 * ROWS.var(0), jnp.int32(0))
    trained, _ = normalised(layer(), WARM, stats, ROWS)
    evaluated = jax.vmap(lambda row: layer()(WARM, stats, row)[0])(ROWS)
    np.testing.assert_allclose(trained, evaluated, rtol=1e-4, atol=1e-4)


def test_the_correction_stops_at_its_limits():
    stats = Stats(ROWS.mean(0) - 1e3, 1e-4 * ROWS.var(0), jnp.int32(0))
    cfg = RenormConfig(warm_up=0, epsilon=1e-9, r_max=3.0, d_max=5.0)
    y, _ = normalised(BatchRenorm.create(4), cfg, stats, ROWS)
    np.testing.assert_allclose(y, 3.0 * (ROWS - ROWS.mean(0)) / ROWS.std(0) + 5.0, rtol=1e-3, atol=1e-3)


def test_gradients_pass_through_the_batch_statistics_and_not_through_the_correction():
    stats = Stats(ROWS.mean(0) + 0.5, 1.7 * ROWS.var(0), jnp.int32(0))

    def total(x):
        return jnp.sum(normalised(BatchRenorm.create(4), WARM, stats, x)[0] ** 3)

    # Shifting every row alike changes neither the normalised rows nor the (constant) correction.
    np.testing.assert_allclose(jax.grad(total)(ROWS).sum(0), 0.0, atol=2e-2)
    assert float(jnp.abs(jax.grad(total)(ROWS)).max()) > 0.1


def test_running_statistics_carry_no_gradient():
    def running(x):
        return jnp.sum(layer().train(COLD, Stats.create(4), x)[1].mean)

    assert float(jnp.abs(jax.grad(running)(ROWS)).max()) == 0.0


def textbook(norm, cfg, stats, x):
    """The formula of Ioffe 2017, or that of CrossQ's code, statistics and all, as one writes it down."""
    mean, variance = x.mean(0), x.var(0)
    if cfg.form == "plain":
        return (x - mean) / jnp.sqrt(variance + cfg.epsilon) * norm.scale + norm.bias
    std, running = jnp.sqrt(variance + cfg.epsilon), jnp.sqrt(stats.variance + cfg.epsilon)
    r = jax.lax.stop_gradient(jnp.clip(std / running, 1 / cfg.r_max, cfg.r_max))
    d = jax.lax.stop_gradient(jnp.clip((mean - stats.mean) / running, -cfg.d_max, cfg.d_max))
    if cfg.form == "crossq":
        corrected = (x - mean + d * jnp.sqrt(variance) / r) / jnp.sqrt(variance / r**2 + cfg.epsilon)
        return corrected * norm.scale + norm.bias
    return ((x - mean) / std * r + d) * norm.scale + norm.bias


@pytest.mark.parametrize("form", ["ioffe", "crossq", "plain"])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_through_a_layer_values_and_gradients_are_the_textbooks(form, scale):
    """With running statistics far enough away that both corrections are at work, one of them at its limit."""
    cfg, rows = RenormConfig(warm_up=0, form=form), scale * ROWS
    away = scale * jnp.array([0.5, 90.0, -1.0, 0.0])
    stats = Stats(rows.mean(0) + away, 1.7 * rows.var(0), jnp.int32(0))
    linear = Linear(jax.random.normal(jax.random.key(2), (4, 3)), jnp.arange(3.0))

    def fast(norm, linear, x):
        return jnp.sum(jnp.tanh(norm.train(cfg, stats, x)[0].through(linear)) ** 3)

    def plain(norm, linear, x):
        y = textbook(norm, cfg, stats, x)
        return jnp.sum(jnp.tanh(y @ linear.weight + linear.bias) ** 3)

    # Small weights keep tanh away from its ends, where gradients vanish.
    linear = jax.tree.map(lambda w: 0.1 * w, linear)
    found, wanted = (jax.value_and_grad(f, (0, 1, 2))(layer(), linear, rows) for f in (fast, plain))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize(("variance", "share"), [(1.0, 0.998), (1e-2, 0.915), (1e-3, 0.877)])
def test_the_forms_part_where_the_variance_is_not_large_beside_epsilon(variance, share):
    """A batch twice as wide as the running statistics: slope of CrossQ's code over that of the formula,
    sqrt((v + eps) / (v / r^2 + eps)) / r with r^2 = (v + eps) / (v / 4 + eps)."""
    rows = (ROWS - ROWS.mean(0)) / ROWS.std(0) * jnp.sqrt(variance)
    stats = Stats(jnp.zeros(4), jnp.full(4, variance / 4), jnp.int32(0))
    forms = [RenormConfig(warm_up=0, form=form) for form in ("ioffe", "crossq")]
    slopes = [layer().train(cfg, stats, rows)[0].slope for cfg in forms]
    np.testing.assert_allclose(slopes[1] / slopes[0], share, rtol=2e-3)


def test_the_plain_form_does_not_look_at_the_running_statistics():
    """Not a number in them would reach the rows otherwise."""
    nowhere = Stats(jnp.full(4, jnp.nan), jnp.full(4, jnp.nan), jnp.int32(0))
    y, _ = normalised(layer(), RenormConfig(warm_up=0, form="plain"), nowhere, ROWS)
    assert np.isfinite(y).all()


def test_the_running_variance_may_average_unbiased_ones():
    cfg = RenormConfig(unbiased=True)
    (y, after), (same, _) = (normalised(layer(), c, Stats.create(4), ROWS) for c in (cfg, COLD))
    np.testing.assert_allclose(after.variance, 0.99 + 0.01 * ROWS.var(0, ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(y, same)


def test_a_constant_feature_has_finite_gradients_in_every_form():
    rows = ROWS.at[:, 0].set(7.0)
    for form in ("ioffe", "crossq", "plain"):
        cfg = RenormConfig(warm_up=0, form=form)

        def total(x, cfg=cfg):
            return jnp.sum(normalised(layer(), cfg, Stats.create(4), x)[0] ** 2)

        assert np.isfinite(jax.grad(total)(rows)).all()


@pytest.mark.parametrize("split", [(4,), (1, 3), (2, 1, 1)])
def test_an_input_in_parts_is_the_same_input(split):
    net = RenormMLP.create(jax.random.key(1), 4, (8, 8), 2, cfg=COLD)
    _, stats = net.train(net.empty_stats(), ROWS)
    whole = net(stats, ROWS[0])
    parts = jnp.split(ROWS[0], np.cumsum(split)[:-1])
    np.testing.assert_allclose(net(stats, *parts), whole, rtol=1e-5)
    assert whole.shape == (2,)


def test_after_many_equal_batches_evaluation_is_training():
    net = RenormMLP.create(jax.random.key(1), 4, (8, 8), 2, cfg=COLD)
    step = jax.jit(lambda stats: net.train(stats, ROWS))
    stats = net.empty_stats()
    for _ in range(1500):
        trained, stats = step(stats)
    evaluated = jax.vmap(lambda row: net(stats, row))(ROWS)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-3)
