"""Batch renormalisation: the batch's statistics, the running ones, the way from one to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets.renorm import BatchRenorm, RenormConfig, RenormMLP, Stats

COLD = RenormConfig()
WARM = RenormConfig(warm_up=0)
ROWS = 2.0 + 3.0 * jax.random.normal(jax.random.key(0), (64, 4))


def layer():
    return BatchRenorm(jnp.array([1.0, 2.0, 0.5, 1.0]), jnp.array([0.0, 1.0, -1.0, 3.0]))


def test_before_the_warm_up_it_is_plain_batch_normalisation():
    stats = Stats(jnp.full(4, 7.0), jnp.full(4, 0.1), jnp.int32(99_999))
    y, _ = BatchRenorm.create(4).train(COLD, stats, ROWS)
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var(0), ROWS.var(0) / (ROWS.var(0) + 1e-3), rtol=1e-4)
    scaled, _ = layer().train(COLD, stats, ROWS)
    np.testing.assert_allclose(scaled, y * layer().scale + layer().bias, rtol=1e-5, atol=1e-5)


def test_the_running_statistics_move_by_one_minus_momentum_per_batch():
    stats = Stats(jnp.full(4, 1.0), jnp.full(4, 2.0), jnp.int32(5))
    _, after = layer().train(COLD, stats, ROWS)
    np.testing.assert_allclose(after.mean, 0.99 * 1.0 + 0.01 * ROWS.mean(0), rtol=1e-6)
    np.testing.assert_allclose(after.variance, 0.99 * 2.0 + 0.01 * ROWS.var(0), rtol=1e-5)
    assert int(after.batches) == 6


def test_warm_and_within_the_limits_the_values_are_those_of_evaluation():
    stats = Stats(ROWS.mean(0) + 0.5, 1.7 * ROWS.var(0), jnp.int32(0))
    trained, _ = layer().train(WARM, stats, ROWS)
    evaluated = jax.vmap(lambda row: layer()(WARM, stats, row)[0])(ROWS)
    np.testing.assert_allclose(trained, evaluated, rtol=1e-4, atol=1e-4)


def test_the_correction_stops_at_its_limits():
    stats = Stats(ROWS.mean(0) - 1e3, 1e-4 * ROWS.var(0), jnp.int32(0))
    cfg = RenormConfig(warm_up=0, epsilon=1e-9, r_max=3.0, d_max=5.0)
    y, _ = BatchRenorm.create(4).train(cfg, stats, ROWS)
    np.testing.assert_allclose(y, 3.0 * (ROWS - ROWS.mean(0)) / ROWS.std(0) + 5.0, rtol=1e-3, atol=1e-3)


def test_gradients_pass_through_the_batch_statistics_and_not_through_the_correction():
    stats = Stats(ROWS.mean(0) + 0.5, 1.7 * ROWS.var(0), jnp.int32(0))

    def total(x):
        return jnp.sum(BatchRenorm.create(4).train(WARM, stats, x)[0] ** 3)

    # Shifting every row alike changes neither the normalised rows nor the (constant) correction.
    np.testing.assert_allclose(jax.grad(total)(ROWS).sum(0), 0.0, atol=2e-2)
    assert float(jnp.abs(jax.grad(total)(ROWS)).max()) > 0.1


def test_running_statistics_carry_no_gradient():
    def running(x):
        return jnp.sum(layer().train(COLD, Stats.create(4), x)[1].mean)

    assert float(jnp.abs(jax.grad(running)(ROWS)).max()) == 0.0


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
