"""TD3: Twin Delayed Deep Deterministic policy gradient (arXiv 1802.09477), the deterministic control.

docs/algorithms/td3.md holds the mathematics and the sources of the presets.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Section, Share, Sizes
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.flows import bounds
from fewstep.nets import own
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.nets.own import OwnNet
from fewstep.nets.trained import AdamConfig, Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The policy network, Adam on it, how often it is updated, and how it explores.

    Attributes:
        network: ``module:make``, layers of your own in the place of the built-in ones (docs/own-networks.md);
            none: the built-in ones.
        hidden: sizes of the hidden layers.
        activation: between them.
        delay: one policy update, and one step of the target actor, per this many critic updates.
        exploration_noise: standard deviation of the Gaussian noise on actions while experience is collected,
            in units of the action's range [-1, 1].
    """

    network: str | None = None
    hidden: Sizes = (256, 256)
    activation: Activation = "relu"
    delay: Count = 2
    exploration_noise: NonNegative = 0.1


@dataclass(frozen=True)
class SmoothingConfig(Section):
    """Target policy smoothing: the noise on the successor's action.

    Attributes:
        noise: its standard deviation, in units of the action's range [-1, 1].
        clip: the noise is clipped to [-clip, clip] before it is added.
    """

    noise: NonNegative = 0.2
    clip: NonNegative = 0.5


@dataclass(frozen=True)
class TD3Config(Section):
    """All of TD3.

    ``critic.tau`` is the Polyak rate of the target actor, too. The policy climbs the first critic alone.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(target_delay=2))
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    SMOOTHING = 1


class Actor(eqx.Module):
    """The deterministic policy a = tanh(f(s))."""

    net: MLP | OwnNet

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, cfg: ActorConfig) -> "Actor":
        """Fresh parameters; no normalisation layers, but in a network of the user's."""
        layers = (spec.obs_size, cfg.hidden, spec.act_size)
        init = "lecun_normal"
        if cfg.network is not None:
            net = own.create(cfg.network, key, *layers, head_init=init, activation=cfg.activation)
            return Actor(net)
        return Actor(
            MLP.create(key, *layers, init=init, head_init=init, activation=cfg.activation, norm=False)
        )

    def __call__(self, s: Obs) -> Vector:
        """The action of the state ``s``, in (-1, 1)."""
        return jnp.tanh(self.net(s))


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is a Polyak average that moves on policy updates alone; ``held`` are the metrics of the
    last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the
    calls of ``update``.
    """

    actor: Trained[Actor]
    target_actor: Actor
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: TD3Config, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = Actor.create(k_actor, spec, cfg.actor)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: TD3Config, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' the target actor's smoothed action; then the policy."""
    eps = jax.random.normal(use_key(state, Use.SMOOTHING), batch.action.shape)
    smoothed = jax.vmap(lambda s, e: target_action(cfg.smoothing, state.target_actor, s, e))
    next_action = smoothed(batch.next_obs, eps)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, next_action)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.first_q(cfg.critic), batch.obs),
    )
    return state, metrics | held


def target_action(cfg: SmoothingConfig, actor: Actor, s: Obs, eps: Vector) -> Vector:
    """The smoothed action of a successor: clip(pi(s) + clip(noise eps, -c, c), -1, 1), eps ~ N(0, I).

    Fujimoto et al. 2018 (arXiv 1802.09477), equation 14, with the clip to the action bounds of their code.
    """
    return jnp.clip(actor(s) + jnp.clip(cfg.noise * eps, -cfg.clip, cfg.clip), -1.0, 1.0)


def improve(cfg: TD3Config, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """The actor up ``q``, then one Polyak step of the target actor.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the first critic.
    """
    actor, loss, actions = descend(cfg.actor, state.actor, actor_loss, q, obs)
    target_actor = polyak(state.target_actor, actor.params, cfg.critic.tau)
    saturated = jnp.mean(jnp.abs(actions) > bounds.SATURATED, dtype=jnp.float32)
    metrics = {"actor/loss": loss, "actor/q": -loss, "policy/saturated_share": saturated}
    return replace(state, actor=actor, target_actor=target_actor), metrics


def actor_loss(actor: Actor, q: QFunction, obs: ObsRows) -> tuple[Scalar, Float[Array, "batch act"]]:
    """-E[Q(s, pi(s))], batch mean, and the actions. Differentiates: actor, through the action.

    The deterministic policy gradient (Silver et al. 2014; equation 1 of arXiv 1802.09477).
    """
    actions = jax.vmap(actor)(obs)
    return -jax.vmap(q)(obs, actions).mean(), actions


def explore(cfg: TD3Config, policy: Actor, action: Vector, noise: Vector) -> Vector:
    """The action plus Gaussian noise; collecting clips it to the action bounds."""
    return action + cfg.actor.exploration_noise * noise


ALGORITHM = Algorithm(
    name="td3",
    title="Twin Delayed DDPG: a deterministic tanh policy with smoothed, delayed targets",
    config=TD3Config,
    init=init,
    update=update,
    policy=lambda state: state.actor.params,
    noise=lambda cfg, policy: (0,),
    draw=lambda cfg, policy, s, noise: policy(s),
    explore=explore,
    native=lambda cfg: ActionMode(noise_free=True),
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@inproceedings{fujimoto2018td3,
  title     = {Addressing Function Approximation Error in Actor-Critic Methods},
  author    = {Fujimoto, Scott and van Hoof, Herke and Meger, David},
  booktitle = {International Conference on Machine Learning},
  year      = {2018}
}""",
)
