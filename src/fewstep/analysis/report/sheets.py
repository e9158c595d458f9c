"""Tables as data, and as HTML, CSV and LaTeX: the same rows wherever they are read."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.analysis.numbers import NOTHING, number
from fewstep.analysis.report import html as page
from fewstep.analysis.statistics.aggregates import Estimate

Cell = str | int | float | Estimate


@dataclass(frozen=True)
class Sheet:
    """A table.

    Fields:
        name: stem of its files.
        caption: what the numbers are.
        head: a name per column.
        rows: cells; an ``Estimate`` is a number with its interval.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def to_html(sheet: Sheet) -> str:
    """The table for the page."""
    columns = [[row[place] for row in sheet.rows] for place in range(len(sheet.head))]
    align = "".join("l" if _words(column) else "n" for column in columns)
    return page.table(
        sheet.head, [[_shown(cell) for cell in row] for row in sheet.rows], align, sheet.caption
    )


def to_csv(sheet: Sheet) -> str:
    """Full precision, empty where there is no number; an estimate takes three columns (value, low, high)."""
    wide = [any(isinstance(row[i], Estimate) for row in sheet.rows) for i in range(len(sheet.head))]
    head = [
        title
        for name, three in zip(sheet.head, wide, strict=True)
        for title in ([name, f"{name} low", f"{name} high"] if three else [name])
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for row in sheet.rows:
        writer.writerow([value for cell in row for value in _exact(cell)])
    return buffer.getvalue()


def to_latex(sheet: Sheet) -> str:
    """A plain ``tabular`` that needs no package; the caption is a comment above it."""
    columns = [[row[place] for row in sheet.rows] for place in range(len(sheet.head))]
    align = "".join("l" if _words(column) else "r" for column in columns)
    lines = [" & ".join(map(_escaped, sheet.head))]
    body = [" & ".join(_escaped(_shown(cell)) for cell in row) for row in sheet.rows]
    caption = "% " + " ".join(sheet.caption.split())
    inside = "".join(f"{line} \\\\\n" for line in lines) + "\\hline\n" + "".join(f"{x} \\\\\n" for x in body)
    return f"{caption}\n\\begin{{tabular}}{{{align}}}\n\\hline\n{inside}\\hline\n\\end{{tabular}}\n"


def _words(column: Sequence[Cell]) -> bool:
    return all(isinstance(cell, str) for cell in column)


def _shown(cell: Cell) -> str:
    """A cell as people read it: ``0.812 [0.710, 0.900]``; the interval is left out where there is none."""
    if isinstance(cell, Estimate):
        interval = f" [{number(cell.low)}, {number(cell.high)}]" if math.isfinite(cell.low) else ""
        return number(cell.value) + interval
    return cell if isinstance(cell, str) else number(cell)


def _exact(cell: Cell) -> list[str]:
    if isinstance(cell, Estimate):
        return [value for part in (cell.value, cell.low, cell.high) for value in _exact(part)]
    if isinstance(cell, str):
        return ["" if cell == NOTHING else cell]
    return [repr(cell) if math.isfinite(cell) else ""]


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": "$<$",
    ">": "$>$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
}


def _escaped(text: str) -> str:
    """Text that LaTeX prints as it is; a bracket at its start is no argument of the row before."""
    plain = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return re.sub(r"^\[", "{[}", plain)
