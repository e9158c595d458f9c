"""PPO's training state and one update: from a rollout to new networks and statistics."""

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import Metrics, use_key
from fewstep.algos.ppo import losses
from fewstep.algos.ppo.advantages import gae
from fewstep.algos.ppo.config import CriticConfig, PPOConfig
from fewstep.algos.ppo.losses import Networks, Samples
from fewstep.algos.ppo.normalise import running_returns, scale_reward
from fewstep.algos.ppo.policy import Actor, Policy, normalised
from fewstep.algos.shared.moments import Moments, observe
from fewstep.errors import require
from fewstep.nets.mlp import MLP
from fewstep.nets.trained import Trained
from fewstep.types import Rollout, Spec

LAST_EPOCH = ("actor/approx_kl", "actor/clipped_share")
"""Metrics that say how far the policy has gone from the one that collected: taken from the last pass."""

Scalar = Float[Array, ""]


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    SHUFFLE = 1


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``obs_moments`` are over all observations acted on, ``return_moments`` over the running returns of all
    rewards; with normalisation off they stay as they began. ``key`` is constant, ``updates`` counts rollouts.
    """

    networks: Trained[Networks]
    obs_moments: Moments
    return_moments: Moments
    key: PRNGKeyArray
    updates: Int[Array, ""]


def _critic(key: PRNGKeyArray, spec: Spec, cfg: CriticConfig) -> MLP:
    return MLP.create(
        key,
        spec.obs_size,
        cfg.hidden,
        1,
        init="orthogonal_sqrt2",
        head_init="orthogonal",
        activation=cfg.activation,
        norm=False,
    )


def init(cfg: PPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh networks for an environment of these sizes, and statistics of nothing."""
    k_actor, k_critic = jax.random.split(jax.random.fold_in(key, Use.INIT))
    networks = Networks(Actor.create(k_actor, spec, cfg.actor), _critic(k_critic, spec, cfg.critic))
    return State(
        networks=Trained.start(cfg.optimiser, networks),
        obs_moments=Moments.create(spec.obs_size),
        return_moments=Moments.create(),
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy(state: State) -> Policy:
    """The part of the state that acts."""
    return Policy(state.networks.params.actor, state.obs_moments)


def see(cfg: PPOConfig, state: State, rollout: Rollout) -> State:
    """The state with its statistics brought up to the rollout; networks as they are."""
    obs, returns = state.obs_moments, state.return_moments
    if cfg.normalise.obs:
        obs = observe(obs, rollout.obs.reshape(-1, rollout.obs.shape[-1]))
    if cfg.normalise.reward:
        ended = rollout.terminated | rollout.truncated
        one_environment = partial(running_returns, discount=cfg.discount)
        running = jax.vmap(one_environment, in_axes=1, out_axes=1)(rollout.reward, ended)
        returns = observe(returns, running.reshape(-1))
    return replace(state, obs_moments=obs, return_moments=returns)


def _each(f: Callable[..., Array]) -> Callable[..., Array]:
    """``f`` of one step, over all ``[T, N]``."""
    return jax.vmap(jax.vmap(f))


def samples(cfg: PPOConfig, state: State, rollout: Rollout) -> tuple[State, Samples]:
    """The rollout as ``[T * N]`` rows for the epochs, and the state with its new statistics.

    The policy is its network and its statistics together. So ``log_prob`` is of the policy that collected,
    under the statistics it had, while everything that is fitted sees the new ones, under which the next
    rollout is collected.
    """
    before, state = state, see(cfg, state, rollout)

    def drawn(s: Array, a: Array) -> Scalar:
        return before.networks.params.actor.log_prob(normalised(cfg, before.obs_moments, s), a)

    def seen(s: Array) -> Array:
        return normalised(cfg, state.obs_moments, s)

    def value(s: Array) -> Scalar:
        return state.networks.params.value(seen(s))

    reward = rollout.reward
    if cfg.normalise.reward:
        reward = scale_reward(state.return_moments, reward, cfg.normalise.reward_clip)
    values = _each(value)(rollout.obs)
    one_environment = partial(gae, discount=cfg.discount, gae_lambda=cfg.gae_lambda)
    advantages = jax.vmap(one_environment, in_axes=1, out_axes=1)(
        reward, values, _each(value)(rollout.next_obs), rollout.terminated, rollout.truncated
    )
    rows = Samples(
        obs=_each(seen)(rollout.obs),
        action=rollout.action,
        log_prob=_each(drawn)(rollout.obs, rollout.action),
        value=values,
        advantage=advantages,
        target=values + advantages,
    )
    return state, Samples(*(field.reshape(-1, *field.shape[2:]) for field in rows))


def fit(
    cfg: PPOConfig, networks: Trained[Networks], rows: Samples, key: PRNGKeyArray, updates: Int[Array, ""]
) -> tuple[Trained[Networks], Metrics]:
    """All epochs and minibatches; every epoch shuffles anew, each row is in one minibatch of it.

    ``updates`` are the rollouts before this one, which the learning rate decays by. Metrics come as
    ``[epochs, minibatches]``.
    """
    count = len(rows.value)
    require(
        count % cfg.rollout.minibatches == 0,
        f"rollout.minibatches ({cfg.rollout.minibatches}) must divide rollout.steps x training.envs, "
        f"which is {count}",
    )

    def step(networks: Trained[Networks], chosen: Int[Array, "size"]) -> tuple[Trained[Networks], Metrics]:
        minibatch = Samples(*(field[chosen] for field in rows))
        grads, metrics = jax.grad(losses.loss, has_aux=True)(networks.params, cfg, minibatch)
        metrics["optimiser/gradient_norm"] = optax.tree.norm(grads)
        return networks.step(cfg.optimiser, grads, updates), metrics

    def epoch(networks: Trained[Networks], number: Int[Array, ""]) -> tuple[Trained[Networks], Metrics]:
        order = jax.random.permutation(jax.random.fold_in(key, number), count)
        return lax.scan(step, networks, order.reshape(cfg.rollout.minibatches, -1))

    return lax.scan(epoch, networks, jnp.arange(cfg.rollout.epochs))


def update(cfg: PPOConfig, state: State, rollout: Rollout) -> tuple[State, Metrics]:
    """One update on one rollout: statistics, advantages, all epochs."""
    state, rows = samples(cfg, state, rollout)
    networks, each = fit(cfg, state.networks, rows, use_key(state, Use.SHUFFLE), state.updates)
    metrics = {name: (values[-1] if name in LAST_EPOCH else values).mean() for name, values in each.items()}
    metrics |= {
        "critic/explained_variance": losses.explained_variance(rows.value, rows.target),
        "critic/v_mean": rows.value.mean(),
        "policy/log_std": networks.params.actor.log_std.mean(),
        "policy/outside_share": jnp.mean(jnp.abs(rows.action) > 1.0, dtype=jnp.float32),
        "optimiser/learning_rate": jnp.float32(cfg.optimiser.rate(state.updates)),
        "normalise/reward_std": state.return_moments.std,
    }
    return replace(state, networks=networks, updates=state.updates + 1), metrics
