"""What a page consists of, and the page as HTML: ``page.html.jinja`` says in which order.

Every text is escaped by the template, once; the figures alone are markup already.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fewstep.analysis.figures import style
from fewstep.analysis.report.sheets import Sheet, shown


@dataclass(frozen=True)
class Panel:
    """A figure and its caption; ``narrow``: the same for small screens, ``wide``: takes the full width."""

    svg: Markup
    caption: str
    narrow: Markup | None = None
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with what is below it, shown in this order; what is empty leaves no trace.

    Attributes:
        heading: empty for none; of a folded section the line to click on.
        figures: side by side where there is room.
        warnings: what weakens the numbers.
        text, sheets: paragraphs and tables.
        more: further figures, below the tables.
        notes: how to read it.
        folded: closed until it is clicked on.
        parts: sections inside.
    """

    heading: str = ""
    figures: Sequence[Panel] = ()
    warnings: Sequence[str] = ()
    text: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    more: Sequence[Panel] = ()
    notes: Sequence[str] = ()
    folded: bool = False
    parts: Sequence["Section"] = ()

    def __bool__(self) -> bool:
        """Whether there is anything below the heading."""
        own = (self.figures, self.warnings, self.text, self.sheets, self.more, self.notes)
        return any(own) or any(self.parts)

    def all_sheets(self) -> Iterator[Sheet]:
        """Its own tables and those of the sections inside."""
        yield from self.sheets
        for part in self.parts:
            yield from part.all_sheets()


@dataclass(frozen=True)
class Page:
    """A report, in the words of its template.

    Attributes:
        title, lead: what it is about.
        missing: what the runs lack, one line each.
        warnings: what weakens all of its numbers.
        many: too many runs to read one by one: the comparison comes first and they are folded.
        curves: returns over training, one section per environment.
        results: returns as tables.
        comparison: variants over tasks.
        released: curves of others beside ours.
        training: what else was learned and logged, one section per environment.
        cost, settings, software, files: the tables at the end.
    """

    title: str
    lead: Sequence[str]
    missing: Sequence[str]
    warnings: Sequence[str]
    many: bool
    curves: Sequence[Section]
    results: Section
    comparison: Section
    released: Section
    training: Sequence[Section]
    cost: Section
    settings: Section
    software: Section
    files: Section

    def sheets(self) -> Iterator[Sheet]:
        """Every table of the page."""
        sections = (self.results, self.comparison, self.released, *self.training, self.cost)
        sections += (self.settings, self.software)
        for section in (*sections, self.files):
            yield from section.all_sheets()


def render(page: Page) -> str:
    """The whole file."""
    # No script, no network: the page can be opened anywhere, and no text of a run can act in it.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = shown
    light = {name: hue for hue, name in style.THEMED.items()}
    template = environment.get_template("page.html.jinja")
    return template.render(page=page, light=light, dark=style.DARK, series=len(style.SERIES))
