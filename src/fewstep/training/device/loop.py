"""Collecting and learning as one program: an iteration is a step of E environments and U updates.

The number of an iteration addresses its random draws, so a run does not depend on how its iterations are
divided into dispatches.
"""

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.training import compiled
from fewstep.training.device import ring
from fewstep.training.device.env import JaxEnv
from fewstep.types import Transition

SOUND = 2**31 - 1
"""In place of the iteration at which a number was not finite: none."""


class Use(IntEnum):
    """What the random key of an iteration is used for. Append only."""

    ACT = 0
    STEP = 1
    RESET = 2
    SAMPLE = 3


class Episodes(NamedTuple):
    """The running episodes of E environments, and sums over those that have ended.

    Attributes:
        envs: states of the environments, leading axis E.
        obs: ``[E, obs_size]``, what the next actions are for.
        returns, lengths: ``[E]``, of the running episodes so far.
        ended, return_sum, length_sum: number of the episodes that have ended since these were last set to
            0, and sums over them.
        largest_reward: the largest size of a reward so far.
        unsound: the first iteration at which finite actions gave a reward or an observation that is not
            finite, or ``SOUND``.
    """

    envs: Any
    obs: Float[Array, "E obs"]
    returns: Float[Array, "E"]
    lengths: Int[Array, "E"]
    ended: Int[Array, ""]
    return_sum: Float[Array, ""]
    length_sum: Float[Array, ""]
    largest_reward: Float[Array, ""]
    unsound: Int[Array, ""]


class Carry(NamedTuple):
    """All that iterations change: the algorithm's state, sums of its metrics, replay buffer, episodes."""

    state: Any
    totals: Any
    memory: Transition
    episodes: Episodes


Run = Callable[[Carry, PRNGKeyArray, int, int, int], Carry]
"""``(carry, key, began, start, stop)``: the iterations ``start`` to ``stop - 1``, with a replay buffer that
was empty at iteration ``began``. The carry is donated."""


@functools.lru_cache(maxsize=16)
def begin(env: JaxEnv, envs: int) -> Callable[[PRNGKeyArray], Episodes]:
    """``key -> Episodes``: the first episode of each environment."""

    def start(key: PRNGKeyArray) -> Episodes:
        states, obs = jax.vmap(env.reset)(jax.random.split(key, envs))
        zero = jnp.float32(0)
        nothing = jnp.zeros(envs)
        unsound = jnp.where(jnp.isfinite(obs).all(), jnp.int32(SOUND), jnp.int32(0))
        return Episodes(states, obs, nothing, jnp.zeros(envs, int), jnp.int32(0), zero, zero, zero, unsound)

    return numerics.jit(start)


@functools.lru_cache(maxsize=16)
def run(algorithm: Algorithm, cfg: Any, env: JaxEnv, envs: int) -> Run:
    """The program of a run, one for any number of iterations: how many is an argument, so that the last
    dispatch needs none of its own and a resumed run has the same."""

    def many(carry: Carry, key: PRNGKeyArray, began: Any, start: Any, stop: Any) -> Carry:
        one = iteration(algorithm, cfg, env, envs)
        return lax.fori_loop(start, stop, lambda i, now: one(now, key, began, i), carry)

    return numerics.jit(many, donate_argnums=0)


def iteration(
    algorithm: Algorithm, cfg: Any, env: JaxEnv, envs: int
) -> Callable[[Carry, PRNGKeyArray, Any, Any], Carry]:
    """``(carry, key, began, i) -> carry``: act, step, store, and learn if data is due.

    As on the host: actions are uniform in [-1, 1] until ``replay.learning_starts``, the step at which the
    first updates happen; what is stored is the action in [-1, 1] and the true successor.
    """
    replay = cfg.replay
    updates = replay.updates_per_iteration(envs)
    learn_many = compiled.updates(algorithm, cfg)

    def one(carry: Carry, key: PRNGKeyArray, began: Any, i: Any) -> Carry:
        state, totals, memory, episodes = carry
        draws = jax.random.fold_in(key, i)
        act_key, step_key, reset_key, sample_key = (jax.random.fold_in(draws, use) for use in Use)
        steps = (i + 1) * envs
        obs = episodes.obs
        action = lax.cond(
            steps < replay.learning_starts,
            lambda: jax.random.uniform(act_key, (envs, env.spec.act_size), minval=-1.0, maxval=1.0),
            lambda: algorithm.collect(cfg, algorithm.collecting(state), obs, act_key),
        )
        step = jax.vmap(env.step)(episodes.envs, action, jax.random.split(step_key, envs))
        rows = Transition(obs, action, step.reward, step.terminated, step.obs)
        memory = ring.add(memory, (i - began) * envs, rows)
        episodes = advanced(env, episodes, action, step, reset_key, i)

        def learn() -> tuple[Any, Any]:
            shape = (updates, replay.batch_size)
            added = (i + 1 - began) * envs
            # After a restart without the transitions their numbers count on, as on the host.
            first = began * envs if algorithm.numbered else None
            data = ring.sample(memory, added, sample_key, shape, first)
            return learn_many(state, totals, data)

        due = steps - began * envs >= replay.learning_starts
        state, totals = lax.cond(due, learn, lambda: (state, totals))
        return Carry(state, totals, memory, episodes)

    return one


def advanced(
    env: JaxEnv, episodes: Episodes, action: Array, step: Any, key: PRNGKeyArray, i: Any
) -> Episodes:
    """The episodes after a step of every environment; where one has ended the next has begun.

    Actions that are not finite are the policy's fault, which metrics and checkpoints find.
    """
    ended = step.terminated | step.truncated
    returns, lengths = episodes.returns + step.reward, episodes.lengths + 1

    def begun() -> tuple[Any, Any]:
        fresh = jax.vmap(env.reset)(jax.random.split(key, len(ended)))
        return chosen(ended, fresh, (step.state, step.obs))

    states, obs = lax.cond(ended.any(), begun, lambda: (step.state, step.obs))
    finite = jnp.isfinite(step.reward).all() & jnp.isfinite(step.obs).all() & jnp.isfinite(obs).all()
    blameless = finite | ~jnp.isfinite(action).all()
    return Episodes(
        envs=states,
        obs=obs,
        returns=jnp.where(ended, 0.0, returns),
        lengths=jnp.where(ended, 0, lengths),
        ended=episodes.ended + ended.sum(),
        return_sum=episodes.return_sum + jnp.where(ended, returns, 0.0).sum(),
        length_sum=episodes.length_sum + jnp.where(ended, lengths, 0).sum(),
        largest_reward=jnp.maximum(episodes.largest_reward, jnp.abs(step.reward).max()),
        unsound=jnp.minimum(episodes.unsound, jnp.where(blameless, SOUND, i)),
    )


def chosen(mask: Bool[Array, "E"], left: Any, right: Any) -> Any:
    """Row by row of the leading axis, of ``left`` where ``mask``, else of ``right``."""
    pick = jax.vmap(lambda m, a, b: jax.tree.map(lambda x, y: jnp.where(m, x, y), a, b))
    return pick(mask, left, right)
