"""The layers of a network by name: made from settings, evaluated on one sample, trained on a batch.

Some normalise by the statistics of a batch. Those have running statistics, which are kept apart from the
parameters; of the others they are empty.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.config.settings import InvalidSetting, ShareBelowOne, Sizes, Whole
from fewstep.nets import own
from fewstep.nets.activations import Activation
from fewstep.nets.encoder import FEATURES, Encoder, Image
from fewstep.nets.layers import Init, Linear
from fewstep.nets.mlp import MLP
from fewstep.nets.own import OwnNet
from fewstep.nets.renorm import EVERY, Form, RenormConfig, RenormMLP, Stats
from fewstep.nets.trained import AdamConfig
from fewstep.nets.unit_nets import FlashNet, XQCNet

Layers = MLP | OwnNet | RenormMLP | XQCNet | FlashNet
NetStats = tuple[Stats, ...]


class Encoded(eqx.Module):
    """A network whose first input is an image, which it sees through an encoder of its own."""

    encoder: Encoder
    net: Layers

    @property
    def head(self) -> Linear:
        """The last layer."""
        return self.net.head


Net = Layers | Encoded


@dataclass(frozen=True)
class TrunkConfig(AdamConfig):
    """The layers of a network, and Adam on it.

    Attributes:
        trunk: ``mlp``; ``layernorm``, an MLP with LayerNorm; ``crossq``, an MLP with batch renormalisation;
            ``xqc`` and ``flash``, the networks of XQC and FlashSAC (``nets.unit_nets``) with their published
            constants and initialiser, whose kernels are brought back to columns of unit norm after every
            step. The last three see whole batches in training.
        network: ``module:make``, layers of your own in the place of those of ``trunk``
            (docs/own-networks.md); none: those of ``trunk``.
        hidden: sizes of the hidden layers; of ``flash`` one equal width for each residual block.
        activation: between them.
        init: initialiser of the hidden layers, but for ``xqc`` and ``flash``: theirs is orthogonal.
        momentum, warm_up: of the running statistics; batches that are normalised by their own statistics
            alone before the renormalisation sets in (``crossq``).
        renorm: form of its correction, see ``nets.renorm.RenormConfig`` (``crossq``).
    """

    trunk: Literal["mlp", "layernorm", "crossq", "xqc", "flash"] = "mlp"
    network: str | None = None
    hidden: Sizes = (256, 256)
    activation: Activation = "relu"
    init: Init = "lecun_normal"
    momentum: ShareBelowOne = 0.99
    warm_up: Whole = 100_000
    renorm: Form = "ioffe"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trunk == "flash" and self.network is None and len(set(self.hidden)) != 1:
            raise InvalidSetting(
                "hidden must be one width for all blocks of the trunk flash, for two of 256 [256, 256], got "
                f"{list(self.hidden)}"
            )

    @property
    def has_unit_norm(self) -> bool:
        """Whether kernels are brought back to columns of unit norm after every step."""
        return self.network is None and self.trunk in ("xqc", "flash")

    @property
    def sees_batches(self) -> bool:
        """Whether training normalises by the statistics of a batch."""
        return self.network is None and self.trunk in ("crossq", "xqc", "flash")

    def create(
        self,
        key: PRNGKeyArray,
        inputs: int,
        outputs: int,
        *,
        head_init: Init = "xavier_uniform",
        unit_head: bool = True,
        image: Image | None = None,
    ) -> Net:
        """A fresh network.

        Args:
            key: of its initial kernels.
            inputs, outputs: sizes.
            head_init: initialiser of the last kernel of ``mlp``, ``layernorm`` and behind layers of the
                user's; the others have their own.
            unit_head: whether the last kernel of ``xqc`` and ``flash`` is brought back to unit norm, too.
            image: the first ``prod(image)`` inputs are an image, which an encoder of its own is put before.
        """
        encoder, key = Encoder.before(key, image)
        if encoder is not None:
            inputs += FEATURES - prod(encoder.image)
        layers = self._layers(key, inputs, outputs, head_init, unit_head)
        return layers if encoder is None else Encoded(encoder, layers)

    def _layers(
        self, key: PRNGKeyArray, inputs: int, outputs: int, head_init: Init, unit_head: bool
    ) -> Layers:
        hidden, activation = self.hidden, self.activation
        if self.network is not None:
            sizes = (inputs, hidden, outputs)
            return own.create(self.network, key, *sizes, head_init=head_init, activation=activation)
        if self.trunk == "xqc":
            return XQCNet.create(key, inputs, hidden, outputs, activation=activation, unit_head=unit_head)
        if self.trunk == "flash":
            sizes = (inputs, hidden[0], len(hidden), outputs)
            return FlashNet.create(key, *sizes, activation=activation, unit_head=unit_head)
        if self.trunk == "crossq":
            renorm = RenormConfig(momentum=self.momentum, warm_up=self.warm_up, form=self.renorm)
            return RenormMLP.create(
                key, inputs, hidden, outputs, cfg=renorm, init=self.init, activation=activation
            )
        return MLP.create(
            key,
            inputs,
            hidden,
            outputs,
            init=self.init,
            head_init=head_init,
            activation=activation,
            norm=self.trunk == "layernorm",
        )


def empty_stats(net: Net) -> NetStats:
    """The running statistics of a network that has not seen a batch."""
    net = net.net if isinstance(net, Encoded) else net
    return () if isinstance(net, MLP | OwnNet) else net.empty_stats()


def evaluate(net: Net, stats: NetStats, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
    """One sample, given in parts, by the running statistics, which stay as they are."""
    if isinstance(net, Encoded):
        image, *rest = parts
        net, parts = net.net, (net.encoder(image), *rest)
    return net(*parts) if isinstance(net, MLP | OwnNet) else net(stats, *parts)


def train(
    net: Net, stats: NetStats, x: Float[Array, "batch inputs"], keep: slice = EVERY
) -> tuple[Float[Array, "kept outputs"], NetStats]:
    """The rows ``keep`` of a batch by the statistics of the whole, and the running statistics that have seen
    it."""
    if isinstance(net, Encoded):
        size = prod(net.encoder.image)
        x = jnp.concatenate([jax.vmap(net.encoder)(x[:, :size]), x[:, size:]], axis=1)
        net = net.net
    return (jax.vmap(net)(x[keep]), ()) if isinstance(net, MLP | OwnNet) else net.train(stats, x, keep)


def projected(net: Net) -> Net:
    """What is kept after a step of the optimiser: kernels of ``xqc`` and ``flash`` back at unit norm."""
    if isinstance(net, Encoded):
        return replace(net, net=projected(net.net))
    return net.projected() if isinstance(net, XQCNet | FlashNet) else net
