"""Which figures a run's metrics deserve, with the line under each that says how to read it."""

import math
from collections.abc import Sequence

import numpy as np

from fewstep.analysis.figures.curves import Line, lines, metric
from fewstep.analysis.numbers import short
from fewstep.analysis.report.html import Panel, Section
from fewstep.analysis.report.metrics import COURSE, LOSSES, SHOWN_APART, VALUES, Plain
from fewstep.analysis.report.policy_metrics import DIFFUSION, FLOW, MIXTURE, OLD_POLICY
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import Variant


def sections(variant: Variant, prefix: str) -> list[Section]:
    """The metrics of one variant by what they are about; those it did not log leave no gap."""
    runs = variant.runs
    plain = (*LOSSES, *VALUES, *MIXTURE, *DIFFUSION, *FLOW, *OLD_POLICY, *COURSE)
    known = {p.metric for p in plain} | set(SHOWN_APART)
    names = dict.fromkeys(name for run in runs for name in run.metric_names())
    others = tuple(Plain(name, name, "value", "") for name in names if name not in known)
    found = [
        ("Entropy and temperature", _entropy(runs, f"{prefix}e")),
        ("Proposals of the velocity estimate", _proposals(runs, f"{prefix}p")),
        ("Mixture and mirror descent", _mixture(runs, f"{prefix}m")),
        ("Diffusion policy", _plain(DIFFUSION, runs, f"{prefix}d")),
        ("Flow policy", _plain(FLOW, runs, f"{prefix}w")),
        ("Steps from an old policy", _plain(OLD_POLICY, runs, f"{prefix}o")),
        ("Losses", _plain(LOSSES, runs, f"{prefix}l")),
        ("Values and actions", _plain(VALUES, runs, f"{prefix}v")),
        ("Course of training", _plain(COURSE, runs, f"{prefix}c")),
        ("Other metrics", _plain(others, runs, f"{prefix}x")),
    ]
    return [Section(heading, figures=panels) for heading, panels in found if panels]


def _plain(wanted: Sequence[Plain], runs: Sequence[Run], prefix: str) -> list[Panel]:
    panels = []
    for index, plain in enumerate(wanted):
        line = metric(runs, plain.metric, scale=plain.scale)
        if line.curves:
            svg = lines(plain.title, [line], f"{prefix}{index}", plain.axis, floor=plain.floor)
            panels.append(Panel(svg, plain.caption))
    return panels


def _entropy(runs: Sequence[Run], prefix: str) -> list[Panel]:
    panels = []
    entropy = metric(runs, "policy/entropy", "used")
    conditional = metric(runs, "policy/conditional_entropy", "given e")
    if entropy.curves:
        target, size = runs[0].setting("temperature", "target_entropy_per_dim"), runs[0].act_size
        steered = runs[0].section("temperature").get("automatic", True)
        known = steered and size is not None and math.isfinite(target)
        reference = ("target", target * size) if known and size else None
        caption = "Estimated entropy of the policy" + (
            f"; dashed: the target that the temperature steers to ({short(target)} per action dimension)."
            if known
            else "; higher is more varied."
        )
        shown = [entropy]
        if conditional.curves and runs[0].section("entropy").get("kind") == "semi_implicit":
            shown.append(conditional)
            caption += " Used: the bound H_K. Given e: the surrogate that cannot see what e chooses."
        svg = lines("Policy entropy", shown, f"{prefix}0", "entropy (nats)", reference=reference)
        panels.append(Panel(svg, caption))
    alpha = metric(runs, "temperature/alpha")
    if alpha.curves:
        values = np.concatenate([curve[1] for curve in alpha.curves])
        log = bool(values.min() > 0 and values.max() > 3 * values.min())
        # A fixed alpha is logged with the rounding of float32, which is not worth a magnifying glass.
        fixed = bool(np.ptp(values) < 1e-4 * np.abs(values).max())
        floor = 0.0 if fixed else None
        svg = lines("Temperature α", [alpha], f"{prefix}1", "return per nat", log=log, floor=floor)
        note = "Logarithmic axis. " if log else ""
        said = "Fixed." if fixed else f"{note}Falls when the policy is more random than its target."
        panels.append(Panel(svg, said))
    return panels


def _mixture(runs: Sequence[Run], prefix: str) -> list[Panel]:
    panels = []
    log_std = metric(runs, "policy/log_std")
    if log_std.curves:
        threshold = runs[0].setting("entropy", "target_std")
        asked = runs[0].section("entropy").get("kind") in ("hinge", "dual") and threshold > 0
        reference = ("threshold", math.log(threshold)) if asked else None
        svg = lines("log σ, mean over coordinates", [log_std], f"{prefix}s", "log σ", reference=reference)
        said = "Dashed: log target_std." if asked else "Of a component, given the noise e."
        panels.append(Panel(svg, said))
    return panels + _plain(MIXTURE, runs, f"{prefix}p")


def _proposals(runs: Sequence[Run], prefix: str) -> list[Panel]:
    panels = []
    counts = [runs[0].setting("proposals", key) for key in ("policy", "gaussian")]
    shares = all(math.isfinite(k) and k > 0 for k in counts)
    scales = [100 / k for k in counts] if shares else [1.0, 1.0]
    series: list[Line] = [
        metric(runs, f"snis/ess_{key}", key, scale)
        for key, scale in zip(("policy", "gaussian"), scales, strict=True)
    ]
    series = [line for line in series if line.curves]
    if series:
        axis = "% of proposals" if shares else "proposals"
        drawn = f" Of {counts[0]:g} policy and {counts[1]:g} Gaussian proposals." if shares else ""
        ceiling = 100 if shares else None
        svg = lines("Effective sample size", series, f"{prefix}0", axis, floor=0, ceiling=ceiling)
        panels.append(Panel(svg, "Low means a few proposals carry the whole estimate." + drawn))
    rho = metric(runs, "snis/rho")
    if rho.curves:
        svg = lines("Weight ρ of the policy proposal", [rho], f"{prefix}1", "ρ", floor=0, ceiling=1)
        panels.append(Panel(svg, "Share of the velocity estimate that comes from the policy's own samples."))
    return panels
