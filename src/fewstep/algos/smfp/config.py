"""SMFP's hyper-parameters.

Defaults are the reading of the paper that docs/algorithms/smfp.md argues for, at sizes for a CPU; the preset
``mujoco`` has the paper's sizes. Where the paper is silent, each alternative is a named option.
"""

from dataclasses import dataclass, field
from typing import Literal

from fewstep.algos import temperature
from fewstep.algos.twins import CriticConfig
from fewstep.errors import require, require_sizes
from fewstep.flows.semi_implicit import Noise


@dataclass(frozen=True)
class ActorConfig:
    """The policy network, its optimiser, and how actions are chosen.

    Fields:
        backbone: ``mlp``, or ``dit``: one token through transformer-style blocks conditioned on the times.
        hidden: sizes of the hidden layers; ``dit`` takes as many blocks, of one size. One or more, each at
            least 1.
        output: ``direct``, the network is g; ``residual``, g = x minus the network.
        head_scale: factor on the head's initial weights. At 0 the policy would ignore its noise at first. At
            least 0.
        log_std_initial: log sigma per dimension at the start. Above ``log_std_min``, below ``log_std_max``.
        log_std_min: lower end of log sigma; no gradient flows beyond the ends. Below ``log_std_initial``.
        log_std_max: upper end of log sigma. Above ``log_std_initial``.
        learning_rate: of Adam. Above 0.
        max_grad_norm: clip the gradient to this global norm; 0 means never. At least 0.
        delay: one policy update per this many critic updates. At least 1.
        batch_size: states of the batch used by a policy update; 0 means all. At least 0.
        samples: actions drawn per state in a policy update. They share their mixture components, so more of
            them on fewer states is the cheap way to the semi-implicit entropy. At least 1.
        candidates: K of the best-of-K behaviour; the TD target takes half as many, at least one. From 1 to
            1024.
        evaluation_candidates: K of the native best-of-K evaluation. From 1 to 1024.
        bound_weight: weight of the penalty on what lies outside [-1, 1], a mean over action dimensions. At
            least 0.
        scale_q: divide every Q of the policy's losses by the batch mean of |Q|.
    """

    backbone: Literal["mlp", "dit"] = "mlp"
    hidden: tuple[int, ...] = (256, 256, 256)
    output: Literal["direct", "residual"] = "direct"
    head_scale: float = 0.1
    log_std_initial: float = -3.0
    log_std_min: float = -10.0
    log_std_max: float = 0.5
    learning_rate: float = 3e-4
    max_grad_norm: float = 0.0
    delay: int = 2
    batch_size: int = 0
    samples: int = 1
    candidates: int = 8
    evaluation_candidates: int = 8
    bound_weight: float = 1.0
    scale_q: bool = False

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(
            self.backbone == "mlp" or len(set(self.hidden)) == 1,
            f"actor.hidden must name one size for every block of a dit, got {self.hidden}",
        )
        require(self.head_scale >= 0, "actor.head_scale must not be negative")
        require(
            self.log_std_min < self.log_std_initial < self.log_std_max,
            "actor needs log_std_min < log_std_initial < log_std_max, got "
            f"{self.log_std_min}, {self.log_std_initial}, {self.log_std_max}",
        )
        require(self.learning_rate > 0, "actor.learning_rate must be positive")
        require(self.max_grad_norm >= 0, "actor.max_grad_norm must not be negative (0 means no clipping)")
        require(self.delay >= 1, f"actor.delay must be at least 1, got {self.delay}")
        require(self.batch_size >= 0, "actor.batch_size must not be negative (0 means the whole batch)")
        require(self.samples >= 1, f"actor.samples must be at least 1, got {self.samples}")
        for name in ("candidates", "evaluation_candidates"):
            require(1 <= getattr(self, name) <= 1024, f"actor.{name} must be from 1 to 1024")
        require(self.bound_weight >= 0, "actor.bound_weight must not be negative")


@dataclass(frozen=True)
class MirrorConfig:
    """Mirror descent: the weighted MeanFlow regression.

    Fields:
        weight: lambda, of this loss; 0 leaves it out. At least 0.
        source: actions regressed on: those of the ``replay`` batch, all ``candidates`` of the present policy,
            or the ``best`` of them.
        weights: ``raw``, (Q - V)_+; ``mean_one``, divided by its batch mean; ``uniform``, the batch mean for
            every pair (no re-weighting at equal strength).
        candidates: actions per state whose mean Q is V. At least 1.
        batch_size: states of the policy's batch that are regressed on; 0 means all. At least 0.
        sigma_in_regression: add sigma^2 to the squared error: that of mu + sigma eps instead of mu.
        gamma: of MeanFlow's adaptive weight (error + 1e-4)^-(1 - gamma); 1 switches it off. From 0 to 1.
        interval: ``whole``, b = 0 always; ``general``, b uniform on [0, t).
        end_share: share of pairs with t = 1 exactly. From 0 to 1.
        limit: the regression target is cut to [-limit, limit]. Above 0.
    """

    weight: float = 3.0
    source: Literal["replay", "candidates", "best"] = "replay"
    weights: Literal["raw", "mean_one", "uniform"] = "raw"
    candidates: int = 4
    batch_size: int = 0
    sigma_in_regression: bool = True
    gamma: float = 0.8
    interval: Literal["whole", "general"] = "whole"
    end_share: float = 0.0
    limit: float = 5.0

    def __post_init__(self) -> None:
        require(self.weight >= 0, "mirror.weight must not be negative")
        require(self.candidates >= 1, f"mirror.candidates must be at least 1, got {self.candidates}")
        require(self.batch_size >= 0, "mirror.batch_size must not be negative (0 means the whole batch)")
        require(0 <= self.gamma <= 1, f"mirror.gamma must be in [0, 1], got {self.gamma}")
        require(0 <= self.end_share <= 1, f"mirror.end_share must be in [0, 1], got {self.end_share}")
        require(self.limit > 0, "mirror.limit must be positive")


@dataclass(frozen=True)
class EntropyConfig:
    """What keeps the policy from becoming deterministic.

    Fields:
        kind: ``hinge``, alpha times how far log sigma lies below log target_std (the paper's threshold as we
            read it); ``bonus``, alpha times the conditional surrogate without a threshold; ``dual``, the
            same with alpha adjusted until the mean log sigma is log target_std; ``semi_implicit``, alpha
            times H_K of ``flows.semi_implicit``, which counts the modes too.
        target_std: standard deviation per dimension that ``hinge`` and ``dual`` ask for. Above 0.
        components: K, fresh mixture components per state (``semi_implicit``). At least 0.
        noise: how their noises are drawn; ``antithetic`` needs an odd K.
        proposal: ``prior``, components of blindly drawn noises, shared by the samples of a state;
            ``learned``, K of its own for each sample, around a network's guess of the noise it came from.
            Needed where I(a; e) is more than log(K + 1): many modes in several dimensions.
        soft_backup: subtract alpha log q_K from the successor's value (not with ``hinge``).
    """

    kind: Literal["hinge", "bonus", "dual", "semi_implicit"] = "hinge"
    target_std: float = 0.0033
    components: int = 8
    noise: Noise = "independent"
    proposal: Literal["prior", "learned"] = "prior"
    soft_backup: bool = False

    def __post_init__(self) -> None:
        require(
            self.proposal == "prior" or (self.kind == "semi_implicit" and self.components >= 1),
            "entropy.proposal learned needs entropy.kind semi_implicit and at least 1 in entropy.components, "
            f"got {self.kind} and {self.components}",
        )
        require(self.target_std > 0, "entropy.target_std must be positive")
        require(self.components >= 0, "entropy.components must not be negative")
        require(
            self.noise != "antithetic" or self.components % 2 == 1 or self.proposal == "learned",
            f"entropy.components must be odd for antithetic pairs, got {self.components}",
        )
        require(
            not (self.soft_backup and self.kind == "hinge"),
            "entropy.soft_backup needs an entropy: set entropy.kind to semi_implicit, bonus or dual",
        )


@dataclass(frozen=True)
class TemperatureConfig(temperature.TemperatureConfig):
    """alpha, the weight of the entropy term.

    ``automatic`` is for ``semi_implicit``; ``dual`` always adjusts alpha, ``hinge`` and ``bonus`` never do.

    Fields:
        anneal_factor: a fixed alpha starts this many times larger and falls geometrically to ``initial`` over
            the first ``anneal_updates`` updates. At a low temperature the modes are walled off from each
            other: those lost early are not found again. Above 0.
        anneal_updates: see ``anneal_factor``; 0 means never. At least 0.
    """

    initial: float = 0.2
    automatic: bool = False
    target_entropy_per_dim: float = -1.0
    maximum: float = 100.0
    anneal_factor: float = 5.0
    anneal_updates: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.anneal_factor > 0, "temperature.anneal_factor must be positive")
        require(self.anneal_updates >= 0, "temperature.anneal_updates must not be negative")


@dataclass(frozen=True)
class SMFPConfig:
    """All of SMFP.

    Fields:
        discount: gamma. From 0 to 1.
    """

    discount: float = 0.99
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be in [0, 1], got {self.discount}")
        require(
            not self.temperature.automatic or self.entropy.kind == "semi_implicit",
            f"temperature.automatic needs entropy.kind semi_implicit, got {self.entropy.kind!r} "
            "(dual adjusts alpha by itself)",
        )
        require(
            not (self.temperature.anneal_updates and self.adjusts_temperature),
            "temperature.anneal_updates is for a fixed alpha; this one is adjusted",
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
        blind = self.entropy.kind == "semi_implicit" and self.entropy.proposal == "prior"
        return max(self.actor.samples, self.entropy.components + 1 if blind else 1)
