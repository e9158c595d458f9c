"""SAC's tanh-Gaussian as a program; its noise is eps[act]."""

from fewstep.algos.sac.config import SACConfig
from fewstep.algos.sac.learner import Policy
from fewstep.algos.tanh_gaussian import LOG_STD_MAX, LOG_STD_MIN
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder
from fewstep.deploy.lower_nets import Affine


def lower(b: Builder, cfg: SACConfig, policy: Policy, noise_free: bool) -> str:
    """tanh(mean + sigma eps), or tanh(mean)."""
    net = policy.actor.net
    hidden = lower_nets.after_first(b, net, lower_nets.linear(b, b.obs, Affine.of(net.blocks[0][0])))
    mean, log_std = lower_nets.halves(b, hidden, Affine.of(net.head))
    if noise_free:
        return b.emit("tanh", mean)
    eps = b.noise(policy.actor.act_size)
    return b.emit("tanh", lower_nets.gaussian(b, mean, log_std, (LOG_STD_MIN, LOG_STD_MAX), eps))
