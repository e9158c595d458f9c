"""Ways into the box: what comes back from outside it, inverses and slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import bounds

Z = jnp.array([-2.0, -2.0, -1.0, -1.0, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0])
SLOPES = jnp.array([1.0, -1.0] * 5)


def test_both_cut_alike():
    np.testing.assert_array_equal(bounds.clip_inward(Z), jnp.clip(Z, -1.0, 1.0))
    np.testing.assert_array_equal(bounds.clip(Z), jnp.clip(Z, -1.0, 1.0))


def test_from_outside_a_gradient_comes_back_where_descent_leads_inwards():
    inward = jax.grad(lambda z: jnp.sum(SLOPES * bounds.clip_inward(z)))(Z)
    np.testing.assert_array_equal(inward, [0, -1, 1, -1, 1, -1, 1, -1, 1, 0])
    none = jax.grad(lambda z: jnp.sum(SLOPES * bounds.clip(z)))(Z)
    np.testing.assert_array_equal(none[jnp.array([0, 1, 4, 5, 8, 9])], [0, 0, 1, -1, 0, 0])


def test_descent_from_outside_finds_a_minimum_inside_and_stops_outside_where_it_is_beyond():
    def descended(target):
        step = lambda z, _: (z - 0.1 * jax.grad(lambda z: (bounds.clip_inward(z) - target) ** 2)(z), None)  # noqa: E731
        return float(jax.lax.scan(step, jnp.float32(3.0), None, 200)[0])

    assert abs(descended(0.25) - 0.25) < 1e-5
    assert descended(1.5) == 3.0


def test_the_edge_is_where_clipping_or_the_slope_of_tanh_leaves_nothing():
    np.testing.assert_array_equal(bounds.at_the_edge("clip", Z), np.abs(Z) > 1.0)
    z = jnp.array([-2.7, -2.6, 0.0, 2.6, 2.7])  # tanh of 2.6467 is 0.99
    np.testing.assert_array_equal(bounds.at_the_edge("tanh", z), [True, False, False, False, True])


@pytest.mark.parametrize("bound", ["clip", "tanh"])
def test_the_inverse_of_a_bound_ends_at_the_limit(bound):
    inside = jnp.array([-0.99, -0.3, 0.0, 0.5, 0.999])
    np.testing.assert_allclose(
        bounds.to_action(bound, bounds.from_action(bound, inside, 5.0)), inside, rtol=1e-5
    )
    far = 3.0 if bound == "tanh" else 1.0
    np.testing.assert_array_equal(bounds.from_action(bound, jnp.array([-1.0, 1.0]), 3.0), [-far, far])


@pytest.mark.parametrize("bound", ["clip", "tanh"])
def test_the_slope_of_a_bound_by_finite_differences(bound):
    with jax.enable_x64(True):
        z = jnp.array([-0.9, -0.2, 0.0, 0.4, 0.99] if bound == "clip" else [-6.0, -1.0, 0.0, 0.3, 8.0])
        h = 1e-5
        slope = (bounds.to_action(bound, z + h) - bounds.to_action(bound, z - h)) / (2 * h)
        np.testing.assert_allclose(bounds.log_slope(bound, z), jnp.log(slope), rtol=1e-4, atol=1e-9)
        assert float(bounds.log_det(bound, z)) == pytest.approx(
            float(jnp.log(slope).sum()), rel=1e-4, abs=1e-9
        )
