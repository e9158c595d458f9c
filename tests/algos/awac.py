"""AWAC: advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359), learning online.

The policy imitates the actions in the replay buffer, each weighted by how much better than its own it is.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.algos.shared.tanh_gaussian import GaussianPolicy, TanhGaussian
from fewstep.config import ReplayConfig
from fewstep.config.settings import Positive, Section, Share, Sizes
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.trained import AdamConfig, Trained, descend
from fewstep.nets.trunks import TrunkConfig
from fewstep.types import Spec, Transition


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The policy network, Adam on it, and the weights of what it imitates.

    Attributes:
        hidden: sizes of the hidden layers.
        temperature: lambda, reward units: an advantage of this size weighs e times as much as none.
        max_weight: weights are clipped to this.
    """

    hidden: Sizes = (256, 256)
    temperature: Positive = 1.0
    max_weight: Positive = 20.0


@dataclass(frozen=True)
class AWACConfig(Section):
    """All of AWAC; ``discount`` is gamma."""

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update)."""

    INIT = 0
    NEXT_ACTION = 1
    OWN_ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array. ``key`` is constant, ``updates`` counts updates."""

    actor: Trained[TanhGaussian]
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]


def init(cfg: AWACConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh networks for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = TanhGaussian.create(k_actor, spec, TrunkConfig(hidden=cfg.actor.hidden))
    return State(
        actor=Trained.start(cfg.actor, actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def update(cfg: AWACConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' ~ pi; then the policy towards the better actions."""
    actor, shape = state.actor.params, batch.action.shape
    own_action = jax.vmap(lambda s, e: tanh_gaussian.draw(actor, s, e).action)
    nxt = own_action(batch.next_obs, jax.random.normal(use_key(state, Use.NEXT_ACTION), shape))
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)

    own = own_action(batch.obs, jax.random.normal(use_key(state, Use.OWN_ACTION), shape))
    weight = weights(cfg.actor, critics.q(cfg.critic), batch.obs, batch.action, own)
    fitted, loss, _ = descend(cfg.actor, state.actor, actor_loss, batch.obs, batch.action, weight)
    metrics |= {"actor/loss": loss, "actor/weight_mean": weight.mean()}
    return replace(state, actor=fitted, critics=critics, updates=state.updates + 1), metrics


def weights(
    cfg: ActorConfig,
    q: QFunction,
    obs: Float[Array, "batch obs"],
    action: Float[Array, "batch act"],
    own: Float[Array, "batch act"],
) -> Float[Array, "batch"]:
    """exp(A / lambda), clipped, with A = Q(s, a) - Q(s, a'), a' an action of the policy's own."""
    advantage = jax.vmap(q)(obs, action) - jax.vmap(q)(obs, own)
    return jnp.minimum(jnp.exp(advantage / cfg.temperature), cfg.max_weight)


def actor_loss(
    actor: TanhGaussian,
    obs: Float[Array, "batch obs"],
    action: Float[Array, "batch act"],
    weight: Float[Array, "batch"],
) -> tuple[Float[Array, ""], None]:
    """-E[w log pi(a|s)]. Differentiates: actor. Actions on the bounds count as 0.999 of the way there."""
    z = jnp.arctanh(jnp.clip(action, -0.999, 0.999))
    log_prob = jax.vmap(lambda s, z: tanh_gaussian.log_density(z, *actor(s)))(obs, z)
    return -jnp.mean(weight * log_prob), None


ALGORITHM = Algorithm(
    name="awac",
    title="Advantage-weighted actor-critic: imitation of the better actions",
    config=AWACConfig,
    init=init,
    update=update,
    policy=lambda state: GaussianPolicy(state.actor.params, state.critics.target_ensemble),
    noise=tanh_gaussian.noise_shape,
    draw=tanh_gaussian.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@article{nair2020awac,
  title   = {{AWAC}: Accelerating Online Reinforcement Learning with Offline Datasets},
  author  = {Nair, Ashvin and Gupta, Abhishek and Dalal, Murtaza and Levine, Sergey},
  journal = {arXiv preprint arXiv:2006.09359},
  year    = {2020}
}""",
)
