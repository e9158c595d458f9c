"""Every network of a policy against its formula in numpy, at parameters that are not those it starts with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.smfp.network import Block, DiT, PolicyNet
from fewstep.algos.smfp.proposal import Proposal
from fewstep.nets import velocity_nets
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.mlp import MLP
from fewstep.nets.noise_net import NoiseNet, sinusoid
from fewstep.nets.time_features import TimeEmbedding, low_frequency_features
from fewstep.types import Spec
from tests.equations.written_out import (
    ACTIVATIONS,
    affine,
    decoder_block,
    evaluated,
    gelu,
    layer_norm,
    low_frequencies,
    mlp,
    moved,
    sigmoid,
    time_embedding,
)

KEY, SPEC = jax.random.key(0), Spec(3, 2)
S, X = np.array([0.3, -1.0, 0.5], np.float32), np.array([0.4, -0.7], np.float32)
R, T = np.float32(0.3), np.float32(0.75)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------- times


def test_low_frequency_features_at_a_quarter():
    """Phases pi / 8, pi / 4, pi / 2, pi."""
    eighth, quarter = np.cos(np.pi / 8), np.sqrt(0.5)
    wanted = [eighth, quarter, 0, -1, np.sqrt(1 - eighth**2), quarter, 1, 0]
    np.testing.assert_allclose(low_frequency_features(jnp.float32(0.25)), wanted, atol=1e-6)


def test_sinusoids_of_a_step_are_those_of_three_frequencies():
    """Of 1, 1/100 and 1/10,000 per step, the highest first."""
    phases = 7.0 * np.array([1, 1e-2, 1e-4])
    found = sinusoid(jnp.int32(7), 6)
    np.testing.assert_allclose(found, np.concatenate([np.sin(phases), np.cos(phases)]), rtol=1e-5)


def test_a_time_embedding_written_out():
    net = moved(TimeEmbedding.create(KEY, 6, 5))
    close(evaluated(net, T), time_embedding(net, T))


# ------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize(("activation", "norm"), [("gelu", True), ("mish", False)])
def test_an_mlp_is_linear_norm_activation_and_in_the_end_linear(activation, norm):
    net = moved(MLP.create(KEY, 5, (6, 4), 3, activation=activation, norm=norm))
    close(evaluated(net, S, X), mlp(net, S, X))


# -------------------------------------------------------------------------------------- flows and diffusion


def test_a_flow_net_sees_the_end_of_the_interval_and_its_length():
    """Embeddings of t and of t - r by networks of their own, added, behind the point and the state."""
    net = moved(FlowNet.create(KEY, 3, 2, 2, (6, 4), 6, 5))
    times = time_embedding(net.embed_t, T) + time_embedding(net.embed_interval, T - R)
    close(evaluated(net, S, X, R, T), mlp(net.body, X, S, times))


def test_a_noise_net_sees_the_step_through_two_layers():
    net = moved(NoiseNet.create(KEY, 3, 2, (6, 4), "mish", 6))
    phases = 7.0 * np.array([1, 1e-2, 1e-4])
    inner = affine(net.inner, np.sin(phases), np.cos(phases))
    step = affine(net.outer, ACTIVATIONS["mish"](inner))
    close(evaluated(net, S, X, jnp.int32(7)), mlp(net.body, X, S, step))


def velocity_net(kind):
    return moved(velocity_nets.create(kind, KEY, 3, 2, (6, 6), "silu", norm=True))


def test_a_plain_velocity_is_an_mlp_of_point_state_and_time():
    net = velocity_net("mlp")
    close(evaluated(net, S, X, T), mlp(net.body, X, S, [T]))


def test_a_gated_velocity_is_the_way_from_a_candidate_times_the_gate():
    net = velocity_net("gated")
    given = X, S, low_frequencies(T)
    gate, candidate = sigmoid(mlp(net.gate, *given)), mlp(net.candidate, *given)
    close(evaluated(net, S, X, T), gate * (X - candidate))


def test_a_decoder_velocity_is_a_token_of_the_point_in_blocks_that_see_the_state():
    net = velocity_net("decoder")
    token, memory = affine(net.point, X, low_frequencies(T)), mlp(net.memory, S)
    for block in net.blocks:
        token = decoder_block(block, token, memory, "silu")
    assert len(net.blocks) == 2
    close(evaluated(net, S, X, T), affine(net.head, layer_norm(net.norm, token)))


# -------------------------------------------------------------------------------------------------- SMFP


def rms_norm(x):
    return x / np.sqrt((x**2).mean() + 1e-6)


def dit_block(block, x, times):
    """Shift, scale and gate of the attention, then those of the perceptron."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = affine(
        block.modulation, ACTIVATIONS["silu"](times)
    ).reshape(6, -1)
    x = x + gate_a * affine(block.output, affine(block.value, rms_norm(x) * (1 + scale_a) + shift_a))
    inner = affine(block.inner, rms_norm(x) * (1 + scale_m) + shift_m)
    return x + gate_m * affine(block.outer, gelu(inner))


def test_a_block_of_the_transformer_written_out():
    block = moved(Block.create(KEY, 4))
    x, times = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    close(evaluated(block, x, times), dit_block(block, x, times))


def test_a_transformer_is_a_token_of_point_and_state_in_blocks_that_see_both_times():
    net = moved(DiT.create(KEY, 5, 4, 2, 4))
    times, token = time_embedding(net.embed_b, R) + time_embedding(net.embed_t, T), affine(net.token, X, S)
    for block in net.blocks:
        token = dit_block(block, token, times)
    close(evaluated(net, S, X, R, T), affine(net.head, rms_norm(token)))


@pytest.mark.parametrize("sigma", ["network", "parameter"])
def test_the_policys_mlp_sees_both_times_and_gives_g_and_rho(sigma):
    """With sigma a parameter, rho is the second half of the head's bias."""
    net = moved(PolicyNet.create(KEY, SPEC, "mlp", (6, 4), 0.1, sigma))
    out = mlp(net.trunk.body, X, S, low_frequencies(R), low_frequencies(T))
    g, rho = evaluated(net, S, X, R, T)
    close(g, out[:2])
    close(rho, out[2:] if sigma == "network" else net.trunk.body.head.bias[2:])


@pytest.mark.parametrize("beyond", [0.0, 40.0])
def test_a_proposal_is_a_shift_of_the_sample_and_a_width_between_its_ends(beyond):
    """Standard deviations are around exp(-1.5), at least exp(-6) and at most exp(1)."""
    net = moved(Proposal.create(KEY, SPEC, (6, 4)))
    ends = jnp.array([0, 0, -beyond, beyond])
    net = eqx.tree_at(lambda net: net.body.head.bias, net, replace_fn=lambda bias: bias + ends)
    out = mlp(net.body, X, S)
    mean, log_std = evaluated(net, S, X)
    close(mean, X + out[:2])
    close(log_std, [-6, 1] if beyond else out[2:] - 1.5)
