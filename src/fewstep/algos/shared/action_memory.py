"""Improved actions in place of those of the replay buffer (the action memory of DIPO, arXiv 2305.13122)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Actions = Float[Array, "batch act"]
Numbers = Int[Array, "batch"]


class ActionMemory(eqx.Module):
    """One action for each transition of the replay buffer: the one that was taken, until a better is written.

    It is a part of the training state, so that an update stays a pure function and a resume is exact:
    ``4 capacity (act_size + 1)`` bytes.

    Attributes:
        actions: ``[capacity, act_size]``.
        owner: ``[capacity]`` number of the transition that each row was written for, -1 for none. The buffer
            is a ring: a row is out of date once a newer transition has come to its place.
    """

    actions: Float[Array, "capacity act"]
    owner: Int[Array, "capacity"]

    @staticmethod
    def create(capacity: int, act_size: int) -> "ActionMemory":
        """Nothing written yet; ``capacity`` is that of the replay buffer."""
        return ActionMemory(jnp.zeros((capacity, act_size)), jnp.full((capacity,), -1, jnp.int32))

    def read(self, number: Numbers, taken: Actions) -> Actions:
        """The actions of the transitions of these numbers; ``taken`` are those in the replay buffer."""
        row = number % self.owner.shape[0]
        return jnp.where((self.owner[row] == number)[:, None], self.actions[row], taken)

    def write(self, number: Numbers, actions: Actions) -> "ActionMemory":
        """With ``actions`` for these transitions. One drawn twice into a batch must have one new action."""
        row = number % self.owner.shape[0]
        return ActionMemory(self.actions.at[row].set(actions), self.owner.at[row].set(number))
