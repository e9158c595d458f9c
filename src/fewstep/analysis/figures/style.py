"""How figures look and become SVG: fixed style, no metadata, colours that follow the page's theme."""

import io
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from fewstep.analysis.numbers import number, short

INK, MUTED, RULE = "#1b1b1f", "#65656c", "#dadadf"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0479a", "#b98300", "#4b4bb5")
"""Okabe and Ito's colour-blind-safe hues, the last three darkened to read as lines on white."""

THEMED = {INK: "ink", MUTED: "muted", RULE: "rule", **{hue: f"s{i}" for i, hue in enumerate(SERIES)}}
"""Colours that become CSS variables in the page, so that one figure serves light and dark."""

DARK = {
    "ink": "#ececf1",
    "muted": "#a3a3ad",
    "rule": "#3a3a42",
    "s0": "#56b4e9",
    "s1": "#f58a4b",
    "s2": "#2fc79a",
    "s3": "#e08fd0",
    "s4": "#eec04a",
    "s5": "#a0a0f5",
}

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names come from files: a dollar sign is a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "fewstep",
    "svg.id": None,
    "image.composite_image": False,
}

LEFT, BOTTOM, TOP = 0.78, 0.46, 0.34
"""Margins of a panel in inches: for the label and numbers on its left, those below it, and its title."""

PANEL = (4.7, 2.5)
"""Inches of a figure that keeps readable type on a phone."""


def styled():
    """Context in which figures must be made and saved: ours alone, whatever matplotlibrc says."""
    return matplotlib.style.context(["default", STYLE])


def panel(size: tuple[float, float] = PANEL, right: float = 0.15) -> tuple[Figure, Axes]:
    """One pair of axes with fixed margins (inches), so that panels beside each other line up."""
    width, height = size
    figure = Figure(figsize=size)
    box = (LEFT / width, BOTTOM / height, 1 - (LEFT + right) / width, 1 - (BOTTOM + TOP) / height)
    return figure, figure.add_axes(box)


def quantity(axes: Axes, words: str) -> None:
    """What the heights mean, with unit, left in a margin of ``LEFT``: in line with other panels."""
    axes.set_ylabel(words)
    inches = axes.get_window_extent().width / axes.figure.dpi
    axes.yaxis.set_label_coords(-(LEFT - 0.12) / inches, 0.5)


class Ticks(Formatter):
    """Thousands separators, and as many decimals on every tick as the finest of them needs."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """One tick on its own."""
        return number(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """All ticks of an axis."""
        sizes = [abs(v) for v in values if v]
        if sizes and (max(sizes) >= 1e9 or max(sizes) < 1e-3):
            return [number(v) for v in values]
        plain = [f"{v:.10f}".rstrip("0").split(".") for v in values]
        decimals = min(max((len(p[1]) for p in plain), default=0), 6)
        return [f"{v:,.{decimals}f}".replace("-", "−") if v else "0" for v in values]


def step_axis(axes: Axes, end: float, unit: str = "environment steps") -> None:
    """Steps from 0 to ``end`` below, quantities upwards."""
    axes.set_xlabel(unit)
    axes.set_xlim(0, (end or 1) * 1.015)
    inches = axes.get_window_extent().width / axes.figure.dpi
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(inches * 1.3)), steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(Ticks())
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1,) if high / low > 300 else (1, 2, 5), numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: short(y)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(Ticks())


def dots(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, diameter: float, alpha: float) -> None:
    """Many dots as one path (short strokes with round caps): a tenth of the bytes of as many markers."""
    if not len(x):
        return
    reach = 1e-4 * (float(np.ptp(x)) or 1.0)
    vertices = np.stack([np.stack([x, y], -1), np.stack([x + reach, y], -1)], 1).reshape(-1, 2)
    outline = Outline(vertices, np.tile([Outline.MOVETO, Outline.LINETO], len(x)))
    outline.should_simplify = False
    axes.add_patch(PathPatch(outline, fc="none", ec=colour, lw=diameter, alpha=alpha, capstyle="round"))
    axes.autoscale_view()


def end_labels(axes: Axes, labels: Sequence[tuple[str, float, str]], gap: float = 11) -> None:
    """Names right of the lines' ends: ``(text, last y, colour)``, at least ``gap`` points apart."""
    to_points = 72 / axes.figure.dpi
    placed = sorted(
        (
            (float(axes.transData.transform((0, y))[1]) * to_points, text, colour)
            for text, y, colour in labels
        ),
        key=lambda item: item[0],
    )
    box = axes.get_window_extent()
    floor, roof = box.y0 * to_points, box.y1 * to_points
    heights: list[float] = []
    for height, *_ in placed:
        heights.append(max(height, heights[-1] + gap if heights else floor))
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], heights[index + 1] - gap if index + 1 < len(heights) else roof)
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        axes.annotate(
            text,
            xy=(1, (height - floor) / (roof - floor)),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )


def point_labels(axes: Axes, labels: Sequence[tuple[str, float, float, str]]) -> None:
    """Names beside points, ``(text, x, y, colour)``: right of each and above it, or on another side where a
    name or a point is already. The axes' scales and limits are final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout decides how far apart points are
    to_points = 72 / figure.dpi
    places = [axes.transData.transform((x, y)) * to_points for _, x, y, _ in labels]
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in places]
    for (text, x, y, colour), (left, foot) in zip(labels, places, strict=True):
        width, height = 4.6 * len(text), 9.0
        sides = [("left", 5, 3), ("left", 5, -11), ("right", -5, 3), ("right", -5, -11)]
        boxes = [
            Bbox.from_bounds(left + right - (width if side == "right" else 0), foot + up, width, height)
            for side, right, up in sides
        ]
        free = [place for place, box in enumerate(boxes) if not box.count_overlaps(taken)]
        chosen = min(free, default=0)
        side, right, up = sides[chosen]
        taken.append(boxes[chosen])
        offset, unit = (right, up), "offset points"
        axes.annotate(text, (x, y), offset, textcoords=unit, ha=side, color=colour, fontsize=8)


def to_svg(figure: Figure, name: str) -> Markup:
    """The ``<svg>`` element of a figure, for a page; its colours are the page's variables.

    Args:
        figure: made inside ``styled()``.
        name: unique on the page; so are then the ids that the drawing refers to.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    for size in ("width", "height", "version"):
        del root.attrib[size]  # the page decides how wide it is
    for element in root.iter():
        if element.tag in (f"{{{SVG}}}g", f"{{{SVG}}}image"):
            element.attrib.pop("id", None)  # nothing refers to it, and another drawing has the same
        for child in list(element):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                element.remove(child)
            child.tail = None
        if element.text and not element.text.strip():
            element.text = None
        if "d" in element.attrib:
            element.set("d", " ".join(map(_hundredths, element.attrib["d"].split())))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, variable in THEMED.items():
        text = text.replace(colour, f"var(--{variable})")
    return Markup(text)


def _hundredths(word: str) -> str:
    """A word of path data; a number to a hundredth of a point, which takes a third off a long run's page."""
    return word if word.isalpha() else f"{float(word):.2f}".rstrip("0").rstrip(".")


SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def to_file(figure: Figure, kind: str) -> bytes:
    """The bytes of an ``svg`` (text as shapes, so that it looks the same everywhere), ``pdf`` or ``png``, on
    white: the page it is put on may be dark.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, dpi=200, facecolor="white", metadata=dict.fromkeys(UNDATED[kind]))
    return buffer.getvalue()


UNDATED = {
    "svg": ("Date", "Creator"),
    "pdf": ("CreationDate", "Creator", "Producer"),
    "png": ("Software",),
}
"""Metadata that would make equal figures unequal files."""
