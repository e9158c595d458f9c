"""How good MFPO's velocity estimates are at each time, against a velocity that is known.

The target is a product of two-mode Gaussians on [-1, 1]^A (modes +-0.6, entropy -0.51 nats per dimension).
The policy's candidates come from the target itself, or from the same with wider modes; it maps its noise
monotonically in every dimension, as the optimal transport between the two laws does. Both sets of candidates
are weighted as in ``flows.velocity`` and judged at points of the target's own flow.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.flows import noises, velocity
from fewstep.flows.meanflow import Scalar, Vector

MODE, SIGMA = 0.6, 0.0727


class Judged(NamedTuple):
    """Squared errors per action dimension of the velocity estimated from the policy's candidates, from the
    Gaussian ones, and from both mixed by effective sample size or by that per candidate; the two sizes.
    """

    policy: Scalar
    gaussian: Scalar
    ess: Scalar
    ess_per_candidate: Scalar
    ess_policy: Scalar
    ess_gaussian: Scalar


def judge(
    act: int,
    policy: int,
    gaussian: int,
    noise: noises.Spread,
    sigma: float,
    states: int,
    t: Scalar,
    seed: int,
) -> Judged:
    """Means over ``states`` points at time ``t``.

    Args:
        act: action dimensions.
        policy, gaussian: candidates of each kind.
        noise: how their noises are drawn.
        sigma: width of the policy's modes; the target's are ``SIGMA`` wide.
        states: points.
        t: in (0, 1).
        seed: of all draws.
    """
    to_action = transport(sigma)

    def one(key: PRNGKeyArray) -> Judged:
        k_policy, k_noise, k_gauss = jax.random.split(key, 3)
        a = to_action(noises.normals(k_policy, noise, (policy, act)))
        x = (1 - t) * a[0] + t * jax.random.normal(k_noise, (act,))
        log_w = velocity.policy_log_weights(log_density(a, SIGMA), log_density(a, sigma), a, x, t)
        v_p, ess_p = velocity.snis_velocity(log_w, a, x, t)
        c = velocity.gaussian_in_box(noises.uniforms(k_gauss, noise, (gaussian, act)), x, t)
        v_g, ess_g = velocity.snis_velocity(log_density(c, SIGMA), c, x, t)
        by_ess, _ = velocity.mix_by_ess(v_p, ess_p, v_g, ess_g)
        by_share, _ = velocity.mix_by_ess(v_p, ess_p / policy, v_g, ess_g / gaussian)
        true = true_velocity(x, t)
        off = [jnp.mean((v - true) ** 2) for v in (v_p, v_g, by_ess, by_share)]
        return Judged(off[0], off[1], off[2], off[3], ess_p, ess_g)

    keys = jax.random.split(jax.random.key(seed), states)
    return jax.tree.map(jnp.mean, jax.vmap(one)(keys))


def log_density(a: Float[Array, "... act"], sigma: float) -> Float[Array, "..."]:
    """Of the target, or of a policy with modes of width ``sigma``."""
    one = jax.scipy.stats.norm.logpdf(a[..., None], jnp.array([MODE, -MODE]), sigma)
    return jnp.sum(jax.nn.logsumexp(one, -1) - jnp.log(2.0), -1)


def transport(sigma: float) -> Callable[[Array], Array]:
    """Normal noise to the two modes, monotone in each dimension."""
    with jax.ensure_compile_time_eval():
        a = jnp.linspace(-2.0, 2.0, 20_001)
        cdf = 0.5 * sum(jax.scipy.stats.norm.cdf(a, mode, sigma) for mode in (MODE, -MODE))
        noise = np.asarray(jax.scipy.special.ndtri(jnp.clip(cdf, 1e-7, 1 - 1e-7)))
        keep = np.diff(noise, prepend=-np.inf) > 0
        table = jnp.asarray(noise[keep]), a[keep]
    return lambda e: jnp.interp(e, *table)


def true_velocity(x: Vector, t: Scalar) -> Vector:
    """Of the target's flow: responsibilities times the velocities of the two Gaussian parts."""
    modes = jnp.array([[MODE], [-MODE]])
    variance = ((1 - t) * SIGMA) ** 2 + t**2
    shift = x - (1 - t) * modes
    weight = jax.nn.softmax(-0.5 * shift**2 / variance, axis=0)
    mean = modes + (1 - t) * SIGMA**2 / variance * shift
    return (x - jnp.sum(weight * mean, axis=0)) / t
