"""SMFP's one-step policy as a program; its noise is e[act], which chooses the component, then eps[act]."""

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import Block, DiT, TimedMLP
from fewstep.algos.smfp.policy import Policy
from fewstep.deploy import lower_nets
from fewstep.deploy.builder import Builder, Operand
from fewstep.deploy.lower_nets import Affine, single, wide
from fewstep.nets.time_features import low_frequency_features

B, T = 0.0, 1.0
"""The only interval the policy acts with."""


def lower(b: Builder, cfg: SMFPConfig, policy: Policy, noise_free: bool) -> str:
    """mu(e) + sigma(e) eps cut to [-1, 1], or mu(0)."""
    actor, act_size = policy.actor, policy.actor.act_size
    e: Operand = np.zeros(act_size, np.float32)
    eps = None
    if not noise_free:
        noise = b.noise(2 * act_size)
        e = b.emit("slice", noise, numbers=(0, act_size))
        eps = b.emit("slice", noise, numbers=(act_size, act_size))
    trunk = actor.trunk
    hidden = _dit(b, trunk, e) if isinstance(trunk, DiT) else _mlp(b, trunk, e)
    g, log_std = lower_nets.halves(b, hidden, Affine.of(trunk.head), shift=cfg.actor.log_std_initial)
    z = g if cfg.actor.output == "direct" else b.emit("axpy", g, e, numbers=(-1.0,))
    if eps is not None:
        z = lower_nets.gaussian(b, z, log_std, (cfg.actor.log_std_min, cfg.actor.log_std_max), eps)
    return b.emit("clip", z, numbers=(-1.0, 1.0))


def _mlp(b: Builder, trunk: TimedMLP, e: Operand) -> str:
    first = trunk.body.blocks[0][0]
    features = np.concatenate([wide(low_frequency_features(jnp.float32(end))) for end in (B, T)])
    act_size = trunk.head.bias.shape[0] // 2
    inputs = first.weight.shape[0]
    of_e, of_state, of_times = lower_nets.rows(
        first, act_size, inputs - act_size - features.size, features.size
    )
    bias = wide(first.bias) + features @ of_times
    state = b.emit("affine", b.obs, single(of_state), single(bias))
    return lower_nets.after_first(b, trunk.body, b.emit("affine", e, single(of_e), state))


def _dit(b: Builder, trunk: DiT, e: Operand) -> str:
    act_size = trunk.head.bias.shape[0] // 2
    of_e, of_state = lower_nets.rows(trunk.token, act_size, trunk.token.weight.shape[0] - act_size)
    state = b.emit("affine", b.obs, single(of_state), single(wide(trunk.token.bias)))
    token = b.emit("affine", e, single(of_e), state)
    times = trunk.embed_b(jnp.float32(B)) + trunk.embed_t(jnp.float32(T))
    for block in trunk.blocks:
        token = _block(b, block, token, wide(block.modulation(jax.nn.silu(times))))
    return b.emit("rms_norm", token)


def _block(b: Builder, block: Block, token: str, modulation: lower_nets.Wide) -> str:
    """At fixed times shifts, scales and gates are constants and go into the weights.

    What stands for attention, value then output, is then one linear map.
    """
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = np.split(modulation, 6)
    value, output, inner, outer = (
        wide(layer.weight) for layer in (block.value, block.output, block.inner, block.outer)
    )
    attention = ((1.0 + scale_a)[:, None] * value) @ output * gate_a
    bias = ((shift_a @ value + wide(block.value.bias)) @ output + wide(block.output.bias)) * gate_a
    mixed = b.emit("affine", b.emit("rms_norm", token), single(attention), single(bias))
    token = b.emit("add", token, mixed)
    bias = shift_m @ inner + wide(block.inner.bias)
    hidden = b.emit(
        "affine", b.emit("rms_norm", token), single((1.0 + scale_m)[:, None] * inner), single(bias)
    )
    hidden = b.emit("gelu", hidden)
    change = b.emit("affine", hidden, single(outer * gate_m), single(wide(block.outer.bias) * gate_m))
    return b.emit("add", token, change)
