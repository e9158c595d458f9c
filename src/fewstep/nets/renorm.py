"""Batch renormalisation (Ioffe 2017) with its running statistics kept apart from its parameters.

Parameters are trained by gradients, statistics by averaging; an update returns both explicitly, and nothing
else changes them. Everything here is for a whole batch, except evaluation, which needs no batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import Init, Linear

Form = Literal["ioffe", "crossq", "plain"]
EVERY = slice(None)
"""All rows of a batch."""


@dataclass(frozen=True)
class RenormConfig:
    """Constants of a batch renormalisation.

    Attributes:
        momentum: of the running statistics per batch.
        epsilon: added to variances below the root.
        r_max, d_max: how far scale and shift are corrected from the batch's towards the running statistics.
        form: of the correction (``BatchRenorm.train``): as published by ``ioffe``, or as in the ``crossq``
            authors' code, which applies r and d before epsilon is added; ``plain``: none, which is batch
            normalisation (Ioffe and Szegedy 2015), whatever ``r_max``, ``d_max`` and ``warm_up`` say.
        warm_up: batches that are normalised by their own statistics alone (plain batch normalisation).
        unbiased: the running variance averages sums of squares over n - 1 instead of n, for batches of n.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    r_max: float = 3.0
    d_max: float = 5.0
    warm_up: int = 100_000
    form: Form = "ioffe"
    unbiased: bool = False


class Stats(eqx.Module):
    """Running mean and variance per feature, and the number of batches they have seen."""

    mean: Float[Array, "size"]
    variance: Float[Array, "size"]
    batches: Int[Array, ""]

    @staticmethod
    def create(size: int) -> "Stats":
        """Mean 0, variance 1, nothing seen."""
        return Stats(jnp.zeros(size), jnp.ones(size), jnp.int32(0))


class Affine(NamedTuple):
    """The batch ``rows * slope + shift``, not yet computed.

    A linear layer behind it takes slope and shift into its weights, so that forward and backward pass over
    the rows once less each, and the gradients of slope and shift are sums over the weights.
    """

    rows: Float[Array, "batch size"]
    slope: Float[Array, "size"]
    shift: Float[Array, "size"]

    def computed(self) -> Float[Array, "batch size"]:
        """The batch itself."""
        return self.rows * self.slope + self.shift

    def through(self, layer: Linear) -> Float[Array, "batch outputs"]:
        """``layer`` of the batch."""
        return self.rows @ (self.slope[:, None] * layer.weight) + (self.shift @ layer.weight + layer.bias)


class BatchRenorm(eqx.Module):
    """The learnt scale and shift behind the normalisation."""

    scale: Float[Array, "size"]
    bias: Float[Array, "size"]

    @staticmethod
    def create(size: int) -> "BatchRenorm":
        """Scale 1, bias 0."""
        return BatchRenorm(jnp.ones(size), jnp.zeros(size))

    def __call__(
        self, cfg: RenormConfig, stats: Stats, *parts: Float[Array, "_"]
    ) -> tuple[Float[Array, "_"], ...]:
        """Evaluation: normalise one sample, given in parts, by the running statistics."""
        slope = self.scale * lax.rsqrt(stats.variance + cfg.epsilon)
        shift = self.bias - stats.mean * slope
        out: list[Array] = []
        start = 0
        for part in parts:
            stop = start + part.shape[-1]
            out.append(part * slope[start:stop] + shift[start:stop])
            start = stop
        return tuple(out)

    def train(self, cfg: RenormConfig, stats: Stats, x: Float[Array, "batch size"]) -> tuple[Affine, Stats]:
        """Normalise a batch by its own (corrected) statistics; return it with the new running statistics.

        y = ((x - mean_batch) / std_batch * r + d) * scale + bias, where r = std_batch / std_running in
        [1 / r_max, r_max] and d = (mean_batch - mean_running) / std_running in [-d_max, d_max] carry no
        gradient: without the limits y would be normalised by the running statistics while gradients see those
        of the batch.

        The form ``crossq`` corrects the batch's mean and variance before epsilon is added:
        y = (x - mean_batch + d sqrt(variance) / r) / sqrt(variance / r^2 + epsilon) * scale + bias. The two
        are equal where variances are much larger than epsilon, and in the warm-up. The form ``plain`` has
        r = 1 and d = 0.

        y comes as an affine map of centred rows. They are centred by a constant equal to the mean, which
        keeps float32 exact; the mean's gradient goes through ``shift``, and through the small vectors there
        instead of the rows.
        """
        mean = x.mean(0)
        centre = lax.stop_gradient(mean)
        rows = x - centre
        # d variance / dx is 2 (x - mean) / batch whether the mean moves with x or not.
        variance = jnp.mean(rows * rows, axis=0)
        slope, offset = self._corrected(cfg, stats, mean, variance)
        shift = self.bias + offset - (mean - centre) * slope
        m, n = cfg.momentum, x.shape[0]
        seen = variance * (n / max(n - 1, 1)) if cfg.unbiased else variance  # one row has none
        moved = Stats(
            m * stats.mean + (1.0 - m) * mean,
            m * stats.variance + (1.0 - m) * seen,
            stats.batches + 1,
        )
        return Affine(rows, slope, shift), lax.stop_gradient(moved)

    def _corrected(
        self, cfg: RenormConfig, stats: Stats, mean: Float[Array, "size"], variance: Float[Array, "size"]
    ) -> tuple[Float[Array, "size"], Float[Array, "size"]]:
        """Slope and offset of the batch less its mean; without correction scale / std_batch and 0."""
        std = jnp.sqrt(variance + cfg.epsilon)
        if cfg.form == "plain":
            return self.scale / std, jnp.zeros_like(std)
        running = jnp.sqrt(stats.variance + cfg.epsilon)
        warm = stats.batches >= cfg.warm_up
        r = jnp.where(warm, jnp.clip(std / running, 1.0 / cfg.r_max, cfg.r_max), 1.0)
        d = jnp.where(warm, jnp.clip((mean - stats.mean) / running, -cfg.d_max, cfg.d_max), 0.0)
        r, d = lax.stop_gradient((r, d))
        if cfg.form == "ioffe":
            return self.scale * r / std, d * self.scale
        slope = self.scale * lax.rsqrt(variance / (r * r) + cfg.epsilon)
        # The root's slope is infinite at 0, where the offset is 0 whatever d is.
        root = jnp.sqrt(jnp.maximum(variance, jnp.finfo(variance.dtype).tiny))
        return slope, d * root / r * slope


class RenormMLP(eqx.Module):
    """Renorm of the input, then ``len(hidden)`` times Linear -> activation -> renorm, then a linear head."""

    norms: tuple[BatchRenorm, ...]
    layers: tuple[Linear, ...]
    head: Linear
    activation: Activation = eqx.field(static=True)
    cfg: RenormConfig = eqx.field(static=True)

    @staticmethod
    def create(
        key: PRNGKeyArray,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        cfg: RenormConfig,
        init: Init = "lecun_normal",
        activation: Activation = "relu",
    ) -> "RenormMLP":
        """One more normalisation than hidden layers; ``empty_stats`` makes their statistics."""
        sizes = [inputs, *hidden]
        *keys, head_key = jax.random.split(key, len(sizes))
        layers = tuple(
            Linear.create(k, n_in, n_out, init)
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        )
        norms = tuple(BatchRenorm.create(size) for size in sizes)
        return RenormMLP(norms, layers, Linear.create(head_key, sizes[-1], outputs, init), activation, cfg)

    def empty_stats(self) -> tuple[Stats, ...]:
        """Statistics of a network that has not seen a batch."""
        return tuple(Stats.create(norm.scale.shape[0]) for norm in self.norms)

    def __call__(self, stats: Sequence[Stats], *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate one sample by the running statistics (see ``Linear`` for why it comes in parts)."""
        activate = ACTIVATIONS[self.activation]
        parts = self.norms[0](self.cfg, stats[0], *parts)
        for layer, norm, seen in zip(self.layers, self.norms[1:], stats[1:], strict=True):
            parts = norm(self.cfg, seen, activate(layer(*parts)))
        return self.head(*parts)

    def train(
        self, stats: Sequence[Stats], x: Float[Array, "batch inputs"], keep: slice = EVERY
    ) -> tuple[Float[Array, "kept outputs"], tuple[Stats, ...]]:
        """The rows ``keep`` of a batch by the statistics of the whole, and the running statistics that have
        seen it."""
        activate = ACTIVATIONS[self.activation]
        y, first = self.norms[0].train(self.cfg, stats[0], x)
        moved = [first]
        for layer, norm, seen in zip(self.layers, self.norms[1:], stats[1:], strict=True):
            y, after = norm.train(self.cfg, seen, activate(y.through(layer)))
            moved.append(after)
        return y._replace(rows=y.rows[keep]).through(self.head), tuple(moved)
