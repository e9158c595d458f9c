"""The network u(s, x, r, t) of a flow policy, Mish and no normalisation, as settings: FLAME, FPMD, SOM."""

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import PRNGKeyArray

from fewstep.config.settings import Count, Range, Sizes
from fewstep.errors import require
from fewstep.nets.activations import Activation
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.trained import AdamConfig
from fewstep.types import Spec


@dataclass(frozen=True)
class FlowActorConfig(AdamConfig):
    """The network, and Adam on it.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them.
        time_features, time_embed: Fourier features of a time (even) and the size they are embedded to.
    """

    hidden: Sizes = (256, 256, 256)
    activation: Activation = "mish"
    time_features: Annotated[int, Range(2)] = 32
    time_embed: Count = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.time_features % 2 == 0, "actor.time_features must be even")

    def create(self, key: PRNGKeyArray, spec: Spec) -> FlowNet:
        """A fresh network."""
        sizes = (
            spec.obs_size,
            spec.act_size,
            spec.act_size,
            self.hidden,
            self.time_features,
            self.time_embed,
        )
        return FlowNet.create(key, *sizes, self.activation, norm=False)
