"""Operations of the leanest exact update of each algorithm: what no rearrangement can save.

Lean means: the state's part of a first layer once per state and not once per action; a time that is the same
for all rows embedded once; no derivative where its factor is zero; gradients of inputs only where somebody
wants them. The policy's share is divided by its delay. An update at the peak of the processor takes
``operations / peak``.
"""

from collections.abc import Callable
from typing import Any

from fewstep.algos.crossq import CrossQConfig
from fewstep.algos.dacer import DACERConfig
from fewstep.algos.dime import DIMEConfig
from fewstep.algos.dipo import DIPOConfig
from fewstep.algos.dpmd import DPMDConfig
from fewstep.algos.flac import FLACConfig
from fewstep.algos.flag import FLAGConfig
from fewstep.algos.flame import FLAMEConfig
from fewstep.algos.flowrl import FlowRLConfig
from fewstep.algos.fpmd import FPMDConfig
from fewstep.algos.maxentdp import MaxEntDPConfig
from fewstep.algos.mdpo import MDPOConfig
from fewstep.algos.meanflowql import MeanFlowQLConfig
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mpo import MPOConfig
from fewstep.algos.qsm import QSMConfig
from fewstep.algos.qvpo import QVPOConfig
from fewstep.algos.sac import SACConfig
from fewstep.algos.sacflow import SACFlowConfig
from fewstep.algos.sdac import SDACConfig
from fewstep.algos.shared.boltzmann_noise import BoltzmannNoiseConfig
from fewstep.algos.shared.diffusion_policy import DiffusionConfig
from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.som import SOMConfig
from fewstep.algos.td3 import TD3Config
from fewstep.bench.critic_floor import critic_network, temporal_difference
from fewstep.bench.flow_floor import dime, flac, flag, flowrl, meanflowql, sacflow
from fewstep.bench.gemms import Perceptron
from fewstep.critics.ensemble import CriticConfig
from fewstep.errors import UsageError
from fewstep.nets.time_features import LOW_FREQUENCIES
from fewstep.types import Spec


def sac(cfg: SACConfig | CrossQConfig, spec: Spec, batch: int) -> float:
    """SAC and CrossQ: one action at s', twin regression; one action at s, climbed through both critics."""
    actor = Perceptron(spec.obs_size, 0, cfg.actor.hidden, 2 * spec.act_size)
    improvement = actor.training(batch, batch)
    improvement += cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(batch, batch)
    critics = actor.forward(batch, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def td3(cfg: TD3Config, spec: Spec, batch: int) -> float:
    """TD3: like SAC, but the policy climbs the first critic alone."""
    actor = Perceptron(spec.obs_size, 0, cfg.actor.hidden, spec.act_size)
    improvement = actor.training(batch, batch) + critic_network(cfg.critic, spec).pathwise(batch, batch)
    critics = actor.forward(batch, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def mdpo(cfg: MDPOConfig, spec: Spec, batch: int) -> float:
    """MDPO: SAC's, climbing one critic or all, and the old policy at the states of a policy update."""
    actor = Perceptron(spec.obs_size, 0, cfg.actor.hidden, 2 * spec.act_size)
    climbed = cfg.critic.ensemble if cfg.actor.value == "critics" else 1
    improvement = actor.training(batch, batch) + actor.forward(batch, batch)
    improvement += climbed * critic_network(cfg.critic, spec).pathwise(batch, batch)
    critics = actor.forward(batch, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def mpo(cfg: MPOConfig, spec: Spec, batch: int) -> float:
    """MPO: values of K actions of every successor and, at a policy update, of every state."""
    actor = Perceptron(spec.obs_size, 0, cfg.actor.hidden, 2 * spec.act_size)
    k = cfg.improvement.samples
    improvement = actor.training(batch, batch) + actor.forward(batch, batch)
    improvement += cfg.critic.ensemble * critic_network(cfg.critic, spec).forward(batch, batch * k)
    critics = actor.forward(batch, batch) + temporal_difference(cfg.critic, spec, batch, k)
    return critics + improvement / cfg.actor.delay


def smfp(cfg: SMFPConfig, spec: Spec, batch: int) -> float:
    """SMFP with an MLP backbone, prior components: candidates judged, value climbed, actions regressed on.

    Raises:
        UsageError: the backbone or the proposal has no formula here.
    """
    if cfg.actor.backbone != "mlp" or cfg.entropy.proposal != "prior":
        raise UsageError("the floor of smfp is counted for actor.backbone mlp and entropy.proposal prior")
    actor = Perceptron(
        spec.obs_size, spec.act_size, cfg.actor.hidden, 2 * spec.act_size, 4 * len(LOW_FREQUENCIES)
    )
    critic = critic_network(cfg.critic, spec)

    def judged(states: int, each: int) -> int:
        return actor.forward(states, states * each) + cfg.critic.ensemble * critic.forward(
            states, states * each
        )

    k = cfg.target_candidates
    critics = judged(batch, k) if k > 1 else actor.forward(batch, batch)
    critics += temporal_difference(cfg.critic, spec, batch)
    if cfg.entropy.soft_backup and cfg.entropy.kind == "semi_implicit":
        critics += actor.forward(0, batch * cfg.entropy.components)

    states = min(cfg.actor.batch_size or batch, batch)
    improvement = actor.training(states, states * cfg.actor_components)
    improvement += cfg.critic.ensemble * critic.pathwise(states, states * cfg.actor.samples)
    if cfg.mirror.weight > 0:
        rows = min(cfg.mirror.batch_size or states, states)
        improvement += judged(rows, cfg.mirror.candidates)
        if cfg.mirror.source == "replay":
            improvement += cfg.critic.ensemble * critic.forward(0, rows)
        pairs = rows * (cfg.mirror.candidates if cfg.mirror.source == "candidates" else 1)
        # Times of their own in every row; they learn nothing, so no gradient goes back to them.
        improvement += actor.forward(rows, pairs, own_conditions=True) + actor.tangent(
            pairs, own_conditions=True
        )
        improvement += actor.weight_gradient(rows, pairs, own_conditions=True) + actor.input_gradient(pairs)
    return critics + improvement / cfg.actor.delay


def mfpo(cfg: MFPOConfig, spec: Spec, batch: int) -> float:
    """MFPO with averaged log-densities: K1 + K2 candidates per state are nearly all of it."""
    if cfg.divergence.log_prob != "averaged":
        raise UsageError("the floor of mfpo is counted for divergence.log_prob averaged")
    a, embed = cfg.actor, cfg.actor.time_embed
    net = [Perceptron(spec.obs_size, spec.act_size, a.hidden, n, embed) for n in (spec.act_size, 1)]
    critic = critic_network(cfg.critic, spec)

    def drawn(states: int, each: int) -> int:
        more_steps = (a.steps - 1) * sum(n.forward(0, states * each) for n in net)
        return sum(n.forward(states, states * each) for n in net) + more_steps

    def regression(n: Perceptron, states: int, rows: int) -> int:
        apart = rows - int(cfg.times.equal_share * rows)
        return _averaged(n, a.time_features, states, rows, apart)

    critics = drawn(batch, 1) + temporal_difference(cfg.critic, spec, batch)
    states = min(a.batch_size or batch, batch)
    improvement = drawn(states, cfg.proposals.policy)
    points = states * cfg.proposals.points
    candidates = states * cfg.proposals.policy + points * cfg.proposals.gaussian
    improvement += cfg.critic.ensemble * critic.forward(states, candidates)
    improvement += regression(net[0], states, points) + regression(net[1], states, points)
    improvement += net[0].forward(states, points, own_conditions=True)
    improvement += cfg.divergence.probes * net[0].tangent(points)
    return critics + improvement / a.delay


def _averaged(net: Perceptron, features: int, states: int, rows: int, apart: int) -> int:
    """A MeanFlow regression, in ``apart`` of whose rows r < t."""
    # An embedder has no state; its features count as a row's own inputs. Two of them, of t and of t - r.
    times = Perceptron(0, features, (net.conditions,), net.conditions)
    tangent = net.tangent(apart, own_conditions=True) + 2 * times.tangent(apart)
    # The frequencies learn, so gradients go back to the features.
    embedding = times.forward(0, rows) + times.weight_gradient(0, rows)
    embedding += times.input_gradient(rows, wanted=features)
    return net.training(states, rows, own_conditions=True) + tangent + 2 * embedding


def _denoiser(cfg: DiffusionConfig, spec: Spec) -> Perceptron:
    return Perceptron(spec.obs_size, spec.act_size, cfg.hidden, spec.act_size, cfg.time_features)


def _denoised(cfg: DiffusionConfig, spec: Spec, states: int, each: int) -> int:
    """Actions of a diffusion policy, ``each`` of every state; a step's time is the same for all."""
    net = _denoiser(cfg, spec)
    return net.forward(states, states * each) + (cfg.steps - 1) * net.forward(0, states * each)


def qvpo(cfg: QVPOConfig, spec: Spec, batch: int) -> float:
    """QVPO: candidates drawn and judged for the target and for the policy, then one regression."""
    critic = critic_network(cfg.critic, spec)

    def judged(states: int, each: int) -> int:
        values = cfg.critic.ensemble * critic.forward(states, states * each) if each > 1 else 0
        return _denoised(cfg.actor, spec, states, each) + values

    states = min(cfg.actor.batch_size or batch, batch)
    rows = states * (1 + cfg.regression.uniform)
    improvement = judged(states, cfg.regression.candidates) + _denoiser(cfg.actor, spec).training(
        states, rows
    )
    critics = judged(batch, cfg.actor.candidates) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def qsm(cfg: QSMConfig, spec: Spec, batch: int) -> float:
    """QSM: one gradient of the critics in the action and one regression per row."""
    states = min(cfg.actor.batch_size or batch, batch)
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(states, states)
    improvement += _denoiser(cfg.actor, spec).training(states, states)
    critics = _denoised(cfg.actor, spec, batch, 1) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def sdac(cfg: SDACConfig, spec: Spec, batch: int) -> float:
    """SDAC: the best of N for the target and for the policy, then K values per row and one regression."""
    states = min(cfg.actor.batch_size or batch, batch)
    improvement = _best_of(cfg, spec, states) + _mean_noise(cfg.regression, cfg.critic, spec, states)
    improvement += _denoiser(cfg.actor, spec).training(states, states)
    critics = _best_of(cfg, spec, batch) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def dpmd(cfg: DPMDConfig, spec: Spec, batch: int) -> float:
    """DPMD: the best of N for the target, the value of each twice (statistics, weights), one regression."""
    states = min(cfg.actor.batch_size or batch, batch)
    critic = critic_network(cfg.critic, spec)
    improvement = _denoiser(cfg.actor, spec).training(states, states)
    # The weights are values of rows that the running statistics have valued already.
    critics = cfg.critic.ensemble * critic.forward(batch, batch) + _best_of(cfg, spec, batch)
    critics += temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


def fpmd(cfg: FPMDConfig, spec: Spec, batch: int) -> float:
    """FPMD: the best of N for the target, the value of each again for the spread, one regression."""
    a, critic = cfg.actor, critic_network(cfg.critic, spec)
    net = Perceptron(spec.obs_size, spec.act_size, a.hidden, spec.act_size, a.time_embed)
    candidates = batch * a.candidates
    critics = net.forward(batch, candidates) + (a.steps - 1) * net.forward(0, candidates)
    critics += cfg.critic.ensemble * (critic.forward(batch, candidates) + critic.forward(batch, batch))
    critics += temporal_difference(cfg.critic, spec, batch)
    rows = min(a.batch_size or batch, batch)
    return critics + _averaged(net, a.time_features, rows, rows, rows - a.equal_rows(rows)) / a.delay


def flame(cfg: FLAMEConfig, spec: Spec, batch: int) -> float:
    """FLAME: a draw and an entropy for the target; K values per row and one regression.

    Raises:
        UsageError: the entropy has no formula here.
    """
    if cfg.entropy.log_det != "traces":
        raise UsageError("the floor of flame is counted for entropy.log_det traces")
    a, critic = cfg.actor, critic_network(cfg.critic, spec)
    net = Perceptron(spec.obs_size, spec.act_size, a.hidden, spec.act_size, a.time_embed)
    rows = min(a.batch_size or batch, batch)

    def drawn(states: int, evaluations: int) -> int:
        return net.forward(states, states) + (evaluations - 1) * net.forward(0, states)

    # All that starts at one state shares its product with the first layer.
    entropy = drawn(batch, cfg.entropy.intervals)
    entropy += cfg.entropy.intervals * cfg.entropy.probes * net.tangent(batch)
    critics = drawn(batch, a.steps) + entropy + temporal_difference(cfg.critic, spec, batch)
    improvement = _averaged(net, a.time_features, rows, rows, rows - a.equal_rows(rows))
    improvement += cfg.critic.ensemble * critic.forward(rows, rows * cfg.regression.candidates)
    if cfg.regression.anchor == "policy":
        improvement += drawn(rows, a.steps)
    if cfg.actor.pathwise:
        improvement += cfg.critic.ensemble * critic.pathwise(rows, rows) + net.training(rows, rows)
        improvement += (a.steps - 1) * (
            net.training(0, rows) + net.input_gradient(rows, wanted=spec.act_size)
        )
    return critics + improvement / a.delay


def som(cfg: SOMConfig, spec: Spec, batch: int) -> float:
    """SOM: one draw for the target; K gradients of the critics per row, and one regression."""
    a, k, rows = cfg.actor, cfg.score.candidates, min(cfg.actor.batch_size or batch, batch)
    net = Perceptron(spec.obs_size, spec.act_size, a.hidden, spec.act_size, a.time_embed)
    improvement = _averaged(net, a.time_features, rows, rows, rows - int(a.equal_share * rows))
    improvement += cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(rows, rows * k)
    return net.forward(batch, batch) + temporal_difference(cfg.critic, spec, batch) + improvement / a.delay


def dacer(cfg: DACERConfig, spec: Spec, batch: int) -> float:
    """DACER: the critics' gradient back through every step of the sampler; now and then the entropy.

    The fit of the mixtures is left out.
    """
    states = min(cfg.actor.batch_size or batch, batch)
    net = _denoiser(cfg.actor, spec)
    improvement = cfg.critic.ensemble * critic_network(cfg.critic, spec).pathwise(states, states)
    steps = cfg.actor.steps
    improvement += net.training(states, states) + (steps - 1) * net.training(0, states)
    # Back through all steps but the last: their own guess moves the point that the next one sees.
    improvement += (steps - 1) * net.input_gradient(states, wanted=spec.act_size)
    measured = min(cfg.entropy.states or batch, batch)
    entropy = _denoised(cfg.actor, spec, measured, cfg.entropy.samples) / cfg.temperature.delay
    critics = _denoised(cfg.actor, spec, batch, 1) + temporal_difference(cfg.critic, spec, batch)
    return critics + entropy + improvement / cfg.actor.delay


def maxentdp(cfg: MaxEntDPConfig, spec: Spec, batch: int) -> float:
    """MaxEntDP: K values per row and one regression; a likelihood of each successor's action."""
    states = min(cfg.actor.batch_size or batch, batch)
    net = _denoiser(cfg.actor, spec)
    improvement = _mean_noise(cfg.regression, cfg.critic, spec, states) + net.training(states, states)
    likelihood = cfg.actor.steps * net.forward(0, batch * cfg.likelihood.samples)
    critics = _denoised(cfg.actor, spec, batch, 1) + temporal_difference(cfg.critic, spec, batch)
    return critics + likelihood + improvement / cfg.actor.delay


def _best_of(cfg: SDACConfig | DPMDConfig, spec: Spec, states: int) -> int:
    each = cfg.actor.candidates
    values = critic_network(cfg.critic, spec).forward(states, states * each)
    return _denoised(cfg.actor, spec, states, each) + cfg.critic.ensemble * values


def _mean_noise(cfg: BoltzmannNoiseConfig, critic: CriticConfig, spec: Spec, rows: int) -> int:
    net = critic_network(critic, spec)
    if cfg.estimator == "qne":
        return critic.ensemble * net.forward(rows, rows * cfg.candidates)
    each = 1 if cfg.estimator == "qsm" else cfg.candidates
    return critic.ensemble * net.pathwise(rows, rows * each)


def dipo(cfg: DIPOConfig, spec: Spec, batch: int) -> float:
    """DIPO: as many gradients of the critics in the action as steps of a relabelling, and one regression."""
    critic = critic_network(cfg.critic, spec)
    states = min(cfg.actor.batch_size or batch, batch)
    climbs = critic.pathwise(states, states) + (cfg.relabel.steps - 1) * critic.pathwise(0, states)
    improvement = cfg.critic.ensemble * climbs + _denoiser(cfg.actor, spec).training(states, states)
    critics = _denoised(cfg.actor, spec, batch, 1) + temporal_difference(cfg.critic, spec, batch)
    return critics + improvement / cfg.actor.delay


_COUNTS: dict[type, Callable[[Any, Spec, int], float]] = {
    SACConfig: sac,
    CrossQConfig: sac,
    TD3Config: td3,
    MDPOConfig: mdpo,
    MPOConfig: mpo,
    SMFPConfig: smfp,
    MFPOConfig: mfpo,
    QVPOConfig: qvpo,
    QSMConfig: qsm,
    DIPOConfig: dipo,
    DACERConfig: dacer,
    DPMDConfig: dpmd,
    FPMDConfig: fpmd,
    FLAMEConfig: flame,
    SOMConfig: som,
    MaxEntDPConfig: maxentdp,
    SDACConfig: sdac,
    FLACConfig: flac,
    FLAGConfig: flag,
    FlowRLConfig: flowrl,
    SACFlowConfig: sacflow,
    DIMEConfig: dime,
    MeanFlowQLConfig: meanflowql,
}


def operations(cfg: Any, spec: Spec, batch: int) -> float:
    """Floating-point operations of one update on ``batch`` transitions, the policy's delay averaged out.

    Args:
        cfg: an algorithm's config.
        spec: sizes of observation and action.
        batch: transitions per update.

    Raises:
        UsageError: no formula for this config.
    """
    if type(cfg) not in _COUNTS:
        raise UsageError(f"there is no count of operations for {type(cfg).__name__}")
    for part in ("actor", "critic"):
        if getattr(getattr(cfg, part, None), "network", None) is not None:
            raise UsageError(f"there is no count of operations for {part}.network, layers of the user's own")
    return float(_COUNTS[type(cfg)](cfg, spec, batch))
