"""PPO's Gaussian as a program; its noise is eps[act]."""

import numpy as np

from fewstep.algos.ppo.config import PPOConfig
from fewstep.algos.ppo.policy import Policy
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder


def lower(b: Builder, cfg: PPOConfig, policy: Policy, noise_free: bool) -> str:
    """The mean, or mean + sigma eps, clipped to the box; the observation is normalised first."""
    net, x = policy.actor.net, b.obs
    if cfg.normalise.obs:
        moments, limit = policy.obs_moments, cfg.normalise.obs_clip
        centred = b.emit("add", x, lower_nets.single(-lower_nets.wide(moments.mean)))
        scaled = b.emit("mul", centred, lower_nets.single(1.0 / lower_nets.wide(moments.std)))
        x = b.emit("clip", scaled, numbers=(-limit, limit))
    action = lower_nets.mlp(b, net, x)
    if not noise_free:
        sigma = lower_nets.single(np.exp(lower_nets.wide(policy.actor.log_std)))
        action = b.emit("add", action, b.emit("mul", b.noise(policy.actor.act_size), sigma))
    return b.emit("clip", action, numbers=(-1.0, 1.0))
