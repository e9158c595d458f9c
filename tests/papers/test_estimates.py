"""The known velocity that MFPO's estimates are judged by, and what they are worth there."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from fewstep.papers import estimates


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_true_velocity_is_the_mean_over_all_actions(t):
    """E[(x - a) / t | x], summed over a fine grid of actions."""
    a = np.linspace(-1.5, 1.5, 60_001)
    density = norm.pdf(a, estimates.MODE, estimates.SIGMA) + norm.pdf(a, -estimates.MODE, estimates.SIGMA)
    for x in (-0.8, 0.05, 0.4):
        weight = density * norm.pdf(x, (1 - t) * a, t)
        expected = float((weight * (x - a)).sum() / weight.sum() / t)
        found = estimates.true_velocity(jnp.array([x]), jnp.float32(t))
        assert float(found[0]) == pytest.approx(expected, abs=2e-3)


def test_the_transport_takes_normal_noise_to_the_two_modes():
    noise = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    a = np.asarray(estimates.transport(estimates.SIGMA)(jnp.asarray(noise, jnp.float32)))
    assert (np.diff(a) >= 0).all()
    assert np.mean(a > 0) == pytest.approx(0.5, abs=1e-3)
    assert a[a > 0].mean() == pytest.approx(estimates.MODE, abs=2e-3)
    assert a[a > 0].std() == pytest.approx(estimates.SIGMA, rel=0.02)


@pytest.mark.parametrize(
    ("act", "t", "errors", "sizes"),
    [
        (1, 0.5, (0.054, 0.132, 0.040), (13.1, 8.4)),
        (6, 0.9, (0.029, 0.407, 0.027), (15.6, 1.3)),
        (17, 0.3, (0.970, 1.116, 0.519), (1.0, 1.1)),
    ],
)
def test_the_mixture_is_better_than_either_part(act, t, errors, sizes):
    """Numbers of another implementation of the same simulation, with other draws."""
    found = estimates.judge(act, 16, 32, "independent", estimates.SIGMA, 3000, jnp.float32(t), 0)
    np.testing.assert_allclose([found.policy, found.gaussian, found.ess], errors, rtol=0.12)
    np.testing.assert_allclose([found.ess_policy, found.ess_gaussian], sizes, atol=0.12)
    assert found.ess < min(found.policy, found.gaussian)
