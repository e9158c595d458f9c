"""Critics that predict one number, and the target they regress on."""

from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.mlp import MLP

Scalar = Float[Array, ""]


class ScalarCritic(eqx.Module):
    """Q(s, a) by an MLP Linear (-> LayerNorm) -> ReLU; meant to be trained against a slow copy of itself."""

    net: MLP

    @staticmethod
    def create(
        key: PRNGKeyArray, obs_size: int, act_size: int, hidden: Sequence[int], *, norm: bool
    ) -> "ScalarCritic":
        """Fresh parameters for these sizes."""
        return ScalarCritic(
            MLP.create(key, obs_size + act_size, hidden, 1, init="lecun_normal", activation="relu", norm=norm)
        )

    def __call__(self, s: Float[Array, "obs"], a: Float[Array, "act"]) -> Scalar:
        """Value of the action ``a`` in the state ``s``, in reward units."""
        return self.net(s, a)[0]


def td_target(reward: Array, terminated: Array, discount: float, next_value: Array) -> Array:
    """r + gamma V(s'), or r where the episode ended in a terminal state; any shape."""
    return reward + discount * (1.0 - terminated) * next_value
