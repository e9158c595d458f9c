"""The mean noise of a noised action under the Boltzmann policy exp(Q(s, a) / alpha): what a diffusion policy
regresses on to become that policy (MaxEntDP, SDAC)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import QFunction
from fewstep.algos.shared.diffusion_policy import Noised
from fewstep.config.settings import Count, Section
from fewstep.flows import diffusion

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]


@dataclass(frozen=True)
class BoltzmannNoiseConfig(Section):
    """How the mean noise is estimated.

    Attributes:
        candidates: K, actions that the noised action may have been made of, drawn per row.
        estimator: ``qne``, the mean of their noises weighted by exp(Q / alpha); ``idem``, the mean of their
            gradients of Q / alpha with the same weights; ``qsm``, the gradient at the noised action itself,
            which takes no candidates and is right for little noise only.
        proposals: ``truncated``, candidates are drawn in the box; ``clipped``, they are drawn anywhere and
            Q is evaluated at the nearest action of the box (the code of SDAC), which puts too much density
            on its faces.
    """

    candidates: Count = 64
    estimator: Literal["qne", "idem", "qsm"] = "qne"
    proposals: Literal["truncated", "clipped"] = "truncated"

    def targets(
        self, q: QFunction, alpha: Scalar, obs: Float[Array, "batch obs"], at: Noised, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch act"], Scalar]:
        """The mean noise of each row, and the mean effective sample size of the weights, from 1 to K."""
        shape = (at.x.shape[0], self.candidates, at.x.shape[1])
        if self.proposals == "truncated":
            tiny = jnp.finfo(jnp.float32).tiny
            z = jax.vmap(diffusion.noise_in_box)(at.ab, at.x, jax.random.uniform(key, shape, minval=tiny))
        else:
            z = jax.random.normal(key, shape)
        noise, ess = jax.vmap(partial(self.target, q, alpha))(obs, at.x, at.ab, z)
        return noise, ess.mean()

    def target(
        self, q: QFunction, alpha: Scalar, s: Obs, x: Vector, ab: Scalar, z: Float[Array, "K act"]
    ) -> tuple[Vector, Scalar]:
        """The same for one row and the noises ``z`` of its candidates."""
        if self.estimator == "qsm":
            return diffusion.noise_by_gradient(ab, jax.grad(q, argnums=1)(s, x) / alpha), jnp.float32(1.0)
        actions = jnp.clip(diffusion.proposals(ab, x, z), -1.0, 1.0)
        if self.estimator == "qne":
            values = jax.vmap(partial(q, s))(actions)
            noise = diffusion.noise_by_weights(values / alpha, z)
        else:
            values, gradients = jax.vmap(jax.value_and_grad(partial(q, s)))(actions)
            noise = diffusion.noise_by_weighted_gradients(ab, values / alpha, gradients / alpha)
        return noise, 1.0 / jnp.sum(jax.nn.softmax(values / alpha) ** 2)
