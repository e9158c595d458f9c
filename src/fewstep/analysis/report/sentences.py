"""What the report says in words: its title, its first sentences, warnings, and how to read its numbers."""

from collections.abc import Iterable, Sequence

import numpy as np

from fewstep.analysis.numbers import count, duration, listing, number, span
from fewstep.analysis.report.tables import each_run, run_name
from fewstep.analysis.runs.summary import ENOUGH_SEEDS, Group, Variant, cost, modes, results

LONGEST_TITLE = 70


def title(groups: Sequence[Group]) -> str:
    """``sac and td3 on Pendulum-v1``, or how many runs there are if that is too long."""
    on: dict[str, list[str]] = {}
    for group in groups:
        algos = dict.fromkeys(v.runs[0].algo or v.label for v in group.variants)
        envs = on.setdefault(listing(algos), [])
        envs += [group.env] if group.env and group.env not in envs else []
    words = " and ".join(f"{algos} on {listing(envs)}" if envs else algos for algos, envs in on.items())
    if len(words) <= LONGEST_TITLE:
        return words
    runs, envs = sum(len(group.runs) for group in groups), {group.env for group in groups}
    return f"{count(runs, 'run')} on {count(len(envs), 'environment')}"


def lead(groups: Sequence[Group]) -> list[str]:
    """What the page is about, in one paragraph above the first figure."""
    variants = [(group, variant) for group in groups for variant in group.variants]
    if len(variants) == 1:
        return [sentences(*variants[0])]
    runs = [run for group in groups for run in group.runs]
    steps = [int(steps) for run in runs if np.isfinite(steps := cost(run).env_steps)]
    seeds = _amount((len(variant.seeds) for _, variant in variants), "seed")
    known = [f"{count(len(variants), 'variant')} with {seeds} each"]
    known += [f"{_amount(steps, 'environment step')} each"] if steps else []
    versions = dict.fromkeys(run.simulator for run in runs if run.simulator)
    known += [listing(versions)] if versions else []
    return [f"{count(len(runs), 'run')}: {'; '.join(known)}."]


def _amount(values: Iterable[int], noun: str) -> str:
    """``1 seed``, ``1 to 3 seeds``."""
    words = span(values)
    return f"{words} {noun}{'' if words == '1' else 's'}"


def sentences(group: Group, variant: Variant) -> str:
    """What was run, and what came of it."""
    runs, several = variant.seeds, len(variant.seeds) > 1
    seeds = [run.seed for run in runs if run.seed]
    steps = [cost(run).env_steps for run in runs]
    where = [f"on {group.title}"] if group.title else []
    if seeds:
        where.append(f"with {len(runs)} seeds ({listing(seeds)})" if several else f"with seed {seeds[0]}")
    if np.isfinite(steps).all():
        each = " each" if several and len(set(steps)) == 1 else ""
        where.append(f"for {_amount(map(int, steps), 'environment step')}{each}")
    words = [" ".join([variant.label, "trained", *where]) + "."]
    words += _returns(variant)
    minutes = [cost(run).minutes for run in runs]
    if np.isfinite(minutes).any():
        words.append(f"{'A seed' if several else 'It'} took {duration(float(np.nanmean(minutes)))}.")
    return " ".join(words)


def _returns(variant: Variant) -> list[str]:
    if not modes(variant.seeds):
        return [] if all(run.is_saved_model for run in variant.seeds) else ["It was never evaluated."]
    ends, means, averaged = [], [], []
    for mode in modes(variant.seeds):
        found = [result for run in variant.seeds for result in results(run) if result.actions == mode]
        ends.append(f"{number(float(np.mean([r.final for r in found])))} ({mode})")
        means.append(f"{number(float(np.mean([r.last for r in found])))} ({mode})")
        averaged += [result.averaged for result in found]
    over = " averaged over seeds" if len(variant.seeds) > 1 else ""
    words = [f"Mean return of the last evaluation{over}: {listing(ends)}."]
    if max(averaged) > 1:
        words.append(f"Mean of the last {span(averaged)} evaluations: {listing(means)}.")
    return words


def warnings(groups: Sequence[Group]) -> list[str]:
    """What forbids or weakens a comparison."""
    found = []
    evaluated = [(g, v) for g in groups for v in g.variants if modes(v.runs)]
    few = [
        f"{v.label} on {g.env} ({count(len(v.seeds), 'seed')})"
        for g, v in evaluated
        if len(v.seeds) < ENOUGH_SEEDS
    ]
    twice = [f"{v.label} on {g.env}" for g, v in evaluated if len(v.seeds) < len(v.runs)]
    if twice:
        found.append(
            f"A seed is there twice: {listing(twice)}. The first run of it counts in means over seeds."
        )
    if few:
        found.append(
            f"Fewer than {ENOUGH_SEEDS} seeds: {listing(few)}. Returns differ much between seeds; these "
            "numbers do not say how much."
        )
    cut = [
        f"{v.label} on {g.env}" for g, v in evaluated if any(e.cut for run in v.runs for e in run.evaluations)
    ]
    if cut:
        found.append(
            f"Evaluation episodes were cut before they had ended (training.eval_max_steps): {listing(cut)}. "
            "Their returns are not whole ones, and a change of that setting changes them."
        )
    for env in dict.fromkeys(group.env for group in groups):
        versions = [
            group.simulator or "a version that was not recorded" for group in groups if group.env == env
        ]
        if len(versions) > 1:
            found.append(
                f"{env} was run under {listing(versions)}. That changes returns, so these runs "
                "are shown apart and not averaged."
            )
    uneven = [
        f"{v.label} on {g.env}"
        for g, v in evaluated
        if len({steps for run in v.runs if np.isfinite(steps := cost(run).env_steps)}) > 1
    ]
    if uneven:
        found.append(
            f"Seeds stopped at different steps: {listing(uneven)}. Their mean mixes stages of training."
        )
    return found


def missing(groups: Sequence[Group]) -> list[str]:
    """What the runs lack, one line each."""
    return [
        f"{run_name(variant, run)} ({run.path}): {problem}"
        for _, variant, run in each_run(groups)
        for problem in run.problems
    ]


def reading(groups: Sequence[Group]) -> list[str]:
    """How to read the returns."""
    found = [result for _, _, run in each_run(groups) for result in results(run)]
    if not found:
        return []
    averaged = span(result.averaged for result in found)
    words = [
        f"Final: mean return of the last evaluation. Last {averaged}: mean over the last {averaged} "
        "evaluations. Best: the highest evaluation, a maximum over noise and so biased upwards. Area: mean "
        "return along training (area under the curve divided by its width)."
    ]
    if any(result.actions.startswith("best-of-") for result in found):
        words.append(
            "Best-of-N draws N actions and takes the one the critics prefer; it is another policy than the "
            "single sample, so the two are never mixed."
        )
    return [" ".join(words)]
