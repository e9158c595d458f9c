"""The variance preserving SDE in continuous time (Song et al. 2021, arXiv 2011.13456), and its flow.

    dx = -beta(t) / 2 x dt + sqrt(beta(t)) dW,     beta(t) = 0.1 + 19.9 t,     t from 0 (action) to 1 (noise),

takes an action to x_t = sqrt(ab_t) a + sqrt(1 - ab_t) e, as ``flows.diffusion`` has it; ab_1 = 4.3e-5. The
ODE whose solutions have the same densities p_t runs to N(0, I) as t goes up and to the actions as it goes
down. Its solutions are not the straight paths of ``flows.meanflow.interpolate``, but the average of its
velocity over [r, t] obeys the same identity (``flows.meanflow.meanflow_target``).
"""

import jax.numpy as jnp

from fewstep.flows.meanflow import Scalar, Vector

BETA_MIN, BETA_MAX = 0.1, 20.0


def beta(t: Scalar) -> Scalar:
    """Twice the rate at which an action is forgotten, linear in t."""
    return BETA_MIN + t * (BETA_MAX - BETA_MIN)


def alpha_bar(t: Scalar) -> Scalar:
    """ab_t = exp(-integral_0^t beta): share of the action's variance that is left."""
    return jnp.exp(-t * (BETA_MIN + 0.5 * t * (BETA_MAX - BETA_MIN)))


def velocity(t: Scalar, x: Vector, score: Vector) -> Vector:
    """dx/dt = -beta(t) / 2 (x + grad_x log p_t(x)) of the probability-flow ODE; towards the noise."""
    return -0.5 * beta(t) * (x + score)
