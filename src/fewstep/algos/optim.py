"""Optimisation steps shared by the algorithms: typed wrappers that keep a module a module."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float

P = TypeVar("P")


@dataclass(frozen=True)
class Adam:
    """Plain Adam (Kingma and Ba 2015): no clipping, no schedule, no weight decay."""

    learning_rate: float
    b1: float = 0.9

    def init(self, params: Any) -> optax.OptState:
        """Zero moments for a pytree of parameters."""
        return optax.adam(self.learning_rate, b1=self.b1).init(params)

    def step(self, params: P, grads: P, state: optax.OptState) -> tuple[P, optax.OptState]:
        """Parameters and moments after one step along ``grads`` (downhill)."""
        updates, state = optax.adam(self.learning_rate, b1=self.b1).update(cast(Any, grads), state)
        return cast(P, optax.apply_updates(cast(Any, params), updates)), state


@dataclass(frozen=True)
class ClippedAdam:
    """Adam on gradients whose norm over all parameters is clipped to ``max_norm``; the caller gives the
    rate, so a schedule is the caller's equation and not a counter in here."""

    max_norm: float
    eps: float

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_norm), optax.scale_by_adam(eps=self.eps))

    def init(self, params: Any) -> optax.OptState:
        """Zero moments for a pytree of parameters."""
        return self._transform().init(params)

    def step(
        self, params: P, grads: P, state: optax.OptState, rate: Float[Array, ""]
    ) -> tuple[P, optax.OptState]:
        """Parameters and moments after one step of this rate along ``grads`` (downhill)."""
        updates, state = self._transform().update(cast(Any, grads), state)
        return cast(P, jax.tree.map(lambda p, u: p - rate * u, params, updates)), state


def polyak(target: P, online: P, tau: float) -> P:
    """``tau * online + (1 - tau) * target``, leaf by leaf: tau = 1 copies, tau = 0 never moves."""
    return cast(P, optax.incremental_update(cast(Any, online), cast(Any, target), tau))


class SoftOptimisers(eqx.Module):
    """Adam states of an actor, its critics and its temperature."""

    actor: optax.OptState
    critics: optax.OptState
    temperature: optax.OptState
