"""What critics think of an action, as a program: what best-of-N chooses by."""

from typing import Any

import numpy as np

from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Policy as MFPOPolicy
from fewstep.critics import categorical as c51
from fewstep.critics.categorical import Twin
from fewstep.critics.crossq import CrossQ
from fewstep.critics.scalar import ScalarCritic
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder
from fewstep.deploy.lower_nets import Affine, single, wide
from fewstep.nets.mlp import MLP


def twins(b: Builder, cfg: Any, policy: Any, action: str) -> str:
    """The two scalar critics combined by ``critic.twin``."""
    first, second = (_scalar(b, critic, action) for critic in policy.critics)
    return _combined(b, first, second, cfg.critic.twin)


def categorical(b: Builder, cfg: MFPOConfig, policy: MFPOPolicy, action: str) -> str:
    """The two distributions' expectations combined by ``critic.twin``."""
    z = wide(c51.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms))
    expectation, none = single(z[:, None]), np.zeros(1, np.float32)
    first, second = (
        b.emit("affine", b.emit("softmax", _judged(b, critic, action)), expectation, none)
        for critic in policy.critics
    )
    return _combined(b, first, second, cfg.critic.twin)


def _combined(b: Builder, first: str, second: str, twin: Twin) -> str:
    # The sum stands for the mean: half of it chooses the same.
    return b.emit("min" if twin == "min" else "add", first, second)


def _scalar(b: Builder, critic: CrossQ | ScalarCritic, action: str) -> str:
    if isinstance(critic, ScalarCritic):
        return _judged(b, critic.net, action)
    first, *rest = lower_nets.folded(critic.net, critic.stats)
    hidden = b.emit(critic.net.activation, _first(b, first, action))
    return lower_nets.linear(b, lower_nets.through(b, critic.net.activation, rest[:-1], hidden), rest[-1])


def _judged(b: Builder, net: MLP, action: str) -> str:
    """The network's output on (state, action)."""
    sums = _first(b, Affine.of(net.blocks[0][0]), action)
    return lower_nets.linear(b, lower_nets.after_first(b, net, sums), Affine.of(net.head))


def _first(b: Builder, layer: Affine, action: str) -> str:
    """The first layer of (state, action): the state's share of it is the same for every action."""
    of_state, of_action = layer.weight[: b.obs_size], layer.weight[b.obs_size :]
    return b.emit(
        "affine", action, single(of_action), b.emit("affine", b.obs, single(of_state), single(layer.bias))
    )
