"""SMFP's composite target: it is the maximum of the objective that it is said to be of."""

import jax
import numpy as np
import pytest

from fewstep.envs.toys import bandit, gaussian_fit
from fewstep.papers import composite

GRID = 200
AREA = (2 / GRID) ** 2


def plane():
    axis = bandit.cell_centres(GRID)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)


def normalised(log_density):
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * AREA)


def kl(p, q):
    return float((p * np.log(p / q)).sum() * AREA)


def objective(p, old):
    """E Q + alpha H - lambda KL to the old policy."""
    value = float((p * bandit.reward(plane())).sum() * AREA)
    entropy = -float((p * np.log(p)).sum() * AREA)
    return value + composite.ALPHA * entropy - composite.LAMBDA * kl(p, old)


@pytest.mark.parametrize("name", ["uniform", "narrow", "soft", "old"])
def test_what_a_policy_loses_is_its_kl_to_the_target(name):
    old = normalised(composite.log_old(plane()))
    others = {
        "uniform": np.full((GRID, GRID), 0.25),
        "narrow": normalised(-0.5 * (((plane() - 0.5) / 0.1) ** 2).sum(-1).clip(max=80.0)),
        "soft": bandit.boltzmann_density(0.1, GRID)[2],
        "old": old,
    }
    target = composite.target(GRID)
    lost = objective(target, old) - objective(others[name], old)
    assert lost == pytest.approx((composite.ALPHA + composite.LAMBDA) * kl(others[name], target), rel=1e-6)


def test_the_target_has_four_modes_of_other_weights_than_sacs():
    rows = {row.name: row for row in composite.known()}
    target, sac = rows["composite target"], rows["exp(Q / α) / Z"]
    assert target.total_variation == 0.0
    assert min(target.shares) > 0.05
    assert np.argmax(target.shares) == 1
    assert np.argmax(sac.shares) == 0
    assert sum(target.shares) == pytest.approx(1.0)
    assert target.cells.sum() * (2 / composite.BINS) ** 2 == pytest.approx(1.0)
    assert rows["Gaussian, reverse KL"].total_variation > 0.5


def test_samples_of_a_table_are_its_density():
    target = composite.target()
    drawn = np.asarray(composite.samples(jax.random.key(0), target, composite.SAMPLES))
    assert drawn.shape == (composite.SAMPLES, 2)
    assert np.abs(drawn).max() <= 1.0
    judged = composite._judged("samples", drawn.astype(np.float64))
    assert judged.total_variation == pytest.approx(composite.sampling_floor(), rel=0.05)
    rows = {row.name: row for row in composite.known()}
    np.testing.assert_allclose(judged.shares, rows["composite target"].shares, atol=0.01)


def test_the_gaussian_of_any_density_is_that_of_the_bandit_for_the_bandits():
    density = bandit.boltzmann_density(0.2, gaussian_fit.GRID)[2]
    found, known = gaussian_fit.fit(3.0 * density).best, gaussian_fit.best_gaussian(0.2).best
    np.testing.assert_allclose(found.mean + found.std, known.mean + known.std, rtol=1e-9)
    assert found.kl == pytest.approx(known.kl, rel=1e-9)


def test_a_trained_policy_is_judged_once_per_seed():
    found = composite.learn("MeanFlow, regression", updates=3, seeds=2)
    assert [one.name for one in found] == ["MeanFlow, regression"] * 2
    assert found[0].total_variation != found[1].total_variation
