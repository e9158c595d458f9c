"""Runs in, one HTML file out."""

from collections.abc import Sequence
from pathlib import Path

from fewstep.analysis.figures import style
from fewstep.analysis.figures.curves import BINS, NARROW, WIDE, learning_curve, learning_figure
from fewstep.analysis.numbers import listing, span
from fewstep.analysis.report import comparison as comparison_section
from fewstep.analysis.report import released as released_section
from fewstep.analysis.report import sentences, tables, toy_comparison, toys
from fewstep.analysis.report.files import export
from fewstep.analysis.report.html import Page, Panel, Section, render
from fewstep.analysis.report.panels import sections
from fewstep.analysis.report.sheets import Sheet
from fewstep.analysis.runs.reading import Run, read_run
from fewstep.analysis.runs.released import Released, read_curves
from fewstep.analysis.runs.summary import Group, group_runs, modes
from fewstep.analysis.statistics.comparison import DEFAULT_SCORE, Comparison, comparisons
from fewstep.errors import FewstepError, UsageError

PICTURES = (".svg", ".png")
MANY = 6
"""With more runs than this, a comparison comes first and what is about single runs is folded."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    exports: Path | None = None,
    score: str = DEFAULT_SCORE,
    against: Sequence[Path] = (),
) -> Path:
    """Write one self-contained HTML file about one or more runs; the same runs give the same bytes.

    Runs that crashed or are incomplete are reported with what they hold and a list of what they lack.

    Args:
        runs: run directories.
        out: the file to write; missing parent directories are made.
        exports: a directory for the tables as CSV and LaTeX and the figures as SVG and PDF, or None.
        score: what comparisons take as the score of a run, a key of ``comparison.SCORES``.
        against: files of curves that others have released (``released.read_curves``), to set beside ours.

    Returns:
        ``out``.

    Raises:
        UsageError: no runs, a path that is not a run, runs that hold nothing to show, or an unknown score.
        FewstepError: ``out`` or ``exports`` cannot be written.
    """
    groups = group_runs(_read(runs))
    found = comparisons(groups, score)
    names = [path.name for path in against]
    released = [
        read_curves(path, path.name if names.count(path.name) == 1 else str(path)) for path in against
    ]
    page = arrange(groups, found, released)
    html = render(page)
    if exports is not None:
        export(page, groups, found, exports)
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
        raise UsageError(
            f"one figure shows one environment under one version of its simulator, these are {places}"
        )
    if not modes(groups[0].runs):
        raise UsageError("these runs have no evaluations to draw")
    with style.styled():
        figure = learning_figure(groups[0], (7.2, 3.4))
        return _save(out, style.to_file(figure, out.suffix[1:]))


def _read(paths: Sequence[Path]) -> list[Run]:
    if not paths:
        raise UsageError("a report needs at least one run directory")
    seen = set[Path]()
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path} is given twice")
        seen.add(path.resolve())
    runs = [read_run(path) for path in paths]
    if all(run.is_blank for run in runs):
        where = listing(str(run.path) for run in runs)
        raise UsageError(f"there is nothing to show: {where} has no settings, metrics, evaluations or policy")
    return runs


def _save(out: Path, data: bytes) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise FewstepError(f"cannot write {out}: {error.strerror}") from error
    return out


def arrange(
    groups: Sequence[Group], found: Sequence[Comparison] = (), released: Sequence[Released] = ()
) -> Page:
    """Everything the page shows; ``page.html.jinja`` says in which order."""
    many = bool(found) and sum(len(group.runs) for group in groups) > MANY
    variants = [(group, variant) for group in groups for variant in group.variants]
    each = [] if many or len(variants) == 1 else [sentences.sentences(*place) for place in variants]
    returns = [sheet for sheet in (tables.runs_sheet(groups), tables.seeds_sheet(groups)) if sheet.rows]
    results = "Returns of every run" if many else "Results"
    return Page(
        title=sentences.title(groups),
        lead=sentences.lead(groups),
        missing=sentences.missing(groups),
        warnings=sentences.warnings(groups),
        many=many,
        curves=[_curve(group, index, many) for index, group in enumerate(groups)],
        results=Section(results, text=each, sheets=returns, notes=sentences.reading(groups), folded=many),
        comparison=comparison_section.section(found),
        released=released_section.section(groups, released),
        training=[_training(group, index, many) for index, group in enumerate(groups)],
        cost=_tabular("Cost of every run" if many else "Cost", tables.costs_sheet(groups), folded=many),
        settings=Section("Settings", parts=_settings(groups)),
        software=Section("Software", parts=_software(groups)),
        files=_tabular("Files", tables.files_sheet(groups), folded=True),
    )


def _tabular(heading: str, sheet: Sheet, folded: bool = False) -> Section:
    return Section(heading, sheets=[sheet] if sheet.rows else [], folded=folded)


def _curve(group: Group, index: int, folded: bool) -> Section:
    """Returns over training in one environment; empty without evaluations."""
    if not modes(group.runs):
        return Section()
    seeds = span(len(variant.seeds) for variant in group.variants)
    caption = "Every evaluation. Faint dots: single episodes; line: mean over episodes" + (
        f" and {seeds} seeds; thin lines: each seed." if seeds != "1" else "."
    )
    wide, narrow = learning_curve(group, f"g{index}w", WIDE), learning_curve(group, f"g{index}n", NARROW)
    panel = Panel(wide, caption, narrow, wide=True)
    return Section(f"Every return on {group.title}" if folded else "", figures=[panel], folded=folded)


def _training(group: Group, index: int, folded: bool) -> Section:
    """What was learned on a toy, and what was logged while training."""
    parts = [toy_comparison.section(group.variants, f"d{index}-")]
    several = len(group.variants) > 1
    for place, variant in enumerate(group.variants):
        own: list[Section] = []
        for seed, run in enumerate(variant.runs):
            name = f"{variant.label}-{seed if not run.seed else run.seed}-{place}"
            own.append(toys.section(run, name, f"t{index}-{place}-{seed}"))
        own += sections(variant, f"m{index}-{place}")
        parts += [Section(variant.label, parts=own)] if several else own
    heading = f"Training on {group.title}" if group.title else "Training"
    notes = [LINES] if any(len(run.metrics) > BINS for run in group.runs) else []
    return Section(heading, parts=parts, notes=notes, folded=folded)


LINES = f"Of more than {BINS} logged rows, lines show means of equal shares, shaded from lowest to highest."


def _settings(groups: Sequence[Group]) -> list[Section]:
    apart = tables.differences_sheet(groups)
    differ = [Section(sheets=[apart])] if apart.rows else []
    return [*differ, _tabular("All settings", tables.settings_sheet(groups), folded=True)]


def _software(groups: Sequence[Group]) -> list[Section]:
    versions = _tabular("", tables.versions_sheet(groups))
    return [versions, _tabular("Provenance", tables.provenance_sheet(groups), folded=True)]
