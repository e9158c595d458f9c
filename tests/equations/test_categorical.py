import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.critics import categorical
from fewstep.critics.heads import combine

Z = categorical.support(-10.0, 10.0, 21)


PROJECTIONS = [categorical.project, categorical.project_by_adding, categorical.project_by_product]
every_projection = pytest.mark.parametrize("project", PROJECTIONS, ids=lambda f: f.__name__)


def one_hot(index):
    return jnp.zeros(21).at[index].set(1.0)


def bellemare_projection(p, y, z):
    """The loop of the C51 paper (algorithm 1), in float64."""
    m, spacing = np.zeros(len(z)), z[1] - z[0]
    for mass, value in zip(p, y, strict=True):
        b = (np.clip(value, z[0], z[-1]) - z[0]) / spacing
        low, high = int(np.floor(b)), int(np.ceil(b))
        if low == high:
            m[low] += mass
        else:
            m[low] += mass * (high - b)
            m[high] += mass * (b - low)
    return m


@every_projection
def test_projection_equals_the_algorithm_of_the_paper(project):
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(21)), rng.uniform(-14, 14, 21)
    expected = bellemare_projection(p, y, np.asarray(Z, np.float64))
    got = project(jnp.asarray(p, jnp.float32), jnp.asarray(y, jnp.float32), Z)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@every_projection
def test_projection_conserves_mass_and_keeps_the_mean_inside_the_support(project):
    rng = np.random.default_rng(1)
    p, y = (
        jnp.asarray(rng.dirichlet(np.ones(21)), jnp.float32),
        jnp.asarray(rng.uniform(-10, 10, 21), jnp.float32),
    )
    m = project(p, y, Z)
    assert jnp.allclose(m.sum(), 1.0, atol=1e-6)
    assert jnp.allclose(m @ Z, p @ y, atol=1e-5)


@every_projection
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3.0, {13: 1.0}),
        (-10.0, {0: 1.0}),
        (10.0, {20: 1.0}),
        (-99.0, {0: 1.0}),
        (1e6, {20: 1.0}),
        (2.25, {12: 0.75, 13: 0.25}),
        (-9.5, {0: 0.5, 1: 0.5}),
    ],
)
def test_projection_of_a_single_value(value, expected, project):
    m = project(one_hot(4), jnp.full(21, value), Z)
    want = jnp.zeros(21)
    for index, mass in expected.items():
        want = want.at[index].set(mass)
    assert jnp.allclose(m, want, atol=1e-6)


@every_projection
def test_twins_and_batches_are_projected_one_by_one(project):
    rng = np.random.default_rng(2)
    p = jnp.asarray(rng.dirichlet(np.ones(21), (5, 2)), jnp.float32)
    y = jnp.asarray(rng.uniform(-14, 14, (5, 21)), jnp.float32)
    got = jax.jit(jax.vmap(lambda p, y: project(p, y, Z)))(p, y)
    for twins, values, found in zip(p, y, got, strict=True):
        for one, m in zip(twins, found, strict=True):
            expected = bellemare_projection(*(np.asarray(v, np.float64) for v in (one, values, Z)))
            np.testing.assert_allclose(m, expected, atol=2e-6)


@every_projection
def test_a_value_that_is_not_a_number_is_not_lost(project):
    values = jnp.zeros(21).at[3].set(jnp.nan)
    assert jnp.isnan(project(jnp.full(21, 1 / 21), values, Z)).any()


def test_the_authors_grid_has_a_spacing_of_32():
    z = categorical.support(-1600.0, 1600.0, 101)
    assert z[1] - z[0] == 32.0
    assert z[50] == 0.0


def test_soft_atoms_stop_at_termination_and_carry_the_entropy():
    bonus = jnp.float32(0.6)
    going = categorical.soft_atoms(Z, jnp.float32(1.0), jnp.array(False), 0.9, bonus)
    ended = categorical.soft_atoms(Z, jnp.float32(1.0), jnp.array(True), 0.9, bonus)
    assert jnp.allclose(going, 1.0 + 0.9 * (Z + 0.6), atol=1e-6)
    assert jnp.allclose(ended, 1.0)


def test_an_ensemble_gives_one_whole_distribution_or_the_mixture():
    low, high, top = one_hot(3), 0.5 * (one_hot(0) + one_hot(20)), one_hot(19)
    for members in ((low, high), (high, low), (top, high, low), (low, top, high)):
        assert jnp.array_equal(categorical.combine_targets(jnp.stack(members), Z, "min"), low)
    mixture = categorical.combine_targets(jnp.stack([low, high, top]), Z, "mean")
    assert jnp.allclose(mixture, (low + high + top) / 3)
    assert jnp.array_equal(categorical.combine_targets(low[None], Z, "mean"), low)
    tie = 0.5 * (one_hot(9) + one_hot(11))
    whole = jnp.arange(-10.0, 11.0)  # exact numbers, so that the means tie exactly
    assert jnp.array_equal(categorical.combine_targets(jnp.stack([one_hot(10), tie]), whole, "min"), tie)


def test_values_of_an_ensemble_become_their_lowest_or_their_mean():
    values = [jnp.float32(2.0), jnp.float32(1.0), jnp.float32(6.0)]
    assert combine(values, "min") == 1.0
    np.testing.assert_allclose(combine(values, "mean"), 3.0, rtol=1e-6)
    assert combine(values[:1], "min") == combine(values[:1], "mean") == 2.0


def test_saturated_share_counts_mass_beyond_the_ends():
    p = jnp.full(21, 1 / 21)
    assert jnp.allclose(categorical.saturated_share(p, Z + 2.0, Z), 2 / 21)
    assert categorical.saturated_share(p, Z, Z) == 0.0


def test_cross_entropy_and_value_in_closed_form():
    assert jnp.allclose(categorical.cross_entropy(one_hot(2), jnp.zeros(21)), jnp.log(21.0))
    assert jnp.allclose(categorical.expected_value(jnp.zeros(21), Z), 0.0, atol=1e-6)
    logits = jnp.linspace(-1, 1, 21)
    gradient = jax.grad(lambda x: categorical.cross_entropy(one_hot(5), x))(logits)
    assert jnp.allclose(gradient, jax.nn.softmax(logits) - one_hot(5), atol=1e-6)


def test_a_narrow_start_is_near_zero_and_no_atom_is_out_of_reach():
    z = categorical.support(-5.0, 5.0, 101)
    logits = categorical.logits_around_zero(z)
    p = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(p @ z, 0.0, atol=1e-6)
    assert p[np.abs(z) > 1.0].sum() < 1e-3
    assert float(logits.min()) == categorical.FLOOR
    np.testing.assert_allclose(np.sqrt(p @ np.asarray(z) ** 2), 0.2, atol=0.03)
