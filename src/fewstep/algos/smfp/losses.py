"""SMFP's losses. Each says what it differentiates; everything else in it is a constant."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.algos.contract import QFunction
from fewstep.algos.smfp import proposal
from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import Obs, PolicyNet, Scalar, Vector
from fewstep.algos.smfp.policy import Component, component, gaussian, sample
from fewstep.algos.smfp.proposal import Proposal
from fewstep.flows import bounds, meanflow, residual, semi_implicit

Rows = Float[Array, "batch"]


class Guess(NamedTuple):
    """A learned proposal and the standard normal draws that its K noises per sample are made of."""

    proposal: Proposal
    draws: Float[Array, "batch M K act"]


class Improvement(NamedTuple):
    """Parts of the improvement loss and what is worth recording, each a mean over states and samples.

    Entropies and ``log_std`` are those of actions: with the bound ``tanh``, log sigma plus log da/dz at the
    sample. ``excess`` and ``bound`` are 0 with it: nothing is outside of [-1, 1].
    """

    q: Scalar
    hinge: Scalar
    bound: Scalar
    log_std: Scalar
    conditional_entropy: Scalar
    entropy: Scalar
    excess: Scalar
    clipped: Scalar


def improvement(
    actor: PolicyNet,
    cfg: SMFPConfig,
    q: QFunction,
    alpha: Scalar,
    obs: Float[Array, "batch obs"],
    e: Float[Array, "batch N act"],
    eps: Float[Array, "batch M act"],
    guess: Guess | None = None,
) -> tuple[Scalar, Improvement]:
    """L_SAC + L_bound: the value of sampled actions, the entropy term, what clipping cuts off.

    N mixture components are evaluated per state and the first M of them are sampled from. With a ``guess``
    each sample has K components of its own beside. Differentiates: actor, pathwise through mean and sigma of
    every component, and the guess's proposal.
    """
    kind, box, samples = cfg.entropy.kind, cfg.actor.bound, eps.shape[1]

    def outside(z: Float[Array, "M act"]) -> Scalar:
        return jax.nn.relu(jnp.abs(z) - 1.0).mean() if box == "clip" else jnp.zeros(())

    def one(s: Obs, e: Float[Array, "N act"], eps: Float[Array, "M act"], draws: Array | None) -> Improvement:
        parts = jax.vmap(lambda noise: component(cfg, actor, s, noise))(e)
        drawn = Component(parts.mean[:samples], parts.log_std[:samples])
        z = sample(drawn, eps)
        values = jax.vmap(lambda a: q(s, a))(bounds.to_action(box, z))
        log_std = drawn.log_std + bounds.log_slope(box, z)
        conditional = semi_implicit.conditional_entropy(log_std).mean()
        if guess is not None and draws is not None:
            weighted = partial(proposal.log_density, cfg, actor, guess.proposal, s)
            entropy = bounds.log_det(box, z).mean() - jax.vmap(weighted)(z, e[:samples], draws).mean()
        elif kind == "semi_implicit":
            mixture = jax.vmap(lambda one: semi_implicit.mixture_log_density(one, *parts))
            entropy = bounds.log_det(box, z).mean() - mixture(z).mean()
        else:
            entropy = conditional
        below = jax.nn.relu(jnp.log(cfg.entropy.target_std) - log_std)
        return Improvement(
            q=values.mean(),
            hinge=below.sum(-1).mean(),
            bound=outside(z),
            log_std=log_std.mean(),
            conditional_entropy=conditional,
            entropy=entropy,
            excess=outside(drawn.mean),
            clipped=jnp.mean(bounds.at_the_edge(box, z)),
        )

    draws = None if guess is None else guess.draws
    found = jax.tree.map(jnp.mean, jax.vmap(one)(obs, e, eps, draws))
    uncertainty = found.hinge if kind == "hinge" else -found.entropy
    loss = -found.q + alpha * uncertainty + cfg.actor.bound_weight * found.bound
    return loss, found


def mirror(
    actor: PolicyNet,
    cfg: SMFPConfig,
    obs: Float[Array, "batch obs"],
    action: Float[Array, "batch pairs act"],
    weight: Float[Array, "batch pairs"],
    e: Float[Array, "batch pairs act"],
    t: Float[Array, "batch pairs"],
) -> Scalar:
    """L_MD: the weighted MeanFlow regression on given actions, noised by ``e`` to time t, over [0, t].

    The flow leads to what is brought into [-1, 1], so with the bound ``tanh`` to the actions' inverse images.
    Differentiates: actor. The error is that of mu + sigma eps, which is sigma^2 larger than that of mu: it
    pulls sigma down where actions are worth imitating.
    """

    def one(s: Obs, a: Vector, w: Scalar, e: Vector, t: Scalar) -> Scalar:
        z = bounds.from_action(cfg.actor.bound, a, cfg.mirror.limit)
        x, v = meanflow.interpolate(z, e, t), e - z

        def network(x: Vector, b: Scalar, t: Scalar) -> tuple[Vector, Vector]:
            return gaussian(cfg, actor, s, x, b, t)

        g, log_std, target = residual.residual_target(network, x, jnp.zeros(()), t, v, cfg.mirror.limit)
        error = jnp.mean((g - target) ** 2)
        total = error + jnp.mean(jnp.exp(2.0 * log_std))
        return w * residual.adaptive_weight(error, cfg.mirror.gamma) * total

    pairs = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))
    return jax.vmap(pairs)(obs, action, weight, e, t).mean()
