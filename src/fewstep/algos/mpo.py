"""MPO: Maximum a Posteriori Policy Optimisation (Abdolmaleki et al. 2018, arXiv 1806.06920, 1812.02256).

A Gaussian policy is fitted to samples of its target policy, an older copy, weighted by their values:

    E-step:  w_k = softmax_k(Q(s, a_k) / eta), a_k ~ pi_target,  eta the minimiser of
             eta (epsilon + E_s log mean_k exp(Q(s, a_k) / eta)),
    M-step:  the maximum of E_s sum_k w_k log pi(a_k|s) under E_s KL(pi_target || pi) <= epsilon,

the KL apart for means and for standard deviations, and for every action dimension. docs/algorithms/mpo.md
holds the mathematics and the sources of the presets.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import clipped_gaussian as cg
from fewstep.algos.shared.clipped_gaussian import KL, ClippedPolicy, Gaussian, GaussianConfig, Moments
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.activations import inverse_softplus
from fewstep.nets.trained import AdamConfig, Trained, copied, descend, periodic
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Weights = Float[Array, "batch K"]

DUAL_MIN = -18.0
"""Lower end of a multiplier before its softplus, which is 1.5e-8 there: further down it could not return."""


@dataclass(frozen=True)
class ActorConfig(GaussianConfig):
    """The policy network, Adam on it, and how often it is updated.

    Attributes:
        delay: one policy update per this many critic updates.
        period: policy updates on one target policy.
    """

    max_grad_norm: NonNegative = 40.0
    delay: Count = 1
    period: Count = 100


@dataclass(frozen=True)
class ImprovementConfig(Section):
    """The samples of the E-step, and the bounds of both steps, which hold for the mean over states.

    Attributes:
        samples: K, actions of the target policy in every state, two or more; those of the critics' target,
            too.
        epsilon: bound of the E-step, KL of the weighted samples from the target policy, nats.
        epsilon_mean: bound of the M-step, KL of Gaussians that differ in their means, nats per dimension.
        epsilon_std: the same for their standard deviations.
        epsilon_penalty: bound, like ``epsilon``, of a second E-step, whose value is minus the distance to the
            box [-1, 1]; its weights are added (MO-MPO, arXiv 2005.07513). 0: there is none.
    """

    samples: Annotated[int, Range(2)] = 20
    epsilon: Positive = 0.1
    epsilon_mean: Positive = 0.01
    epsilon_std: Positive = 1e-6
    epsilon_penalty: NonNegative = 0.001

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The bound of every objective of the E-step."""
        return (self.epsilon, self.epsilon_penalty) if self.epsilon_penalty else (self.epsilon,)


@dataclass(frozen=True)
class DualConfig(AdamConfig):
    """The multipliers of the bounds, and Adam on them.

    Attributes:
        initial_temperature: eta at the start, in units of Q; that of the penalty, in units of the action.
        initial_mean: weight of the means' KL in the M-step at the start.
        initial_std: weight of the standard deviations' KL in the M-step at the start.
    """

    learning_rate: Positive = 1e-2
    max_grad_norm: NonNegative = 40.0
    initial_temperature: Positive = 10.0
    initial_mean: Positive = 10.0
    initial_std: Positive = 1000.0


@dataclass(frozen=True)
class MPOConfig(Section):
    """All of MPO.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    improvement: ImprovementConfig = field(default_factory=ImprovementConfig)
    dual: DualConfig = field(default_factory=DualConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            ensemble=1,
            trunk="layernorm",
            hidden=(256, 256, 256),
            activation="silu",
            max_grad_norm=40.0,
            tau=1.0,
            target_delay=100,
        )
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class Duals(eqx.Module):
    """The multipliers of the bounds; trained before a softplus.

    Attributes:
        temperature: eta of every objective of the E-step.
        mean: weight of the means' KL, by action dimension.
        std: weight of the standard deviations' KL, by action dimension.
    """

    temperature: Float[Array, "objectives"]
    mean: Vector
    std: Vector

    @staticmethod
    def create(cfg: MPOConfig, act_size: int) -> "Duals":
        """What the softplus makes the initial values of ``cfg.dual`` of."""
        sizes = (len(cfg.improvement.epsilons), act_size, act_size)
        values = (cfg.dual.initial_temperature, cfg.dual.initial_mean, cfg.dual.initial_std)
        return Duals(*(jnp.full(n, inverse_softplus(x)) for n, x in zip(sizes, values, strict=True)))

    @property
    def positive(self) -> "Duals":
        """The multipliers themselves."""
        return jax.tree.map(jax.nn.softplus, self)


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the target policy, a copy of the actor's, taken at every ``actor.period``-th policy
    update. ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one;
    ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[Gaussian]
    target_actor: Gaussian
    duals: Trained[Duals]
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: MPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; the target policy starts as a copy."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = Gaussian.create(k_actor, spec, cfg.actor)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        duals=Trained.start(cfg.dual, Duals.create(cfg, spec.act_size)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: MPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma mean_k Q(s', a_k), a_k ~ pi_target; then the policy, by the target Q."""
    target = jax.vmap(state.target_actor)(batch.next_obs)
    nxt = cg.draw_rows(target, cfg.improvement.samples, use_key(state, Use.NEXT_ACTION))
    nxt = jnp.clip(nxt, -1.0, 1.0)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.target_q(cfg.critic), batch.obs),
    )
    return state, metrics | held


def improve(cfg: MPOConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """One step of the actor and one of the multipliers; the target policy follows when its time is over.

    ``q`` may be any function of (state, action in the box); ``update`` passes the target critics.
    """
    bounds, duals = cfg.improvement, state.duals.params.positive
    target = jax.vmap(state.target_actor)(obs)
    actions = cg.draw_rows(target, bounds.samples, use_key(state, Use.ACTION))
    inside = jnp.clip(actions, -1.0, 1.0)
    values = jax.vmap(lambda s, each: jax.vmap(lambda a: q(s, a))(each))(obs, inside)[None]
    if bounds.epsilon_penalty:
        values = jnp.concatenate([values, -jnp.linalg.norm(actions - inside, axis=-1)[None]])
    weight = jax.vmap(weights)(values, duals.temperature)

    fit = (duals, target, obs, actions, weight.sum(axis=0))
    actor, loss, kl = descend(cfg.actor, state.actor, actor_loss, *fit)
    dual, _, _ = descend(cfg.dual, state.duals, dual_loss, bounds, values, kl)
    dual = replace(dual, params=jax.tree.map(lambda x: jnp.maximum(x, DUAL_MIN), dual.params))
    done = state.updates // cfg.actor.delay + 1
    target_actor = periodic(state.target_actor, actor.params, done, cfg.actor.period)
    metrics = {
        "actor/loss": loss,
        "actor/kl_mean": kl.mean.mean(),
        "actor/kl_std": kl.std.mean(),
        "actor/kl_weights": jax.vmap(weights_kl)(weight[0]).mean(),
        "dual/temperature": duals.temperature[0],
        "dual/mean": duals.mean.mean(),
        "dual/std": duals.std.mean(),
        "policy/log_std": target[1].mean(),
        "policy/outside_share": jnp.mean(actions != inside),
    }
    if bounds.epsilon_penalty:
        metrics["dual/penalty_temperature"] = duals.temperature[1]
    return replace(state, actor=actor, duals=dual, target_actor=target_actor), metrics


def weights(values: Float[Array, "*batch K"], temperature: Scalar) -> Float[Array, "*batch K"]:
    """softmax_k(Q_k / eta): the samples' shares in the policy that the M-step fits."""
    return jax.nn.softmax(values / temperature)


def weights_kl(weight: Float[Array, "K"]) -> Scalar:
    """KL of weights that add up to 1 from equal ones, nats."""
    return xlogy(weight, weight * weight.shape[0]).sum()


def temperature_loss(temperature: Scalar, values: Float[Array, "K"], epsilon: Scalar | float) -> Scalar:
    """eta (epsilon + log mean_k exp(Q_k / eta)), the E-step's dual function. Differentiates: temperature.

    Its slope is epsilon - KL(weights from equal ones). Abdolmaleki et al. 2018 (arXiv 1806.06920).
    """
    return temperature * (epsilon + logsumexp(values / temperature) - jnp.log(values.shape[0]))


def actor_loss(
    actor: Gaussian,
    duals: Duals,
    target: tuple[ActRows, ActRows],
    obs: ObsRows,
    actions: Float[Array, "batch K act"],
    weight: Weights,
) -> tuple[Scalar, KL]:
    """The M-step's Lagrangian, and the KL by dimension, batch means. Differentiates: actor.

    Decoupled, likelihood and KL alike: means learn beside the target's deviations, deviations beside its
    means (Abdolmaleki et al. 2018, arXiv 1812.02256).
    """

    def fit(old: Moments, new: Moments, a: Vector) -> Scalar:
        return cg.log_density(a, new[0], old[1]) + cg.log_density(a, old[0], new[1])

    new = jax.vmap(actor)(obs)
    by_sample = jax.vmap(jax.vmap(fit, in_axes=(None, None, 0)))(target, new, actions)
    kl = jax.tree.map(lambda x: x.mean(axis=0), jax.vmap(cg.decoupled_kl)(target, new))
    return duals.mean @ kl.mean + duals.std @ kl.std - jnp.sum(weight * by_sample, axis=1).mean(), kl


def dual_loss(
    duals: Duals, cfg: ImprovementConfig, values: Float[Array, "objectives batch K"], kl: KL
) -> tuple[Scalar, None]:
    """The dual functions of all bounds: descending them raises a multiplier whose bound is exceeded.

    Differentiates: duals.
    """
    at = duals.positive
    total = at.mean @ (cfg.epsilon_mean - kl.mean) + at.std @ (cfg.epsilon_std - kl.std)
    of_states = jax.vmap(temperature_loss, in_axes=(None, 0, None))
    for eta, each, epsilon in zip(at.temperature, values, cfg.epsilons, strict=True):
        total += of_states(eta, each, epsilon).mean()
    return total, None


ALGORITHM = Algorithm(
    name="mpo",
    title="Maximum a Posteriori Policy Optimisation: a Gaussian fits its weighted samples under KL bounds",
    config=MPOConfig,
    init=init,
    update=update,
    policy=lambda state: ClippedPolicy(state.actor.params, state.critics.target_ensemble),
    noise=cg.noise_shape,
    draw=cg.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    tiny={"actor.hidden": (16, 16), "improvement.samples": 3, "critic.hidden": (16, 16)},
    citation="""@inproceedings{abdolmaleki2018mpo,
  title     = {Maximum a Posteriori Policy Optimisation},
  author    = {Abdolmaleki, Abbas and Springenberg, Jost Tobias and Tassa, Yuval and Munos, Remi and
               Heess, Nicolas and Riedmiller, Martin},
  booktitle = {International Conference on Learning Representations},
  year      = {2018}
}""",
)
