"""The network of averaged quantities along a flow: average velocity, average divergence."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets import own
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.nets.own import OwnNet
from fewstep.nets.time_features import TimeEmbedding


class FlowNet(eqx.Module):
    """A function of (state s, point x, times r <= t), conditioned on embeddings of t and of t - r.

    MFPO's choice: the second embedder receives the interval ``t - r`` and not ``r``; the two embeddings are
    added and concatenated to (x, s).
    """

    embed_t: TimeEmbedding
    embed_interval: TimeEmbedding
    body: MLP | OwnNet

    @staticmethod
    def create(
        key: PRNGKeyArray,
        obs_size: int,
        act_size: int,
        outputs: int,
        hidden: Sequence[int],
        time_features: int,
        time_embed: int,
        activation: Activation = "gelu",
        norm: bool = True,
        network: str | None = None,
    ) -> "FlowNet":
        """``outputs`` is the action size for a velocity, 1 for a divergence; ``norm`` as in ``MLP``, in whose
        place ``network`` (``module:make``) puts layers of the user's."""
        k_t, k_h, k_body = jax.random.split(key, 3)
        layers = (act_size + obs_size + time_embed, hidden, outputs)
        if network is None:
            body = MLP.create(k_body, *layers, activation=activation, norm=norm)
        else:
            body = own.create(network, k_body, *layers, activation=activation)
        return FlowNet(
            TimeEmbedding.create(k_t, time_features, time_embed),
            TimeEmbedding.create(k_h, time_features, time_embed),
            body,
        )

    @property
    def outputs(self) -> int:
        """Length of what it gives: the action size for a velocity, 1 for a divergence."""
        return self.body.head.bias.shape[0]

    def __call__(
        self, s: Float[Array, "obs"], x: Float[Array, "act"], r: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, "outputs"]:
        """Average over [r, t], at the point ``x`` of time ``t``."""
        return self.body(x, s, self.embed_t(t) + self.embed_interval(t - r))
