"""Normalised observations for every algorithm that learns from a replay buffer (``replay.normalise_obs``).

An algorithm whose config asks for it is given observations of mean 0 and variance 1, entry by entry, and
never sees others. Mean and variance are those of the batches that its updates have drawn, each a fair sample
of what its networks are trained on; they stand still between updates, and are part of the state (so of a
checkpoint) and of the policy (so of what is saved and exported).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from fewstep.algos.contract import Algorithm, Metrics, Obs, QFunction, Vector
from fewstep.algos.shared.moments import Moments, observe, scale_obs
from fewstep.errors import UsageError
from fewstep.types import Spec, Transition

CLIP = 10.0
"""Standard deviations from the mean at which an observation is clipped, as PPO's are."""


class State(eqx.Module):
    """An algorithm's state, and the moments of the observations it was trained on."""

    inner: Any
    moments: Moments

    @property
    def key(self) -> PRNGKeyArray:
        """The root key, constant for the run."""
        return self.inner.key

    @property
    def updates(self) -> Int[Array, ""]:
        """Updates done."""
        return self.inner.updates


class Policy(eqx.Module):
    """An algorithm's policy, and the moments that its observations are normalised by."""

    inner: Any
    moments: Moments


@lru_cache(maxsize=64)
def on_request(algorithm: Algorithm) -> Algorithm:
    """``algorithm``, on normalised observations where its config says so, and otherwise as it is.

    One that learns from rollouts comes back unchanged: it has no section ``replay``.
    """
    if algorithm.rollout is not None:
        return algorithm

    def init(cfg: Any, spec: Spec, key: PRNGKeyArray) -> Any:
        if cfg.replay.normalise_obs and spec.image is not None:
            raise UsageError("replay.normalise_obs is not for image observations, whose encoder scales them")
        state = algorithm.init(cfg, spec, key)
        return State(state, Moments.create(spec.obs_size)) if cfg.replay.normalise_obs else state

    def update(cfg: Any, state: Any, batch: Transition) -> tuple[Any, Metrics]:
        if not isinstance(state, State):
            return algorithm.update(cfg, state, batch)
        moments = observe(state.moments, batch.obs)
        batch = batch._replace(
            obs=scale_obs(moments, batch.obs, CLIP), next_obs=scale_obs(moments, batch.next_obs, CLIP)
        )
        inner, metrics = algorithm.update(cfg, state.inner, batch)
        return State(inner, moments), metrics

    def noise(cfg: Any, policy: Any) -> tuple[int, ...]:
        return algorithm.noise(cfg, policy.inner if isinstance(policy, Policy) else policy)

    def draw(cfg: Any, policy: Any, obs: Obs, noise: Vector) -> Vector:
        if not isinstance(policy, Policy):
            return algorithm.draw(cfg, policy, obs, noise)
        return algorithm.draw(cfg, policy.inner, scale_obs(policy.moments, obs, CLIP), noise)

    return replace(
        algorithm,
        init=init,
        update=update,
        policy=_policy(algorithm.policy),
        collector=None if algorithm.collector is None else _policy(algorithm.collector),
        noise=noise,
        draw=draw,
        value=None if algorithm.value is None else _value(algorithm.value),
        explore=None if algorithm.explore is None else _explore(algorithm.explore),
    )


def _policy(policy: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def of(state: Any) -> Any:
        if not isinstance(state, State):
            return policy(state)
        return Policy(policy(state.inner), state.moments)

    return of


def _value(value: Callable[[Any, Any], QFunction]) -> Callable[[Any, Any], QFunction]:
    def of(cfg: Any, policy: Any) -> QFunction:
        if not isinstance(policy, Policy):
            return value(cfg, policy)
        q = value(cfg, policy.inner)
        return lambda s, a: q(scale_obs(policy.moments, s, CLIP), a)

    return of


def _explore(
    explore: Callable[[Any, Any, Vector, Vector], Vector],
) -> Callable[[Any, Any, Vector, Vector], Vector]:
    def of(cfg: Any, policy: Any, action: Vector, noise: Vector) -> Vector:
        return explore(cfg, policy.inner if isinstance(policy, Policy) else policy, action, noise)

    return of
