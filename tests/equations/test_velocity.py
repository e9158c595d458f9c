import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fewstep.flows import bounds, noises, velocity
from tests.equations.linear_gaussian import LinearGaussian
from tests.few import slow

# ---------------------------------------------------------------------------------- the table of errors (B.3)

MODES, SIGMA = 0.6, 0.0727  # entropy ln 2 + ln(sigma sqrt(2 pi e)) = -0.51 nats per dimension


def bimodal_samples(key, shape):
    k_side, k_noise = jax.random.split(key)
    return MODES * jax.random.rademacher(k_side, shape, jnp.float32) + SIGMA * jax.random.normal(
        k_noise, shape
    )


def bimodal_log_prob(a):
    one = jax.scipy.stats.norm.logpdf(a[..., None], jnp.array([MODES, -MODES]), SIGMA)
    return jnp.sum(jax.nn.logsumexp(one, -1) - jnp.log(2.0), -1)


def bimodal_velocity(x, t):
    """The mixture's exact velocity: responsibilities times the velocities of its two Gaussian parts."""
    parts = [LinearGaussian(jnp.float32(m), SIGMA) for m in (MODES, -MODES)]
    log_w = jnp.stack([-0.5 * p.z(x, t) ** 2 for p in parts])
    w = jax.nn.softmax(log_w, 0)
    return sum(w[i] * p.velocity(x, t) for i, p in enumerate(parts))


def errors(act, t, count=6000):
    """Mean squared error per dimension of the three estimates, and the two effective sample sizes."""

    def one(key):
        k_a, k_e, k_g = jax.random.split(key, 3)
        a = bimodal_samples(k_a, (16, act))
        x = (1 - t) * a[0] + t * jax.random.normal(k_e, (act,))
        log_p = bimodal_log_prob(a)
        v_p, ess_p = velocity.snis_velocity(velocity.policy_log_weights(log_p, log_p, a, x, t), a, x, t)
        c = velocity.gaussian_in_box(noises.uniforms(k_g, "independent", (32, act)), x, t)
        v_g, ess_g = velocity.snis_velocity(bimodal_log_prob(c), c, x, t)
        v, _ = velocity.mix_by_ess(v_p, ess_p, v_g, ess_g)
        true = bimodal_velocity(x, t)
        mse = [jnp.mean((est - true) ** 2) for est in (v_g, v_p, v)]
        return jnp.stack([*mse, ess_p, ess_g])

    keys = jax.random.split(jax.random.key(3), count)
    return jax.jit(jax.vmap(one))(keys).mean(0)


TABLE = {  # (act, t): gaussian only, policy only, mixed by ESS, ESS policy, ESS gaussian
    (1, 0.1): (0.031, 0.056, 0.018, 6.9, 17.2),
    (1, 0.5): (0.132, 0.054, 0.040, 13.1, 8.4),
    (1, 0.9): (0.059, 0.027, 0.018, 15.9, 8.4),
    (6, 0.1): (0.308, 0.354, 0.175, 1.1, 2.5),
    (6, 0.3): (0.925, 0.509, 0.335, 1.6, 1.3),
    (6, 0.5): (0.919, 0.174, 0.148, 5.7, 1.3),
    (6, 0.9): (0.407, 0.029, 0.027, 15.6, 1.3),
    (17, 0.1): (0.786, 0.373, 0.323, 1.0, 1.5),
    (17, 0.3): (1.116, 0.970, 0.519, 1.0, 1.1),
    (17, 0.5): (1.019, 0.563, 0.358, 2.1, 1.1),
    (17, 0.9): (0.433, 0.030, 0.028, 15.9, 1.1),
}


FIRST = [(1, 0.5), (6, 0.1), (17, 0.9)]


@pytest.mark.parametrize(("act", "t"), FIRST + slow(*(row for row in TABLE if row not in FIRST)))
def test_the_estimator_has_the_errors_of_the_table(act, t):
    got, want = np.asarray(errors(act, jnp.float32(t))), np.array(TABLE[act, t])
    np.testing.assert_allclose(got[:3], want[:3], rtol=0.15)
    np.testing.assert_allclose(got[3:], want[3:], rtol=0.1, atol=0.06)


def transported(e):
    """Normal noise to the bimodal law, monotone in each dimension, as a flow might do it."""
    a = np.linspace(-1.2, 1.2, 20_001)
    cdf = 0.5 * (stats.norm.cdf(a, MODES, SIGMA) + stats.norm.cdf(a, -MODES, SIGMA))
    inside = (cdf > 1e-7) & (cdf < 1 - 1e-7) & (np.diff(cdf, prepend=-1.0) > 0)
    noise, a = (jnp.asarray(z[inside], jnp.float32) for z in (stats.norm.ppf(cdf), a))
    return jnp.interp(e, noise, a)


@pytest.mark.parametrize(("act", "t"), [(6, 0.1), *slow((1, 0.5), (17, 0.5))])
def test_spread_noise_and_sizes_per_candidate_do_with_three_quarters_of_the_gaussians(act, t):
    """24 instead of 32, and no cell of the table gets worse (these are the closest, and one far better)."""

    def one(key):
        k_a, k_e, k_g = jax.random.split(key, 3)
        a = transported(noises.normals(k_a, "stratified", (16, act)))
        x = (1 - t) * a[0] + t * jax.random.normal(k_e, (act,))
        log_p = bimodal_log_prob(a)
        v_p, ess_p = velocity.snis_velocity(velocity.policy_log_weights(log_p, log_p, a, x, t), a, x, t)
        c = velocity.gaussian_in_box(noises.uniforms(k_g, "stratified", (24, act)), x, t)
        v_g, ess_g = velocity.snis_velocity(bimodal_log_prob(c), c, x, t)
        v, _ = velocity.mix_by_ess(v_p, ess_p / 16, v_g, ess_g / 24)
        return jnp.mean((v - bimodal_velocity(x, t)) ** 2)

    mse = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), 4000)).mean()
    assert mse < 1.03 * TABLE[act, t][2]
    assert act > 1 or mse < 0.2 * TABLE[act, t][2]


@pytest.mark.parametrize("draw", [noises.uniforms, noises.normals])
def test_stratified_sets_have_one_member_per_interval_and_independent_ones_do_not(draw):
    shape = (50, 8, 3)
    law = stats.uniform if draw is noises.uniforms else stats.norm
    strata = {}
    for spread in ("independent", "stratified"):
        found = np.asarray(draw(jax.random.key(0), spread, shape))
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert stats.kstest(found[:, 0, 0], law.cdf).pvalue > 1e-3
        strata[spread] = np.sort(np.floor(8 * law.cdf(found)), axis=1)
    wanted = np.broadcast_to(np.arange(8)[None, :, None], shape)
    np.testing.assert_array_equal(strata["stratified"], wanted)
    assert (strata["independent"] != wanted).any()


# ------------------------------------------------------------------------------------------------- invariants


def weights_case():
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.uniform(-1, 1, (9, 2)), jnp.float32)
    return a, jnp.asarray(rng.normal(size=9), jnp.float32), jnp.array([0.3, -0.2]), jnp.float32(0.4)


def test_a_constant_added_to_the_values_changes_nothing():
    a, log_w, x, t = weights_case()
    v, ess = velocity.snis_velocity(log_w, a, x, t)
    shifted_v, shifted_ess = velocity.snis_velocity(log_w + 3.0, a, x, t)
    assert jnp.allclose(v, shifted_v, atol=1e-5)
    assert jnp.allclose(ess, shifted_ess, rtol=1e-5)


def test_effective_sample_size_between_one_and_all():
    a, log_w, x, t = weights_case()
    assert jnp.allclose(velocity.snis_velocity(jnp.zeros(9), a, x, t)[1], 9.0, rtol=1e-5)
    assert jnp.allclose(velocity.snis_velocity(log_w * 1e6, a, x, t)[1], 1.0)
    assert 1.0 <= velocity.snis_velocity(log_w, a, x, t)[1] <= 9.0


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e7])
def test_huge_values_at_a_tiny_temperature_stay_finite(scale):
    a, log_w, x, t = weights_case()
    log_p = velocity.policy_log_weights(scale * log_w / 1e-3, log_w, a, x, t)
    v, ess = velocity.snis_velocity(log_p, a, x, t)
    assert jnp.isfinite(v).all()
    assert jnp.isfinite(ess)


def test_mixing_weighs_by_effective_sample_size():
    v, rho = velocity.mix_by_ess(jnp.array([1.0]), jnp.float32(16.0), jnp.array([4.0]), jnp.float32(32.0))
    assert jnp.allclose(rho, 1 / 3)
    assert jnp.allclose(v, 3.0)


def test_with_a_prior_the_estimate_of_a_gaussian_target_converges_to_its_velocity():
    flow = LinearGaussian(jnp.array([0.3, -0.5]), 0.5)
    for t in (0.2, 0.6, 1.0):
        t, x = jnp.float32(t), jnp.array([0.4, 0.1])
        c, log_prior = velocity.gaussian_with_prior(jax.random.normal(jax.random.key(0), (200_000, 2)), x, t)
        v, _ = velocity.snis_velocity(jax.vmap(flow.log_density)(c) - log_prior, c, x, t)
        assert jnp.allclose(v, flow.velocity(x, t), atol=0.02)


# --------------------------------------------------------------------------------------- the truncated normal


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 1), (-0.1, 3), (4, 6), (5.6, 9), (-9, -5.6), (8, 8.05), (-30, 30), (12.5, 14), (30, 40), (2, 60)],
)
def test_truncated_normal_has_the_right_law(low, high):
    z = np.asarray(
        velocity.truncated_normal(
            noises.uniforms(jax.random.key(0), "independent", (20_000, 1))[:, 0], float(low), float(high)
        ),
        np.float64,
    )
    assert z.min() >= low
    assert z.max() <= high
    exact = stats.truncnorm(low, high)
    assert abs(z.mean() - exact.mean()) < 4 * exact.std() / np.sqrt(len(z)) + 2e-6 * abs(low)
    assert abs(z.std() / exact.std() - 1) < 0.03
    assert stats.kstest(z, exact.cdf).pvalue > 1e-3
    assert len(np.unique(z)) > 5_000


def test_truncated_normal_of_a_single_point_is_that_point():
    z = velocity.truncated_normal(
        jnp.array([0.1, 0.5, 0.9]), jnp.array([0.5, -7.0, 20.0]), jnp.array([0.5, -7.0, 20.0])
    )
    assert jnp.allclose(z, jnp.array([0.5, -7.0, 20.0]))


@pytest.mark.parametrize("t", [1e-3, 0.5, 1 - 1e-3])
def test_gaussian_proposals_stay_in_the_box_at_extreme_times(t):
    x = jnp.array([0.9, -0.99, 3.0])
    c = velocity.gaussian_in_box(
        noises.uniforms(jax.random.key(0), "independent", (1000, 3)),
        (1 - t) * jnp.array([0.9, -0.99, 0.0]) + t * x,
        jnp.float32(t),
    )
    assert jnp.isfinite(c).all()
    assert jnp.abs(c).max() <= 1.0
    if t == 1e-3:  # nearly no noise: the proposals must sit at the action that was noised
        assert jnp.allclose(c.mean(0)[:2], jnp.array([0.9, -0.99]), atol=5e-3)


# --------------------------------------------------------------------------------------------- the two bounds


def test_tanh_log_det_matches_the_jacobian_and_does_not_underflow():
    z = jnp.array([0.3, -1.2, 4.0])
    jacobian = jax.jacfwd(lambda z: bounds.to_action("tanh", z))(z)
    assert jnp.allclose(bounds.log_det("tanh", z), jnp.linalg.slogdet(jacobian)[1], rtol=1e-4)
    assert jnp.allclose(bounds.log_det("tanh", jnp.array([40.0])), 2 * (jnp.log(2.0) - 40.0))


def test_clip_cuts_and_keeps_the_density():
    assert jnp.array_equal(bounds.to_action("clip", jnp.array([-3.0, 0.2, 1.5])), jnp.array([-1.0, 0.2, 1.0]))
    assert bounds.log_det("clip", jnp.array([-3.0, 0.2])) == 0.0
