"""CrossQ's tanh-Gaussian, normalised by its running statistics, as a program; its noise is eps[act]."""

from fewstep.algos.crossq.actor import LOG_STD_MAX, LOG_STD_MIN
from fewstep.algos.crossq.config import CrossQConfig
from fewstep.algos.crossq.learner import Policy
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder


def lower(b: Builder, cfg: CrossQConfig, policy: Policy, noise_free: bool) -> str:
    """tanh(mean + sigma eps), or tanh(mean)."""
    maps = lower_nets.folded(policy.actor.net, policy.actor.stats)
    hidden = lower_nets.through(b, policy.actor.net.activation, maps[:-1], b.obs)
    mean, log_std = lower_nets.halves(b, hidden, maps[-1])
    if noise_free:
        return b.emit("tanh", mean)
    eps = b.noise(policy.actor.act_size)
    return b.emit("tanh", lower_nets.gaussian(b, mean, log_std, (LOG_STD_MIN, LOG_STD_MAX), eps))
