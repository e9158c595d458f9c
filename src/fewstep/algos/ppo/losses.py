"""PPO's objective (Schulman et al. 2017, arXiv 1707.06347) on one minibatch, equation by equation."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.algos.contract import Metrics
from fewstep.algos.ppo import policy
from fewstep.algos.ppo.config import ActorConfig, CriticConfig, PPOConfig
from fewstep.algos.ppo.policy import Actor
from fewstep.nets.mlp import MLP

Scalar = Float[Array, ""]
Rows = Float[Array, "rows"]


class Networks(eqx.Module):
    """All that the objective differentiates."""

    actor: Actor
    critic: MLP

    def value(self, s: Float[Array, "obs"]) -> Scalar:
        """V(s) of a normalised observation, in units of the normalised reward."""
        return self.critic(s)[0]


class Samples(NamedTuple):
    """Steps as the epochs use them, any number of rows.

    Attributes:
        obs: ``[obs_size]``, normalised.
        action: ``[act_size]``, not clipped.
        log_prob: ``[]``, of the action under the policy that drew it.
        value: ``[]``, V before the first gradient step.
        advantage: ``[]``.
        target: ``[]``, what V shall become: value + advantage.
    """

    obs: Float[Array, "rows obs"]
    action: Float[Array, "rows act"]
    log_prob: Rows
    value: Rows
    advantage: Rows
    target: Rows


def standardised(advantage: Rows) -> Rows:
    """Mean 0 and standard deviation 1 (with 1e-8 added to it) over the rows."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def clipped_objective(ratio: Scalar, advantage: Scalar, clip: float) -> Scalar:
    """``min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)``, equation 7: to be maximised.

    Its gradient is 0 where the ratio has already gone beyond the clip in the direction that A asks for.
    """
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


def value_error(value: Scalar, old: Scalar, target: Scalar, clip: float | None) -> Scalar:
    """Half the squared error, or the larger of it and that of ``value`` kept within ``clip`` of ``old``.

    The clip is of OpenAI's code, not of the paper: where the value has left the band towards the target, the
    gradient is 0.
    """
    error = (value - target) ** 2
    if clip is not None:
        kept = old + jnp.clip(value - old, -clip, clip)
        error = jnp.maximum(error, (kept - target) ** 2)
    return 0.5 * error


def policy_loss(actor: Actor, cfg: ActorConfig, rows: Samples) -> tuple[Scalar, Metrics]:
    """Minus the clipped objective and the entropy bonus, mean over the rows. Differentiates: actor.

    ``actor/approx_kl`` estimates KL(old || new) by the mean of ``ratio - 1 - log ratio``, which is never
    negative (Schulman, "Approximating KL divergence", 2020).
    """
    advantage = standardised(rows.advantage) if cfg.normalise_advantages else rows.advantage
    log_ratio = jax.vmap(actor.log_prob)(rows.obs, rows.action) - rows.log_prob
    ratio = jnp.exp(log_ratio)
    objective = jax.vmap(lambda r, a: clipped_objective(r, a, cfg.clip))(ratio, advantage).mean()
    bonus = policy.entropy(actor.log_std)
    metrics = {
        "actor/loss": -objective,
        "actor/approx_kl": jnp.mean(jnp.expm1(log_ratio) - log_ratio),
        "actor/clipped_share": jnp.mean(jnp.abs(ratio - 1.0) > cfg.clip, dtype=jnp.float32),
        "policy/entropy": bonus,
    }
    return -objective - cfg.entropy_weight * bonus, metrics


def value_loss(networks: Networks, cfg: CriticConfig, rows: Samples) -> Scalar:
    """Mean of ``value_error`` over the rows. Differentiates: critic."""
    values = jax.vmap(networks.value)(rows.obs)
    return jax.vmap(lambda v, old, y: value_error(v, old, y, cfg.clip))(
        values, rows.value, rows.target
    ).mean()


def loss(networks: Networks, cfg: PPOConfig, rows: Samples) -> tuple[Scalar, Metrics]:
    """What is minimised: the policy's loss and ``critic.weight`` times the values'.

    Differentiates both networks, which share nothing but the clip of the gradient's norm.
    """
    of_policy, metrics = policy_loss(networks.actor, cfg.actor, rows)
    of_values = value_loss(networks, cfg.critic, rows)
    return of_policy + cfg.critic.weight * of_values, metrics | {"critic/loss": of_values}


def explained_variance(value: Rows, target: Rows) -> Scalar:
    """``1 - Var(target - value) / Var(target)``: 1 is perfect, 0 no better than a constant (and is given for
    targets that do not vary), negative worse."""
    spread = target.var()
    return jnp.where(spread > 0, 1.0 - (target - value).var() / jnp.where(spread > 0, spread, 1.0), 0.0)
