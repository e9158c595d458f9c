"""MFPO's T-step sampler, unrolled, as a program; its noise is e[act], the sampler's starting point."""

import jax.numpy as jnp
import numpy as np

from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Policy
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder, Operand
from fewstep.deploy.lower_nets import Affine, single, wide
from fewstep.flows.meanflow import grid


def lower(b: Builder, cfg: MFPOConfig, policy: Policy, noise_free: bool) -> str:
    """T times x <- x - (t - r) u(s, x, r, t), then kept in [-1, 1]."""
    net = policy.actor
    first, act_size = net.body.blocks[0][0], net.body.head.bias.shape[0]
    embed_size = net.embed_t.outer.bias.shape[0]
    of_x, of_state, of_times = lower_nets.rows(
        first, act_size, first.weight.shape[0] - act_size - embed_size, embed_size
    )
    # The state's share of the first layer is the same in every step.
    state = b.emit("affine", b.obs, single(of_state), single(wide(first.bias)))
    x: Operand = np.zeros(act_size, np.float32) if noise_free else b.noise(act_size)
    for r, t in grid(cfg.actor.steps):
        # In float32 as the network subtracts them.
        r_, t_ = jnp.float32(r), jnp.float32(t)
        times = wide(net.embed_t(t_) + net.embed_interval(t_ - r_)) @ of_times
        sums = b.emit("affine", x, single(of_x), b.emit("add", state, single(times)))
        hidden = lower_nets.after_first(b, net.body, sums)
        x = b.emit("axpy", lower_nets.linear(b, hidden, Affine.of(net.body.head)), x, numbers=(r - t,))
    if cfg.actor.bound == "tanh":
        return b.emit("tanh", x)
    return b.emit("clip", x, numbers=(-1.0, 1.0))
