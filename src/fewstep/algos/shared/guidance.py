"""Targets of earlier policy updates, kept to be learned again (guidance buffer of FLAG, arXiv 2605.30749)."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from fewstep.config.settings import Count, NonNegative, Section, Whole
from fewstep.types import Spec

Scalar = Float[Array, ""]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class GuidanceConfig(Section):
    """Targets of earlier policy updates, learned again beside the newest, in every update.

    Attributes:
        capacity: targets kept, each with its state and noise; the newest overwrite the oldest. They are a
            part of the training state. At least ``replay.batch_size``.
        weight: of their loss in the end; 0: they are never learned again.
        start: updates before it rises from 0. It waits until ``capacity`` targets are known.
        ramp: updates over which it rises.
    """

    capacity: Count = 10_240
    weight: NonNegative = 1.0
    start: Whole = 200_000
    ramp: Count = 200_000


class Guides(eqx.Module):
    """Rows to learn a flow from: in the state ``obs`` the noise ``z`` is to be carried to ``end``."""

    obs: Float[Array, "batch obs"]
    z: ActRows
    end: ActRows


class Guidance(eqx.Module):
    """A ring of guides.

    Attributes:
        rows: ``[capacity]``.
        position: the row that is written next.
        full: whether all have been written.
    """

    rows: Guides
    position: Int[Array, ""]
    full: Bool[Array, ""]

    @staticmethod
    def create(cfg: GuidanceConfig, spec: Spec) -> "Guidance":
        """Nothing written yet."""
        n, d = cfg.capacity, spec.act_size
        rows = Guides(jnp.zeros((n, spec.obs_size)), jnp.zeros((n, d)), jnp.zeros((n, d)))
        return Guidance(rows, jnp.int32(0), jnp.bool_(False))

    def weight(self, cfg: GuidanceConfig, updates: Int[Array, ""]) -> Scalar:
        """Of the guides' loss after so many updates: 0 until all rows are written."""
        return cfg.weight * self.full * jnp.clip((updates - cfg.start) / cfg.ramp, 0.0, 1.0)

    def drawn(self, key: PRNGKeyArray, count: int) -> Guides:
        """``count`` rows with replacement, written or not."""
        at = jax.random.randint(key, (count,), 0, self.rows.obs.shape[0])
        return jax.tree.map(lambda rows: rows[at], self.rows)

    def written(self, guides: Guides) -> "Guidance":
        """With these in the place of the oldest. They must be no more than ``capacity``."""
        capacity, count = self.rows.obs.shape[0], guides.obs.shape[0]
        at = (self.position + jnp.arange(count)) % capacity
        rows = jax.tree.map(lambda rows, new: rows.at[at].set(new), self.rows, guides)
        end = self.position + count
        return Guidance(rows, end % capacity, self.full | (end >= capacity))
