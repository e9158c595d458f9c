"""Operations of an update of the policies that are trained through their own steps or step (``floor``)."""

from fewstep.algos.dime import DIMEConfig
from fewstep.algos.flac import FLACConfig
from fewstep.algos.flag import FLAGConfig
from fewstep.algos.flowrl import FlowRLConfig
from fewstep.algos.meanflowql import MeanFlowQLConfig
from fewstep.algos.sacflow import SACFlowConfig
from fewstep.algos.shared.flow_policy import FlowConfig
from fewstep.bench.critic_floor import critic_network, temporal_difference
from fewstep.bench.gemms import Perceptron
from fewstep.errors import UsageError
from fewstep.nets.time_features import LOW_FREQUENCIES
from fewstep.types import Spec


def flac(cfg: FLACConfig, spec: Spec, batch: int) -> float:
    """FLAC: the critics' gradient back through the solver of the flow."""
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(batch, batch)
    improvement += _flow_trained(cfg.actor, spec, batch)
    critics = _flow_drawn(cfg.actor, spec, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def flowrl(cfg: FlowRLConfig, spec: Spec, batch: int) -> float:
    """FlowRL: like FLAC, with a regression on replayed actions, and a second pair of critics with a value."""
    q = Perceptron(spec.obs_size, spec.act_size, cfg.behaviour.hidden, 1)
    v = Perceptron(spec.obs_size, 0, cfg.behaviour.hidden, 1)
    behaviour = 2 * (q.training(batch, batch) + q.forward(batch, batch))
    behaviour += v.forward(batch, batch) + v.training(batch, batch)
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(batch, batch)
    improvement += _flow_trained(cfg.actor, spec, batch) + _velocity(cfg.actor, spec).training(batch, batch)
    improvement += 2 * q.forward(batch, batch)
    critics = _flow_drawn(cfg.actor, spec, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + behaviour + improvement / cfg.actor.delay


def flag(cfg: FLAGConfig, spec: Spec, batch: int) -> float:
    """FLAG: N local samples with densities and values; a regression in every update, once guides count.

    A density takes two evaluations per step and the derivatives of the second by each probe.
    """
    a, n, net, critic = (
        cfg.actor,
        cfg.improvement.samples,
        _velocity(cfg.actor, spec),
        critic_network(cfg.critic, spec),
    )
    probes = 1 if cfg.improvement.divergence == "hutchinson" else spec.act_size

    def density(rows: int, probes: int) -> int:
        return a.steps * (2 * net.forward(0, rows) + probes * net.tangent(rows))

    state = net.forward(1, 0)
    critics = (
        _flow_drawn(a, spec, batch) + density(batch, probes) + temporal_difference(cfg.critic, spec, batch)
    )
    rows = min(a.batch_size or batch, batch)
    improvement = rows * state + _evaluations(a) * net.forward(0, rows)
    # The exact divergence at mu is the same for all samples.
    improvement += density(rows, n if cfg.improvement.divergence == "hutchinson" else probes)
    improvement += density(rows * n, probes)
    improvement += cfg.critic.ensemble * critic.forward(rows, rows * (n + 1))
    improvement += net.training(rows, rows)
    guided = net.training(rows, rows) if cfg.guidance.weight > 0 else 0
    return critics + guided + improvement / a.delay


def _velocity(cfg: FlowConfig, spec: Spec) -> Perceptron:
    return Perceptron(spec.obs_size, spec.act_size, cfg.hidden, spec.act_size, 1)


def _evaluations(cfg: FlowConfig) -> int:
    return cfg.steps * (2 if cfg.solver == "midpoint" else 1)


def _flow_drawn(cfg: FlowConfig, spec: Spec, batch: int) -> int:
    net = _velocity(cfg, spec)
    return net.forward(batch, batch) + (_evaluations(cfg) - 1) * net.forward(0, batch)


def _flow_trained(cfg: FlowConfig, spec: Spec, batch: int) -> int:
    """Every evaluation but the first sees a point that the one before has moved."""
    net, more = _velocity(cfg, spec), _evaluations(cfg) - 1
    trained = net.training(batch, batch) + more * net.training(0, batch)
    return trained + more * net.input_gradient(batch, wanted=spec.act_size)


def sacflow(cfg: SACFlowConfig, spec: Spec, batch: int) -> float:
    """SAC-Flow: the critics' gradient back through K steps of the velocity, and the width of their noise.

    Raises:
        UsageError: the velocity network has no formula here.
    """
    if cfg.actor.net == "decoder":
        raise UsageError("the floor of sacflow is counted for actor.net gated and mlp")
    times = 2 * len(LOW_FREQUENCIES) if cfg.actor.net == "gated" else 1
    net = Perceptron(spec.obs_size, spec.act_size, cfg.actor.hidden, spec.act_size, times)
    nets, more = (2 if cfg.actor.net == "gated" else 1), cfg.actor.steps - 1
    width = Perceptron(spec.obs_size, 0, cfg.actor.noise_hidden, spec.act_size)
    learned = cfg.actor.noise == "learned"
    drawn = nets * (net.forward(batch, batch) + more * net.forward(0, batch))
    drawn += width.forward(batch, batch) if learned else 0
    trained = nets * (net.training(batch, batch) + more * net.training(0, batch))
    trained += nets * more * net.input_gradient(batch, wanted=spec.act_size)
    trained += width.training(batch, batch) if learned else 0
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(batch, batch) + trained
    return drawn + temporal_difference(cfg.critic, spec, batch) + improvement / cfg.actor.delay


def dime(cfg: DIMEConfig, spec: Spec, batch: int) -> float:
    """DIME: the critics' gradient back through every step of the controlled diffusion."""
    sizes = (spec.obs_size, spec.act_size, cfg.actor.hidden, spec.act_size, 2 * len(LOW_FREQUENCIES))
    net, more = Perceptron(*sizes), cfg.actor.steps - 1
    drawn = net.forward(batch, batch) + more * net.forward(0, batch)
    trained = net.training(batch, batch) + more * net.training(0, batch)
    trained += more * net.input_gradient(batch, wanted=spec.act_size)
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(batch, batch) + trained
    return drawn + temporal_difference(cfg.critic, spec, batch) + improvement / cfg.actor.delay


def meanflowql(cfg: MeanFlowQLConfig, spec: Spec, batch: int) -> float:
    """MeanFlowQL: the best of N for the target; one action climbed, and a regression with its tangent.

    Raises:
        UsageError: the network has no formula here.
    """
    if cfg.actor.net != "mlp":
        raise UsageError("the floor of meanflowql is counted for actor.net mlp")
    net = Perceptron(spec.obs_size, spec.act_size, cfg.actor.hidden, spec.act_size, 1)
    critic, each = critic_network(cfg.critic, spec), batch * cfg.actor.candidates
    critics = net.forward(batch, each) + cfg.critic.ensemble * critic.forward(batch, each)
    critics += temporal_difference(cfg.critic, spec, batch)
    improvement = net.training(batch, batch) + cfg.critic.ensemble * critic.pathwise(batch, batch)
    # Times of their own in every row; they learn nothing, so no gradient goes back to them.
    improvement += net.forward(batch, batch, own_conditions=True) + net.tangent(batch, own_conditions=True)
    improvement += net.weight_gradient(batch, batch, own_conditions=True) + net.input_gradient(batch)
    return critics + improvement / cfg.actor.delay
