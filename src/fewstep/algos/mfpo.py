"""MFPO: Mean Flow Policy Optimization (arXiv 2604.14698).

Maximum-entropy reinforcement learning with a two-step MeanFlow policy. Read top to bottom: how an action and its log-density are
made, how the critics learn, how the velocity of the Boltzmann policy exp(Q / alpha) / Z is estimated, how the policy and its
average divergence are regressed on it, how the temperature follows. Every function works on one state unless it says batch.
docs/algorithms/mfpo.md holds the mathematics and each departure from the authors' code.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics
from fewstep.algos.mfpo_config import MFPOConfig
from fewstep.critics import categorical
from fewstep.errors import require
from fewstep.flows import bounds, divergence, meanflow, velocity
from fewstep.flows.times import TimeRows, sample_times
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.mlp import MLP
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Critics = tuple[MLP, MLP]
QFunction = Callable[[Obs, Vector], Scalar]

EXACT_LOG_PROB_LIMIT = 8
"""Largest action size for ``divergence.log_prob = "exact"``: its cost grows with the action size."""


class Use(IntEnum):
    """What a random key is used for; keys are addressed by (use, update), never threaded. Append only: the order is part of a run."""

    INIT = 0
    CRITIC_ACTION = 1
    ACTOR_TIMES = 2
    CANDIDATES = 3
    DIVERGENCE_TIMES = 4
    DIVERGENCE_NOISE = 5
    PROBES = 6


class Optimisers(eqx.Module):
    """Adam states of the four groups of parameters."""

    actor: optax.OptState
    divergence: optax.OptState
    critics: optax.OptState
    temperature: optax.OptState


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``actor`` and ``divergence`` are u and d of the paper; ``target_critics`` are Polyak averages of ``critics`` (there is no target actor);
    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates``
    counts calls of ``update``.
    """

    actor: FlowNet
    divergence: FlowNet
    critics: Critics
    target_critics: Critics
    log_alpha: Scalar
    optimisers: Optimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]


class Policy(eqx.Module):
    """What acts: the flow, and the critics that choose among candidates."""

    actor: FlowNet
    critics: Critics


def init(cfg: MFPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target critics start as copies."""
    require(
        cfg.divergence.log_prob == "averaged" or spec.act_size <= EXACT_LOG_PROB_LIMIT,
        f"divergence.log_prob = 'exact' is for at most {EXACT_LOG_PROB_LIMIT} action dimensions, "
        f"this environment has {spec.act_size}; use 'averaged'",
    )
    k_actor, k_div, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 4)

    def flow_net(k: PRNGKeyArray, outputs: int) -> FlowNet:
        a = cfg.actor
        return FlowNet.create(k, spec.obs_size, spec.act_size, outputs, a.hidden, a.time_features, a.time_embed)

    def critic(k: PRNGKeyArray) -> MLP:
        c = cfg.critic
        return MLP.create(k, spec.obs_size + spec.act_size, c.hidden, c.atoms, head_init=c.head_init)

    actor, div, critics = flow_net(k_actor, spec.act_size), flow_net(k_div, 1), (critic(k_q1), critic(k_q2))
    log_alpha = jnp.log(jnp.float32(cfg.temperature.initial))
    adam = optimisers(cfg)
    return State(
        actor=actor,
        divergence=div,
        critics=critics,
        # Copies, not aliases: the update donates its input and may not be given one buffer twice.
        target_critics=jax.tree.map(jnp.copy, critics),
        log_alpha=log_alpha,
        optimisers=Optimisers(
            adam.actor.init(actor), adam.divergence.init(div), adam.critics.init(critics), adam.temperature.init(log_alpha)
        ),
        held={name: jnp.float32(0.0) for name in policy_metrics(cfg)},
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy_metrics(cfg: MFPOConfig) -> list[str]:
    """Names of the scalars that ``improve_policy`` returns under this config."""
    names = ["actor/loss", "actor/velocity_norm", "policy/entropy", "policy/clipped_share", "policy/candidate_q_gap"]
    names += ["temperature/alpha", "snis/ess_policy", "snis/ess_gaussian", "snis/rho"]
    names += ["divergence/loss", "divergence/target_mean"] if cfg.divergence.log_prob == "averaged" else []
    return names + (["temperature/loss"] if cfg.temperature.automatic else [])


class Adams(NamedTuple):
    """The four optimisers of a config."""

    actor: optax.GradientTransformation
    divergence: optax.GradientTransformation
    critics: optax.GradientTransformation
    temperature: optax.GradientTransformation


def optimisers(cfg: MFPOConfig) -> Adams:
    """Plain Adam for each group; no clipping, no schedule."""
    sections = (cfg.actor, cfg.divergence, cfg.critic, cfg.temperature)
    return Adams(*(optax.adam(section.learning_rate) for section in sections))


# ---------------------------------------------------------------------------------------------------------- the policy


class Draw(NamedTuple):
    """An action with its origin: the flow's end point ``z``, ``action`` in the box, log-density of the action in nats."""

    z: Vector
    action: Vector
    log_prob: Scalar


def average_velocity(actor: FlowNet, s: Obs) -> meanflow.AverageVelocity:
    """u(x, r, t) at the state ``s``."""
    return lambda x, r, t: actor(s, x, r, t)


def average_divergence(div: FlowNet, s: Obs) -> meanflow.AverageDivergence:
    """d(x, r, t) at the state ``s``."""
    return lambda x, r, t: div(s, x, r, t)[0]


def draw(cfg: MFPOConfig, actor: FlowNet, div: FlowNet, s: Obs, noise: Vector) -> Draw:
    """Run the T-step sampler from ``noise`` and account for the density on the way."""
    u = average_velocity(actor, s)
    if cfg.divergence.log_prob == "exact":
        z, log_prob = meanflow.exact_log_prob(u, noise, cfg.actor.steps)
    else:
        z, log_prob = meanflow.sample_with_log_prob(u, average_divergence(div, s), noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def log_prob_oracle(cfg: MFPOConfig, actor: FlowNet, s: Obs, noise: Vector) -> Draw:
    """``draw`` with the exact log-density of the T-step map, whatever the config trains with (``act`` JVPs)."""
    z, log_prob = meanflow.exact_log_prob(average_velocity(actor, s), noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def q_value(cfg: MFPOConfig, critics: Critics) -> QFunction:
    """The value candidates are judged by: twin expectations combined by ``critic.twin``."""
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)

    def q(s: Obs, a: Vector) -> Scalar:
        first, second = (categorical.expected_value(critic(s, a), z) for critic in critics)
        return categorical.combine_values(first, second, cfg.critic.twin)

    return q


# --------------------------------------------------------------------------------------------------------- the critics


def critic_target(
    cfg: MFPOConfig, targets: Critics, alpha: Scalar, step: Transition, nxt: Draw
) -> tuple[Float[Array, "atoms"], Scalar]:
    """The distribution both critics regress on, and the share of its mass that fell off the support."""
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)
    log_prob = nxt.log_prob if cfg.critic.entropy_in_target else jnp.zeros(())
    values = categorical.soft_atoms(z, step.reward, step.terminated, cfg.discount, alpha, log_prob)
    first, second = (jax.nn.softmax(critic(step.next_obs, nxt.action)) for critic in targets)
    target = categorical.combine_targets(
        categorical.project(first, values, z), categorical.project(second, values, z), z, cfg.critic.twin
    )
    saturated = 0.5 * (
        categorical.saturated_share(first, values, z) + categorical.saturated_share(second, values, z)
    )
    return target, saturated


def critic_loss(critics: Critics, batch: Transition, targets: Float[Array, "batch atoms"]) -> Scalar:
    """Sum over the twins of the batch-mean cross-entropy. Differentiates: critics."""

    def loss(obs: Obs, action: Vector, target: Float[Array, "atoms"]) -> Scalar:
        first, second = (categorical.cross_entropy(target, critic(obs, action)) for critic in critics)
        return first + second

    return jax.vmap(loss)(batch.obs, batch.action, targets).mean()


# ------------------------------------------------------------------------------------------------ the target velocity


class Estimate(NamedTuple):
    """One state's velocity estimate ``v`` at (x, t) with what it was made from (see ``estimate_velocity``)."""

    x: Vector
    v: Vector
    anchor: Vector
    log_prob: Float[Array, "K1"]
    ess_policy: Scalar
    ess_gaussian: Scalar
    rho: Scalar
    clipped: Scalar
    q_gap: Scalar


def estimate_velocity(
    cfg: MFPOConfig, actor: FlowNet, div: FlowNet, q: QFunction, alpha: Scalar, s: Obs, t: Scalar, key: PRNGKeyArray
) -> Estimate:
    """Velocity at time ``t`` of the flow towards exp(Q(s, .) / alpha) / Z, at a noised sample of the current policy.

    K1 policy samples and K2 Gaussian proposals each give a self-normalised estimate; the two are mixed by effective sample size.
    The noised sample (``anchor``) stays among the K1: without it the policy's estimate is far worse at small t. Nothing here
    is differentiated.
    """
    k_policy, k_noise, k_gauss = jax.random.split(key, 3)
    act_size = actor.body.head.bias.shape[0]
    noise = jax.random.normal(k_policy, (cfg.proposals.policy, act_size))
    draws = jax.vmap(lambda e: draw(cfg, actor, div, s, e))(noise)
    # The space the flow lives in: the box itself when clipping, the whole space below tanh.
    points = draws.action if cfg.actor.bound == "clip" else draws.z
    x = meanflow.interpolate(points[0], jax.random.normal(k_noise, (act_size,)), t)

    t_in = jnp.clip(t, cfg.times.clamp, 1.0 - cfg.times.clamp)
    if cfg.actor.bound == "clip":
        proposals = velocity.gaussian_in_box(k_gauss, x, t_in, cfg.proposals.gaussian)
        base = jnp.zeros(cfg.proposals.gaussian)
    else:
        proposals, log_prior = velocity.gaussian_with_prior(k_gauss, x, t_in, cfg.proposals.gaussian)
        base = bounds.log_det(cfg.actor.bound, proposals) - log_prior

    candidates = jnp.concatenate([draws.action, bounds.to_action(cfg.actor.bound, proposals)])
    values = jax.vmap(lambda a: q(s, a))(candidates)
    q_policy, q_gauss = values[: cfg.proposals.policy], values[cfg.proposals.policy :]
    log_w = velocity.policy_log_weights(q_policy / alpha, draws.log_prob, points, x, t_in)
    v_p, ess_p = velocity.snis_velocity(log_w, points, x, t_in)
    v_g, ess_g = velocity.snis_velocity(q_gauss / alpha + base, proposals, x, t_in)
    v, rho = velocity.mix_by_ess(v_p, ess_p, v_g, ess_g)
    return Estimate(
        x=x,
        v=v,
        anchor=points[0],
        log_prob=draws.log_prob,
        ess_policy=ess_p,
        ess_gaussian=ess_g,
        rho=rho,
        clipped=jnp.mean(jnp.abs(draws.z) > 1.0),
        q_gap=q_policy.max() - q_policy.mean(),
    )


# ---------------------------------------------------------------------------------------- the two MeanFlow regressions


def actor_loss(
    actor: FlowNet,
    equal: int,
    obs: Float[Array, "batch obs"],
    x: Float[Array, "batch act"],
    v: Float[Array, "batch act"],
    r: Float[Array, "batch"],
    t: Float[Array, "batch"],
) -> Scalar:
    """Mean squared MeanFlow residual over batch and action. Differentiates: actor.

    In the first ``equal`` rows r = t, where the target is ``v`` and the JVP of the identity would be multiplied by zero.
    """
    value = jax.vmap(actor)(obs[:equal], x[:equal], r[:equal], t[:equal])
    apart, target = jax.vmap(
        lambda s, x, r, t, v: meanflow.meanflow_target(average_velocity(actor, s), x, r, t, v)
    )(obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:])
    squares = jnp.sum((value - v[:equal]) ** 2) + jnp.sum((apart - target) ** 2)
    return squares / v.size


def divergence_loss(
    div: FlowNet,
    actor: FlowNet,
    equal: int,
    obs: Float[Array, "batch obs"],
    x: Float[Array, "batch act"],
    probes: Float[Array, "batch probes act"],
    r: Float[Array, "batch"],
    t: Float[Array, "batch"],
) -> tuple[Scalar, Scalar]:
    """Mean squared residual of the average divergence, and the mean divergence. Differentiates: div (not actor)."""
    v, trace = jax.vmap(
        lambda s, x, t, e: divergence.hutchinson(lambda y: actor(s, y, t, t), x, e)
    )(obs, x, t, probes)
    v, trace = lax.stop_gradient((v, trace))
    value = jax.vmap(lambda s, x, r, t: average_divergence(div, s)(x, r, t))(
        obs[:equal], x[:equal], r[:equal], t[:equal]
    )
    apart, target = jax.vmap(
        lambda s, x, r, t, v, tr: divergence.average_divergence_target(average_divergence(div, s), x, r, t, v, tr)
    )(obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:], trace[equal:])
    squares = jnp.sum((value - trace[:equal]) ** 2) + jnp.sum((apart - target) ** 2)
    return squares / trace.size, trace.mean()


def temperature_loss(log_alpha: Scalar, entropy: Scalar, target_entropy: float) -> Scalar:
    """alpha (H - H_target): its gradient raises alpha when the entropy is below target. Differentiates: log_alpha."""
    return jnp.exp(log_alpha) * (entropy - target_entropy)


# ---------------------------------------------------------------------------------------------------------- the update


def _key(state: State, use: Use) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.fold_in(state.key, use), state.updates)


def _set(state: State, **fields: object) -> State:
    names = list(fields)
    return eqx.tree_at(lambda st: [getattr(st, n) for n in names], state, list(fields.values()))


def update_critics(cfg: MFPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics on the soft target, then the targets follow at once."""
    alpha = jnp.exp(state.log_alpha)
    noise = jax.random.normal(_key(state, Use.CRITIC_ACTION), batch.action.shape)

    def target(step: Transition, e: Vector) -> tuple[Array, Scalar]:
        nxt = draw(cfg, state.actor, state.divergence, step.next_obs, e)
        return critic_target(cfg, state.target_critics, alpha, step, nxt)

    targets, saturated = jax.vmap(target)(batch, noise)
    loss, grads = jax.value_and_grad(critic_loss)(state.critics, batch, targets)
    steps, opt = optimisers(cfg).critics.update(grads, state.optimisers.critics)
    critics = optax.apply_updates(state.critics, steps)
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)
    values = targets @ z
    state = _set(
        state,
        critics=critics,
        target_critics=optax.incremental_update(critics, state.target_critics, cfg.critic.tau),
        optimisers=eqx.tree_at(lambda o: o.critics, state.optimisers, opt),
    )
    return state, {
        "critic/loss": loss,
        "critic/q_mean": values.mean(),
        "critic/q_std": values.std(),
        "critic/target_saturated_share": saturated.mean(),
    }


def improve_policy(
    cfg: MFPOConfig, state: State, q: QFunction, obs: Float[Array, "batch obs"]
) -> tuple[State, Metrics]:
    """Regress the flow on the Boltzmann velocity of ``q``, its divergence on the new flow, and move the temperature.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    count, alpha, adam = obs.shape[0], jnp.exp(state.log_alpha), optimisers(cfg)
    rows = TimeRows.split(count, cfg.times.equal_share, cfg.times.grid_share)
    times = {"mean": cfg.times.mean, "std": cfg.times.std, "clamp": cfg.times.clamp, "steps": cfg.actor.steps}

    r, t = sample_times(_key(state, Use.ACTOR_TIMES), rows, **times)
    found = lax.map(
        lambda row: estimate_velocity(cfg, state.actor, state.divergence, q, alpha, *row),
        (obs, t, jax.random.split(_key(state, Use.CANDIDATES), count)),
        batch_size=cfg.proposals.block or count,
    )
    a_loss, grads = jax.value_and_grad(actor_loss)(state.actor, rows.equal, obs, found.x, found.v, r, t)
    steps, opt_actor = adam.actor.update(grads, state.optimisers.actor)
    actor = optax.apply_updates(state.actor, steps)

    metrics: Metrics = {"actor/loss": a_loss, "actor/velocity_norm": jnp.linalg.norm(found.v, axis=-1).mean()}
    div, opt_div = state.divergence, state.optimisers.divergence
    if cfg.divergence.log_prob == "averaged":
        r, t = sample_times(_key(state, Use.DIVERGENCE_TIMES), rows, **times)
        noise = jax.random.normal(_key(state, Use.DIVERGENCE_NOISE), found.anchor.shape)
        x = jax.vmap(meanflow.interpolate)(found.anchor, noise, t)
        shape = (count, cfg.divergence.probes, x.shape[-1])
        draw_probes = jax.random.rademacher if cfg.divergence.probe == "rademacher" else jax.random.normal
        probes = draw_probes(_key(state, Use.PROBES), shape, jnp.float32)
        (d_loss, trace), grads = jax.value_and_grad(divergence_loss, has_aux=True)(
            div, actor, rows.equal, obs, x, probes, r, t
        )
        steps, opt_div = adam.divergence.update(grads, opt_div)
        div = optax.apply_updates(div, steps)
        metrics |= {"divergence/loss": d_loss, "divergence/target_mean": trace}

    entropy = -found.log_prob.mean()
    log_alpha, opt_alpha = state.log_alpha, state.optimisers.temperature
    if cfg.temperature.automatic:
        target = cfg.temperature.target_entropy_per_dim * found.x.shape[-1]
        t_loss, grad = jax.value_and_grad(temperature_loss)(log_alpha, entropy, target)
        step, opt_alpha = adam.temperature.update(grad, opt_alpha)
        low, high = jnp.log(cfg.temperature.minimum), jnp.log(cfg.temperature.maximum)
        log_alpha = jnp.clip(log_alpha + step, low, high)
        metrics["temperature/loss"] = t_loss

    state = _set(
        state,
        actor=actor,
        divergence=div,
        log_alpha=log_alpha,
        optimisers=Optimisers(opt_actor, opt_div, state.optimisers.critics, opt_alpha),
    )
    return state, metrics | {
        "policy/entropy": entropy,
        "policy/clipped_share": found.clipped.mean(),
        "policy/candidate_q_gap": found.q_gap.mean(),
        "temperature/alpha": alpha,
        "snis/ess_policy": found.ess_policy.mean(),
        "snis/ess_gaussian": found.ess_gaussian.mean(),
        "snis/rho": found.rho.mean(),
    }


def update(cfg: MFPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: critics and their targets, then actor, divergence and temperature with the new critics."""
    state, critic_metrics = update_critics(cfg, state, batch)
    obs = batch.obs[: cfg.actor.batch_size] if cfg.actor.batch_size else batch.obs

    def improve(st: State) -> State:
        st, metrics = improve_policy(cfg, st, q_value(cfg, st.critics), obs)
        return _set(st, held=metrics)

    if cfg.actor.delay == 1:
        state = improve(state)
    else:
        state = lax.cond(state.updates % cfg.actor.delay == 0, improve, lambda st: st, state)
    return _set(state, updates=state.updates + 1), critic_metrics | state.held


def policy(state: State) -> Policy:
    """The part of the state that acts: candidates are ranked by the target critics."""
    return Policy(state.actor, state.target_critics)


def act(
    cfg: MFPOConfig, policy: Policy, obs: Float[Array, "batch obs"], key: PRNGKeyArray, mode: ActionMode
) -> Float[Array, "batch act"]:
    """Actions in [-1, 1] for a batch: one draw, the best of N draws, or the flow of the zero noise (``mode``)."""
    act_size = policy.actor.body.head.bias.shape[0]
    q = q_value(cfg, policy.critics)
    shape = (obs.shape[0], mode.candidates, act_size)
    noise = jnp.zeros(shape) if mode.noise_free else jax.random.normal(key, shape)

    def one(s: Obs, noises: Float[Array, "N act"]) -> Vector:
        ends = jax.vmap(lambda e: meanflow.sample(average_velocity(policy.actor, s), e, cfg.actor.steps))(noises)
        actions = bounds.to_action(cfg.actor.bound, ends)
        if mode.candidates == 1:
            return actions[0]
        return actions[jnp.argmax(jax.vmap(lambda a: q(s, a))(actions))]

    return jax.vmap(one)(obs, noise)


ALGORITHM = Algorithm(
    name="mfpo",
    title="Mean Flow Policy Optimization: a two-step MeanFlow policy under maximum-entropy RL",
    config=MFPOConfig,
    init=init,
    update=update,
    policy=policy,
    act=act,
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    citation="""@article{dong2026mfpo,
  title   = {Mean Flow Policy Optimization},
  author  = {Dong, Xiaoyi and Zhang, Xi Sheryl and Cheng, Jian},
  journal = {arXiv preprint arXiv:2604.14698},
  year    = {2026}
}""",
)
