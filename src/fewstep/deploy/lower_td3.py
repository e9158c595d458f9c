"""TD3's deterministic policy with its exploration noise as a program; the noise is eps[act]."""

import numpy as np

from fewstep.algos.td3.config import TD3Config
from fewstep.algos.td3.learner import Policy
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder


def lower(b: Builder, cfg: TD3Config, policy: Policy, noise_free: bool) -> str:
    """tanh(f(s)) plus noise, cut to [-1, 1]; or tanh(f(s)) alone."""
    action = b.emit("tanh", lower_nets.mlp(b, policy.actor.net, b.obs))
    if noise_free:
        return action
    act_size = policy.actor.act_size
    spread = np.full(act_size, cfg.actor.exploration_noise, np.float32)
    moved = b.emit("add", action, b.emit("mul", b.noise(act_size), spread))
    return b.emit("clip", moved, numbers=(-1.0, 1.0))
