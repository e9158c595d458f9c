"""CrossQ (arXiv 1902.05605): SAC with batch renormalisation in actor and critics, and no target networks.

docs/algorithms/crossq.md holds the mathematics and the sources of the presets.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.algos.shared.delay import delayed, with_held
from fewstep.algos.shared.tanh_gaussian import GaussianPolicy
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Section, Share, ShareBelowOne, Sizes, Whole
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.activations import Activation
from fewstep.nets.renorm import Form, RenormConfig, RenormMLP, Stats
from fewstep.nets.trained import AdamConfig, Trained, descend
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Range of log sigma before the squashing; no gradient flows beyond its ends."""


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The policy network, Adam on it, and how often it is updated.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them, before each normalisation.
        delay: one policy update per this many critic updates.
        momentum, warm_up: of the running statistics; policy updates with plain batch statistics before the
            renormalisation sets in.
        renorm: form of its correction, see ``nets.renorm.RenormConfig``.
    """

    hidden: Sizes = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 1e-3
    b1: float = 0.5
    delay: Count = 3
    momentum: ShareBelowOne = 0.99
    warm_up: Whole = 100_000
    renorm: Form = "ioffe"


@dataclass(frozen=True)
class CrossQConfig(Section):
    """All of CrossQ.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="crossq", target="none", hidden=(2048, 2048), learning_rate=1e-3, b1=0.5
        )
    )
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(
            initial=1.0, target_entropy_per_dim=-1.0, learning_rate=1e-3
        )
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class RenormGaussian(eqx.Module):
    """A tanh-Gaussian whose inputs and hidden layers are batch renormalised.

    ``net`` is trained, ``stats`` are its running statistics of states.
    """

    net: RenormMLP
    stats: tuple[Stats, ...]

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0] // 2

    def __call__(self, s: Obs) -> tuple[Vector, Vector]:
        """``(mean, log_std)`` at one state by the running statistics, which stay as they are."""
        mean, log_std = jnp.split(self.net(self.stats, s), 2)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``stats`` are the actor's running statistics; ``held`` are the metrics of the last policy update, repeated
    while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[RenormMLP]
    stats: tuple[Stats, ...]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Metrics

    @property
    def evaluated(self) -> RenormGaussian:
        """The actor in evaluation mode."""
        return RenormGaussian(self.actor.params, self.stats)


def init(cfg: CrossQConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters and empty statistics for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    a = cfg.actor
    renorm = RenormConfig(momentum=a.momentum, warm_up=a.warm_up, form=a.renorm)
    sizes = (spec.obs_size, a.hidden, 2 * spec.act_size)
    net = RenormMLP.create(k_actor, *sizes, cfg=renorm, activation=a.activation)
    state = State(
        actor=Trained.start(a, net),
        stats=net.empty_stats(),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held={},
    )
    one = jnp.zeros((1, spec.obs_size))
    return with_held(state, lambda st: improve(cfg, st, st.critics.q(cfg.critic), one))


def update(cfg: CrossQConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - alpha log pi(a'|s')), a' ~ pi; then the policy with them.

    a' comes from the actor in evaluation mode: the batch of successors leaves no trace in its statistics.
    """
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    actor = state.evaluated
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(actor, s, e))(batch.next_obs, noise)
    bonus = -state.temperature.alpha * nxt.log_prob
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt.action, bonus)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs),
    )
    return state, metrics | held


def improve(cfg: CrossQConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor and its statistics up Q - alpha log pi; then the temperature, by the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    act_size = state.evaluated.act_size
    noise = jax.random.normal(use_key(state, Use.ACTION), (obs.shape[0], act_size))
    actor, loss, seen = descend(
        cfg.actor, state.actor, actor_loss, state.stats, q, state.temperature.alpha, obs, noise
    )
    temperature, metrics = state.temperature.adjusted(cfg.temperature, seen.entropy, act_size)
    metrics |= {"actor/loss": loss, "actor/q": seen.q, "policy/entropy": seen.entropy}
    return replace(state, actor=actor, stats=seen.stats, temperature=temperature), metrics


class Improvement(NamedTuple):
    """What the actor's loss gives beside its value: mean Q, entropy in nats, and the new statistics."""

    q: Scalar
    entropy: Scalar
    stats: tuple[Stats, ...]


def actor_loss(
    net: RenormMLP, stats: tuple[Stats, ...], q: QFunction, alpha: Scalar, obs: ObsRows, noise: ActRows
) -> tuple[Scalar, Improvement]:
    """E[alpha log pi(a|s) - Q(s, a)] with a = a(s, noise). Differentiates: net, pathwise.

    ``net`` is in training mode: gradients pass through the batch's statistics. ``q`` is in evaluation mode.
    """
    out, stats = net.train(stats, obs)
    mean, log_std = jnp.split(out, 2, axis=1)
    drawn = jax.vmap(tanh_gaussian.squash)(mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX), noise)
    value, log_prob = jax.vmap(q)(obs, drawn.action).mean(), drawn.log_prob.mean()
    return alpha * log_prob - value, Improvement(value, -log_prob, stats)


ALGORITHM = Algorithm(
    name="crossq",
    title="CrossQ: SAC with batch renormalisation, wide critics and no target networks",
    config=CrossQConfig,
    init=init,
    update=update,
    policy=lambda state: GaussianPolicy(state.evaluated, state.critics.target_ensemble),
    noise=tanh_gaussian.noise_shape,
    draw=tanh_gaussian.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@inproceedings{bhatt2024crossq,
  title     = {{CrossQ}: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency and
               Simplicity},
  author    = {Bhatt, Aditya and Palenicek, Daniel and Belousov, Boris and Argus, Max and
               Amiranashvili, Artemij and Brox, Thomas and Peters, Jan},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}""",
)
