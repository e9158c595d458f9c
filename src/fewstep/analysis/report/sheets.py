"""Tables as data, for the page, CSV and LaTeX: the same rows wherever they are read."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewstep.analysis.numbers import NOTHING, number
from fewstep.analysis.statistics.aggregates import Estimate

Cell = str | int | float | Estimate | None
"""None, an empty text and what is not finite are absent: a dash to read, nothing in CSV."""

LONG = 40
"""Letters from which words may wrap."""


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: stem of its files, one of a kind in a report.
        caption: what the numbers are.
        head: a name per column.
        rows: cells; an ``Estimate`` is a number with its interval.
        colours: a series colour per row, for a dot on the page; empty for none.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    colours: Sequence[int] = ()

    @property
    def kinds(self) -> list[str]:
        """One letter per column: ``n`` numbers, ``l`` words, ``w`` words that may wrap."""
        columns = [[row[place] for row in self.rows] for place in range(len(self.head))]
        return [_kind(column) for column in columns]


def filled(sheet: Sheet) -> Sheet:
    """The sheet without the columns in which every cell is absent."""
    kept = [i for i in range(len(sheet.head)) if any(not _absent(row[i]) for row in sheet.rows)]
    rows = [[row[i] for i in kept] for row in sheet.rows]
    return replace(sheet, head=[sheet.head[i] for i in kept], rows=rows)


def shown(cell: Cell) -> str:
    """A cell as people read it: ``0.812 [0.710, 0.900]``; the interval is left out where there is none."""
    if cell is None or _absent(cell):
        return NOTHING
    if isinstance(cell, Estimate):
        ends = f"[{number(cell.low)},\N{NO-BREAK SPACE}{number(cell.high)}]"  # a line may end before it only
        return number(cell.value) + (f" {ends}" if math.isfinite(cell.low) else "")
    return cell if isinstance(cell, str) else number(cell)


def to_csv(sheet: Sheet) -> str:
    """Full precision, empty where there is nothing; an estimate takes three columns (value, low, high)."""
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
    align = "".join("r" if kind == "n" else "l" for kind in sheet.kinds)
    lines = [" & ".join(map(_escaped, sheet.head))]
    body = [" & ".join(_escaped(shown(cell)) for cell in row) for row in sheet.rows]
    caption = "% " + " ".join(sheet.caption.split())
    inside = "".join(f"{line} \\\\\n" for line in lines) + "\\hline\n" + "".join(f"{x} \\\\\n" for x in body)
    return f"{caption}\n\\begin{{tabular}}{{{align}}}\n\\hline\n{inside}\\hline\n\\end{{tabular}}\n"


def _kind(column: Sequence[Cell]) -> str:
    words = [cell for cell in column if isinstance(cell, str)]
    if len(words) < sum(cell is not None for cell in column):
        return "n"
    return "w" if any(len(cell) > LONG for cell in words) else "l"


def _absent(cell: Cell) -> bool:
    if isinstance(cell, Estimate):
        return not math.isfinite(cell.value)
    return cell is None or cell == "" or (isinstance(cell, float) and not math.isfinite(cell))


def _exact(cell: Cell) -> list[str]:
    if isinstance(cell, Estimate):
        return [value for part in (cell.value, cell.low, cell.high) for value in _exact(part)]
    if _absent(cell):
        return [""]
    return [cell if isinstance(cell, str) else repr(cell)]


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
