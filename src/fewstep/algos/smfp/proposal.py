"""A learned guess of the noise behind a sample, and the importance-weighted bound that it makes tight."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import Obs, PolicyNet, Scalar, Vector
from fewstep.algos.smfp.policy import component
from fewstep.flows import semi_implicit
from fewstep.nets.encoder import Encoder, encoded_size
from fewstep.nets.mlp import MLP
from fewstep.types import Spec

LOG_STD_INITIAL, LOG_STD_MIN, LOG_STD_MAX = -1.5, -6.0, 1.0
"""Of the guess, per dimension: narrower than the noise itself (0), wider than it will become."""


class Proposal(eqx.Module):
    """r(e | s, z), a diagonal Gaussian over the noises that may have led to the sample ``z``."""

    body: MLP
    encoder: Encoder | None = None

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, hidden: tuple[int, ...]) -> "Proposal":
        """It starts near e = z, which is right for a policy that starts as the identity (``residual``)."""
        encoder, key = Encoder.before(key, spec.image)
        inputs, outputs = encoded_size(spec.obs_size, spec.image) + spec.act_size, 2 * spec.act_size
        body = MLP.create(key, inputs, hidden, outputs, init="lecun_uniform", activation="silu", norm=False)
        body = eqx.tree_at(lambda net: net.head.weight, body, replace_fn=lambda w: 0.1 * w)
        return Proposal(body, encoder)

    def __call__(self, s: Obs, z: Vector) -> tuple[Vector, Vector]:
        """Mean and log standard deviation of the guess."""
        s = s if self.encoder is None else self.encoder(s)
        shift, rho = jnp.split(self.body(z, s), 2)
        return z + shift, jnp.clip(rho + LOG_STD_INITIAL, LOG_STD_MIN, LOG_STD_MAX)


def log_density(
    cfg: SMFPConfig,
    actor: PolicyNet,
    proposal: Proposal,
    s: Obs,
    z: Vector,
    e: Vector,
    draws: Float[Array, "K act"],
) -> Scalar:
    """log q_K of the sample ``z`` of the component of ``e``, importance weighted, in nats.

    Args:
        cfg, actor, proposal, s: whose density, guessed by what, at which state.
        z, e: a sample before it is brought into [-1, 1], and the noise it really came from.
        draws: standard normal, what the K guessed noises are made of.

    On average not less than the log-density of the policy, whatever the proposal; equal to it when the
    proposal is the posterior of e. Differentiable in actor and proposal, which want the same: a lower bound
    of the entropy that is as high as possible.
    """
    mean, log_std = proposal(s, z)
    noises = jnp.concatenate([e[None], mean + jnp.exp(log_std) * draws])
    parts = jax.vmap(lambda noise: component(cfg, actor, s, noise))(noises)
    zero = jnp.zeros_like(mean)
    prior = semi_implicit.gaussian_log_density(noises, zero, zero)
    guessed = semi_implicit.gaussian_log_density(noises, mean, log_std)
    return semi_implicit.importance_log_density(z, *parts, prior - guessed)
