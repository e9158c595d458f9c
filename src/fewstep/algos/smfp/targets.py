"""What SMFP's losses aim at: the successor's action and its entropy; actions to regress on, with weights.

Nothing in this file is differentiated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import QFunction
from fewstep.algos.smfp import proposal
from fewstep.algos.smfp.config import MirrorConfig, SMFPConfig
from fewstep.algos.smfp.network import Obs, PolicyNet, Scalar, Vector
from fewstep.algos.smfp.policy import Draw, best, component, draws
from fewstep.algos.smfp.proposal import Proposal
from fewstep.flows import bounds, semi_implicit

Rows = Float[Array, "batch"]


def next_action(
    cfg: SMFPConfig, actor: PolicyNet, q: QFunction, s: Obs, noises: Float[Array, "K 2 act"]
) -> Draw:
    """The successor's action: the best of K candidates, like the behaviour but with half its K."""
    return best(q, s, draws(cfg, actor, s, noises))


def log_density(
    cfg: SMFPConfig,
    actor: PolicyNet,
    guess: Proposal | tuple[()],
    s: Obs,
    nxt: Draw,
    key: PRNGKeyArray,
) -> Scalar:
    """log q_K of a draw in nats, from its own component and K others (K = 0 unless semi-implicit).

    The others are fresh ones, or those that ``guess`` proposes where there is one. The mean is -H_K: on
    average too high a density, by less the larger K. With the bound ``clip`` it is the density before
    clipping, with ``tanh`` that of the action.
    """
    log_det = bounds.log_det(cfg.actor.bound, nxt.z)
    if isinstance(guess, Proposal):
        drawn = jax.random.normal(key, (cfg.entropy.components, actor.act_size))
        return proposal.log_density(cfg, actor, guess, s, nxt.z, nxt.e, drawn) - log_det
    mean, log_std = (field[None] for field in nxt.component)
    fresh = cfg.entropy.components if cfg.entropy.kind == "semi_implicit" else 0
    if fresh:
        e = jax.random.normal(key, (fresh, actor.act_size))
        others = jax.vmap(lambda one: component(cfg, actor, s, one))(e)
        mean = jnp.concatenate([mean, others.mean])
        log_std = jnp.concatenate([log_std, others.log_std])
    return semi_implicit.mixture_log_density(nxt.z, mean, log_std) - log_det


class Candidates(NamedTuple):
    """Actions of the present policy, their values and the means of their components, ``[batch, K, ...]``."""

    action: Float[Array, "batch K act"]
    mean: Float[Array, "batch K act"]
    q: Float[Array, "batch K"]


def candidates(
    cfg: SMFPConfig,
    actor: PolicyNet,
    q: QFunction,
    obs: Float[Array, "batch obs"],
    noises: Float[Array, "batch K 2 act"],
) -> Candidates:
    """Draw candidates at every state and judge them; the mean of their values is V."""

    def one(s: Obs, noise: Float[Array, "K 2 act"]) -> Candidates:
        found = draws(cfg, actor, s, noise)
        return Candidates(found.action, found.component.mean, jax.vmap(lambda a: q(s, a))(found.action))

    return jax.vmap(one)(obs, noises)


class Pairs(NamedTuple):
    """What mirror descent regresses on: per state one or more actions, with ``advantage`` Q - V."""

    action: Float[Array, "batch pairs act"]
    advantage: Float[Array, "batch pairs"]


def mirror_pairs(
    cfg: MirrorConfig, q: QFunction, obs: Float[Array, "batch obs"], replayed: Vector, found: Candidates
) -> Pairs:
    """The actions of ``mirror.source`` and how much better than V they are."""
    value = found.q.mean(axis=1, keepdims=True)
    if cfg.source == "replay":
        return Pairs(replayed[:, None], jax.vmap(q)(obs, replayed)[:, None] - value)
    if cfg.source == "candidates":
        return Pairs(found.action, found.q - value)
    top = jnp.argmax(found.q, axis=1)[:, None]
    action = jnp.take_along_axis(found.action, top[..., None], axis=1)
    return Pairs(action, jnp.take_along_axis(found.q, top, axis=1) - value)


def mirror_weights(cfg: MirrorConfig, advantage: Float[Array, "batch pairs"]) -> Float[Array, "batch pairs"]:
    """(Q - V)_+, the rectified linear stand-in for exp(A / lambda): nothing below V, linear above.

    It scales with the reward like the Q part of the loss beside it, so lambda keeps its meaning. ``uniform``
    regresses on every action alike, as strongly as ``raw`` does on average.
    """
    rectified = jax.nn.relu(advantage)
    return jnp.full_like(rectified, rectified.mean()) if cfg.weights == "uniform" else rectified
