"""Runs in, one HTML file out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewstep.analysis import comparison_section, page, style, tables, toy_comparison, toys
from fewstep.analysis.comparison import DEFAULT_SCORE, Comparison, comparisons
from fewstep.analysis.export import export
from fewstep.analysis.figures import NARROW, WIDE, learning_curve, learning_figure
from fewstep.analysis.panels import Panel, sections
from fewstep.analysis.reading import Run, read_run
from fewstep.analysis.summary import ENOUGH_SEEDS, LAST, Group, Variant, cost, group_runs, modes, results
from fewstep.analysis.words import count, duration, listing, number
from fewstep.errors import FewstepError, UsageError

PICTURES = (".svg", ".png")


def write_report(
    runs: Sequence[Path], out: Path, exports: Path | None = None, score: str = DEFAULT_SCORE
) -> Path:
    """Write one self-contained HTML file about one or more runs; the same runs give the same bytes.

    Runs that crashed or are incomplete are reported with what they hold and a list of what they lack.

    Args:
        runs: run directories.
        out: the file to write; missing parent directories are made.
        exports: a directory for the tables as CSV and LaTeX and the figures as SVG and PDF, or None.
        score: what comparisons take as the score of a run, a key of ``comparison.SCORES``.

    Returns:
        ``out``.

    Raises:
        UsageError: no runs, a path that is not a run, or an unknown score.
        FewstepError: ``out`` or ``exports`` cannot be written.
    """
    groups = group_runs(_read(runs))
    found = comparisons(groups, score)
    html = render(groups, found)
    if exports is not None:
        export(groups, found, exports)
    return _save(out, html.encode("utf-8"))


def write_figure(runs: Sequence[Path], out: Path) -> Path:
    """Save the learning curve alone, on white, as ``.svg`` or ``.png`` (by the ending of ``out``).

    Raises:
        UsageError: no runs, a path that is not a run, another ending, runs of more than one environment or
            MuJoCo version, or no evaluation to draw.
        FewstepError: ``out`` cannot be written.
    """
    if out.suffix not in PICTURES:
        raise UsageError(f"cannot write a figure to {out}; its name must end in {' or '.join(PICTURES)}")
    groups = group_runs(_read(runs))
    if len(groups) > 1:
        places = listing(group.title for group in groups)
        raise UsageError(f"one figure shows one environment under one mujoco version, these are {places}")
    if not modes(groups[0].runs):
        raise UsageError("these runs have no evaluations to draw")
    with style.styled():
        figure = learning_figure(groups[0], (7.2, 3.4))
        figure.set_facecolor("white")
        figure.axes[0].set_title(f"Return per episode, {groups[0].title}")
        return _save(out, style.to_file(figure, out.suffix[1:]))


def _read(paths: Sequence[Path]) -> list[Run]:
    if not paths:
        raise UsageError("a report needs at least one run directory")
    return [read_run(path) for path in paths]


def _save(out: Path, data: bytes) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise FewstepError(f"cannot write {out}: {error.strerror}") from error
    return out


def render(groups: Sequence[Group], found: Sequence[Comparison] = ()) -> str:
    """The page as text."""
    title = " and ".join(dict.fromkeys(f"{v.runs[0].algo} on {g.env}" for g in groups for v in g.variants))
    if len(title) > 70:
        number_of_runs, envs = sum(len(g.runs) for g in groups), {g.env for g in groups}
        title = f"{count(number_of_runs, 'run')} on {count(len(envs), 'environment')}"
    folded = bool(found) and sum(len(group.runs) for group in groups) > MANY
    parts = [page.heading(1, title)]
    warned = [page.paragraph(warning, "warn") for warning in warnings(groups)]
    single = "".join(tables.returns_table(group) + tables.seeds_table(group) for group in groups)
    single += page.paragraph(READING, "note") + tables.costs_table(groups)
    figures = [_group(group, index) for index, group in enumerate(groups)]
    if folded:
        parts += [comparison_section.section(found), page.heading(2, "Every run"), *warned, _problems(groups)]
        parts.append(page.details("Returns and cost of every run", single))
        parts += [page.details(f"Figures of {g.title}", f) for g, f in zip(groups, figures, strict=True)]
    else:
        parts += [page.paragraph(sentences(g, v), "lead") for g in groups for v in g.variants]
        parts += [*warned, single, _problems(groups), comparison_section.section(found), *figures]
    parts.append(_records(groups))
    return page.document(f"{title}: fewstep report", "".join(parts))


MANY = 6
"""With more runs than this, a comparison comes first and what is about single runs is folded."""


READING = (
    f"Final: mean return of the last evaluation. Last {LAST}: mean over the last {LAST} evaluations. Best: "
    "the highest evaluation, a maximum over noise and so biased upwards. Area: mean return along training "
    "(area under the curve divided by its width). Best-of-N draws N actions and takes the one the critics "
    "prefer; it is another policy than the single sample, so the two are never mixed."
)


def sentences(group: Group, variant: Variant) -> str:
    """What a reader should know before anything else, in words."""
    runs = variant.runs
    seeds = (
        f"seed {runs[0].seed}" if len(runs) == 1 else f"{len(runs)} seeds ({listing(r.seed for r in runs)})"
    )
    steps = [cost(run).env_steps for run in runs]
    spans = sorted({number(value) for value in steps}, key=lambda t: (len(t), t))
    span = spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
    each = " each" if len(runs) > 1 and len(spans) == 1 else ""
    words = [f"{variant.label} trained on {group.title} with {seeds} for {span} environment steps{each}."]
    ends, tens = [], []
    for mode in modes(runs):
        found = [result for run in runs for result in results(run) if result.actions == mode]
        ends.append(f"{number(float(np.mean([r.final for r in found])))} ({mode})")
        tens.append(f"{number(float(np.mean([r.last_ten for r in found])))} ({mode})")
    over = " averaged over seeds" if len(runs) > 1 else ""
    if ends:
        words.append(f"Mean return of the last evaluation{over}: {listing(ends)}.")
        words.append(f"Mean of the last ten evaluations: {listing(tens)}.")
    else:
        words.append("It was never evaluated.")
    minutes = [cost(run).minutes for run in runs]
    if np.isfinite(minutes).any():
        words.append(f"{'A seed' if len(runs) > 1 else 'It'} took {duration(float(np.nanmean(minutes)))}.")
    return " ".join(words)


def warnings(groups: Sequence[Group]) -> list[str]:
    """What forbids or weakens a comparison."""
    found = []
    few = [
        f"{v.label} on {g.env} ({count(len(v.runs), 'seed')})"
        for g in groups
        for v in g.variants
        if len(v.runs) < ENOUGH_SEEDS
    ]
    if few:
        found.append(
            f"Fewer than {ENOUGH_SEEDS} seeds: {listing(few)}. Returns differ much between seeds; these "
            "numbers do not say how much."
        )
    cut = [f"{v.label} on {g.env}" for g in groups for v in g.variants if _cut(v)]
    if cut:
        found.append(
            f"Evaluation episodes were cut before they had ended (training.eval_max_steps): {listing(cut)}. "
            "Their returns are not whole ones, and a change of that setting changes them."
        )
    for env in dict.fromkeys(group.env for group in groups):
        versions = [group.mujoco for group in groups if group.env == env]
        if len(versions) > 1:
            found.append(
                f"{env} was run under MuJoCo {listing(versions)}. The version changes returns, so these runs "
                "are shown apart and not averaged."
            )
    uneven = [
        f"{v.label} on {g.env}"
        for g in groups
        for v in g.variants
        if len({cost(r).env_steps for r in v.runs}) > 1
    ]
    if uneven:
        found.append(
            f"Seeds stopped at different steps: {listing(uneven)}. Their mean mixes stages of training."
        )
    return found


def _cut(variant: Variant) -> bool:
    return any(evaluation.cut for run in variant.runs for evaluation in run.evaluations)


def _problems(groups: Sequence[Group]) -> str:
    items = [
        f"{tables.run_name(v, run)} ({run.path}): {problem}"
        for g in groups
        for v in g.variants
        for run in v.runs
        for problem in run.problems
    ]
    return page.heading(3, "Missing or damaged") + page.bullets(items) if items else ""


def _group(group: Group, index: int) -> str:
    """Figures of one environment."""
    parts = [page.heading(2, group.title)]
    if modes(group.runs):
        seeds = listing(dict.fromkeys(count(len(v.runs), "seed") for v in group.variants))
        caption = f"Every evaluation. Faint dots: single episodes; line: mean over episodes and {seeds}" + (
            "; thin lines: each seed." if any(len(v.runs) > 1 for v in group.variants) else "."
        )
        parts.append(
            page.figures(
                [
                    Panel(
                        learning_curve(group, f"g{index}w", WIDE),
                        caption,
                        narrow=learning_curve(group, f"g{index}n", NARROW),
                        wide=True,
                    )
                ]
            )
        )
    parts.append(toy_comparison.section(group.variants, f"d{index}-"))
    level = 4 if len(group.variants) > 1 else 3
    for place, variant in enumerate(group.variants):
        if len(group.variants) > 1:
            parts.append(page.heading(3, variant.label))
        parts += [toys.section(run, f"t{index}-{place}-{i}", level) for i, run in enumerate(variant.runs)]
        for heading, panels in sections(variant, f"m{index}-{place}"):
            parts.append(page.heading(level, heading) + page.figures(panels))
    return "".join(parts)


def _records(groups: Sequence[Group]) -> str:
    """Configuration, versions, provenance, files."""
    variants = [variant for group in groups for variant in group.variants]
    named = [(tables.run_name(v, run), run) for v in variants for run in v.runs]
    parts = [page.heading(2, "Configuration")]
    apart = tables.differences_table(variants) if len(variants) > 1 else ""
    if apart:
        parts.append(page.paragraph("Settings that differ between these runs:") + apart)
    parts += [
        page.details(f"All settings of {v.label} on {v.runs[0].env}", tables.config_table(v.runs[0]))
        for v in variants
    ]
    parts.append(page.heading(2, "Versions and provenance") + tables.versions_table(named))
    parts += [page.details(f"Provenance of {name}", tables.provenance_table(run)) for name, run in named]
    parts.append(page.heading(2, "Files"))
    parts += [page.details(f"{run.path}", tables.files_table(run)) for _, run in named]
    return "".join(parts)
