"""SMFP's hyper-parameters.

Defaults are the reading of the paper that docs/algorithms/smfp.md argues for, at sizes for a CPU; the preset
``mujoco`` has the paper's sizes. Where the paper is silent, each alternative is a named option.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fewstep.algos.shared import temperature
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share, Sizes, Whole
from fewstep.critics.ensemble import CriticConfig
from fewstep.errors import require
from fewstep.flows.bounds import Bound
from fewstep.flows.semi_implicit import Noise
from fewstep.nets.trained import AdamConfig

Candidates = Annotated[int, Range(1, 1024)]


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The policy network, Adam on it, and how actions are chosen.

    Attributes:
        network: ``module:make``, layers of your own in the place of those of ``backbone``
            (docs/own-networks.md); none: those of ``backbone``.
        backbone: ``mlp``, or ``dit``: one token through transformer-style blocks conditioned on the times.
        hidden: sizes of the hidden layers; ``dit`` takes as many blocks, of one size. One or more, each at
            least 1.
        output: ``direct``, the network is g; ``residual``, g = x minus the network.
        head_scale: factor on the head's initial weights. At 0 the policy would ignore its noise at first.
        sigma: ``network``, log sigma is an output of the network at state, noise and times; ``parameter``,
            a learned number per action dimension (the authors' ablation).
        log_std_initial: log sigma per dimension at the start; between the ends below.
        log_std_min: lower end of log sigma, below ``log_std_max``; no gradient flows beyond the ends.
        log_std_max: upper end of log sigma, above ``log_std_min``.
        delay: one policy update per this many critic updates.
        batch_size: most states of the batch that a policy update uses; 0 means all.
        samples: actions drawn per state in a policy update. They share their mixture components, so more of
            them on fewer states is the cheap way to the semi-implicit entropy.
        candidates: N of the best-of-N behaviour; the TD target takes half as many, at least one.
        evaluation_candidates: N of the native best-of-N evaluation.
        bound: how actions are kept in [-1, 1]: ``clip`` (the authors' lineage), through which no gradient of
            Q passes outside of the box; ``tanh``, with the change of density, which makes entropies those of
            the action.
        bound_weight: with ``clip``, weight of the penalty on what lies outside [-1, 1], a mean over action
            dimensions.
        average: the policy that is evaluated and saved has the average of the network's parameters over
            about this many of its last updates (``nets.trained.Averaged``); 0: the last parameters.
    """

    network: str | None = None
    backbone: Literal["mlp", "dit"] = "mlp"
    hidden: Sizes = (256, 256, 256)
    output: Literal["direct", "residual"] = "direct"
    head_scale: NonNegative = 0.1
    sigma: Literal["network", "parameter"] = "network"
    log_std_initial: float = -3.0
    log_std_min: float = -10.0
    log_std_max: float = 0.5
    delay: Count = 2
    batch_size: Whole = 0
    samples: Count = 1
    candidates: Candidates = 8
    evaluation_candidates: Candidates = 8
    bound: Bound = "clip"
    bound_weight: NonNegative = 1.0
    average: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.network is not None or self.backbone == "mlp" or len(set(self.hidden)) == 1,
            f"actor.hidden must name one size for every block of a dit, got {self.hidden}",
        )
        require(
            self.log_std_min < self.log_std_initial < self.log_std_max,
            "actor needs log_std_min < log_std_initial < log_std_max, got "
            f"{self.log_std_min}, {self.log_std_initial}, {self.log_std_max}",
        )


@dataclass(frozen=True)
class MirrorConfig(Section):
    """Mirror descent: the weighted MeanFlow regression.

    Attributes:
        weight: lambda, of this loss; 0 leaves it out.
        source: actions regressed on: those of the ``replay`` batch, all ``candidates`` of the present policy,
            or the ``best`` of them.
        weights: ``raw``, (Q - V)_+; ``uniform``, its batch mean for every pair (no re-weighting at equal
            strength).
        candidates: actions per state whose mean Q is V.
        batch_size: most states of the policy's batch that are regressed on; 0 means all.
        gamma: of MeanFlow's adaptive weight (error + 1e-4)^-(1 - gamma); 1 switches it off.
        limit: the regression target is clipped to [-limit, limit]; so are, with the bound ``tanh``, the
            inverse images of actions.
    """

    weight: NonNegative = 3.0
    source: Literal["replay", "candidates", "best"] = "replay"
    weights: Literal["raw", "uniform"] = "raw"
    candidates: Count = 4
    batch_size: Whole = 0
    gamma: Share = 0.8
    limit: Positive = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.candidates > 1 or self.source == "replay",
            f"mirror.candidates must be at least 2 for mirror.source {self.source}: a single action is never "
            "better than the mean",
        )


@dataclass(frozen=True)
class EntropyConfig(Section):
    """What keeps the policy from becoming deterministic.

    Attributes:
        kind: ``hinge``, alpha times how far log sigma lies below log target_std (the paper's threshold as we
            read it); ``dual``, alpha times the conditional surrogate with alpha adjusted until the mean log
            sigma is log target_std; ``semi_implicit``, alpha times H_K of ``flows.semi_implicit``, which
            counts the modes too.
        target_std: standard deviation per dimension that ``hinge`` and ``dual`` ask for, in action units
            (with the bound ``tanh`` to first order: sigma da/dz at the sample).
        components: K, mixture components per sample beside its own (``semi_implicit``).
        noise: how the noises of a policy update are drawn; ``antithetic`` needs an even number of them:
            actor.samples or, for components of blindly drawn noises, K + 1.
        proposal: ``prior``, K + 1 components of blindly drawn noises, shared by the samples of a state, whose
            own are among them, so K + 1 is at least actor.samples;
            ``learned``, K of its own for each sample, around a network's guess of the noise it came from.
            Needed where I(a; e) is more than log(K + 1): many modes in several dimensions.
        soft_backup: subtract alpha log q_K from the successor's value (not with ``hinge``).
    """

    kind: Literal["hinge", "dual", "semi_implicit"] = "hinge"
    target_std: Positive = 0.0033
    components: Whole = 8
    noise: Noise = "independent"
    proposal: Literal["prior", "learned"] = "prior"
    soft_backup: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.proposal == "prior" or (self.kind == "semi_implicit" and self.components >= 1),
            "entropy.proposal learned needs entropy.kind semi_implicit and at least 1 in entropy.components, "
            f"got {self.kind} and {self.components}",
        )
        require(
            not (self.soft_backup and self.kind == "hinge"),
            "entropy.soft_backup needs an entropy: set entropy.kind to semi_implicit or dual",
        )


@dataclass(frozen=True)
class TemperatureConfig(temperature.TemperatureConfig):
    """alpha, the weight of the entropy term.

    ``automatic`` is for ``semi_implicit``; ``dual`` always adjusts alpha, ``hinge`` never does.

    Attributes:
        anneal_factor, anneal_updates: a fixed alpha starts this many times larger and falls geometrically to
            ``initial`` over the first ``anneal_updates`` updates. At a low temperature the modes are walled
            off from each other: those lost early are not found again.
    """

    initial: float = 0.2
    automatic: bool = False
    target_entropy_per_dim: float = -1.0
    maximum: float = 100.0
    anneal_factor: Positive = 5.0
    anneal_updates: Whole = 0


def _critic() -> CriticConfig:
    return CriticConfig(trunk="crossq", target="none", learning_rate=1e-3, b1=0.5)


@dataclass(frozen=True)
class SMFPConfig(Section):
    """All of SMFP.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=_critic)
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.temperature.automatic or self.entropy.kind == "semi_implicit",
            f"temperature.automatic needs entropy.kind semi_implicit, got {self.entropy.kind!r} "
            "(dual adjusts alpha by itself)",
        )
        require(
            not (self.temperature.anneal_updates and self.adjusts_temperature),
            "temperature.anneal_updates is for a fixed alpha; this one is adjusted",
        )
        require(
            not self._blind or self.entropy.components + 1 >= self.actor.samples,
            "entropy.components + 1 must be at least actor.samples, whose components are among them, got "
            f"{self.entropy.components} and {self.actor.samples}",
        )
        require(
            self.entropy.noise != "antithetic" or self.actor_components % 2 == 0,
            "entropy.noise antithetic needs an even number of noises per state, here it is "
            f"{self.actor_components}: actor.samples, or entropy.components + 1 where entropy.kind is "
            "semi_implicit with proposal prior",
        )

    @property
    def target_candidates(self) -> int:
        """Candidates of the TD target: half of those that act, at least one."""
        return max(1, self.actor.candidates // 2)

    @property
    def adjusts_temperature(self) -> bool:
        """Whether alpha changes during training."""
        return self.entropy.kind == "dual" or self.temperature.automatic

    @property
    def actor_components(self) -> int:
        """Noises drawn per state in a policy update, those of the samples included."""
        return self.entropy.components + 1 if self._blind else self.actor.samples

    @property
    def _blind(self) -> bool:
        return self.entropy.kind == "semi_implicit" and self.entropy.proposal == "prior"
