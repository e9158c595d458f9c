"""HTML by string formatting. Every text from a file passes through ``text``; nothing active is written."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from fewstep.analysis.figures import style
from fewstep.analysis.report.panels import Panel


@dataclass(frozen=True)
class Markup:
    """HTML that is already safe."""

    html: str


def text(value: object) -> str:
    """Escape anything for use as text or inside a quoted attribute; ``Markup`` passes unchanged."""
    return value.html if isinstance(value, Markup) else escape(str(value), quote=True)


def swatch(index: int) -> Markup:
    """A dot in the colour of series ``index``."""
    return Markup(f'<i class="swatch" style="background:var(--s{index % len(style.SERIES)})"></i>')


def table(head: Sequence[str], rows: Iterable[Sequence[object]], align: str = "", caption: str = "") -> str:
    """A table that scrolls sideways inside its own box.

    ``align`` has one letter per column: ``l`` words, ``n`` numbers (right-aligned), ``w`` words that wrap.
    """
    letters = align or "l" * len(head)
    top = "".join(f'<th scope="col" class="{c}">{text(h)}</th>' for h, c in zip(head, letters, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{c}">{text(v)}</td>' for v, c in zip(row, letters, strict=True))
        + "</tr>\n"
        for row in rows
    )
    title = f'<p class="caption">{text(caption)}</p>\n' if caption else ""
    name = f' aria-label="{text(caption)}"' if caption else ""
    inside = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'{title}<div class="scroll"><table{name}>{inside}</table></div>\n'


def figure(panel: Panel) -> str:
    """A figure with its caption, and its small-screen twin where it has one."""
    kind = ' class="wide"' if panel.wide else ""
    drawing = panel.svg
    if panel.narrow:
        drawing = f'<div class="large">{panel.svg}</div><div class="small">{panel.narrow}</div>'
    caption = f"<figcaption>{text(panel.caption)}</figcaption>" if panel.caption else ""
    return f"<figure{kind}>{drawing}{caption}</figure>\n"


def figures(panels: Iterable[Panel]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">\n{"".join(figure(panel) for panel in panels)}</div>\n'


def heading(level: int, words: object, anchor: str = "") -> str:
    """A heading of level 1 to 4."""
    mark = f' id="{text(anchor)}"' if anchor else ""
    return f"<h{level}{mark}>{text(words)}</h{level}>\n"


def paragraph(words: object, kind: str = "") -> str:
    """A paragraph; ``kind`` is ``warn``, ``lead`` or ``note``."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{text(words)}</p>\n"


def bullets(items: Iterable[object], kind: str = "") -> str:
    """A list."""
    mark = f' class="{kind}"' if kind else ""
    return f"<ul{mark}>\n" + "".join(f"<li>{text(item)}</li>\n" for item in items) + "</ul>\n"


def details(title: object, body: str) -> str:
    """A collapsed block; ``body`` is HTML."""
    return f"<details><summary>{text(title)}</summary>\n{body}</details>\n"


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: str) -> str:
    """The whole file around a body of HTML."""
    body, shared = _classes(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{text(title)}</title>\n<style>\n{_css()}{shared}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _classes(body: str) -> tuple[str, str]:
    """Styles that many parts of the drawings share, as classes: half of a large page, and their rules.

    matplotlib writes every style in full and a sheet of its own into every drawing; nothing here comes from
    a run.
    """
    body, sheets = re.subn(r"<style type=\"text/css\">[^<]*</style>", "", body)
    found = Counter(re.findall(r'<(?:path|text|use)\b[^>]* style="([^"]*)"', body))
    names = {style: f"k{place}" for place, (style, times) in enumerate(found.most_common()) if times > 3}

    def named(match: re.Match[str]) -> str:
        return f'{match[1]} class="{names[match[2]]}"' if match[2] in names else match[0]

    body = re.sub(r'(<(?:path|text|use)\b[^>]*) style="([^"]*)"', named, body)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return body, ("svg *{stroke-linejoin:round;stroke-linecap:butt}\n" if sheets else "") + rules


def _css() -> str:
    light = {name: hue for hue, name in style.THEMED.items()} | {
        "paper": "#ffffff",
        "shade": "#f5f5f7",
        "alert": "#fff4e0",
    }
    dark = style.DARK | {"paper": "#16161a", "shade": "#212127", "alert": "#3a2e17"}
    variables = ["".join(f"--{name}:{hue};" for name, hue in theme.items()) for theme in (light, dark)]
    switch = f"@media (prefers-color-scheme:dark){{:root{{{variables[1]}}}}}"
    return f":root{{{variables[0]}{FONTS}}}\n{switch}\n{CSS}"


FONTS = "--font:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;"

CSS = """\
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 var(--font)}
main{max-width:68rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 1rem}
h2{font-size:1.3rem;margin:3rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--rule)}
h3{font-size:1.08rem;margin:2.25rem 0 .5rem}
h4{font-size:.95rem;margin:1.5rem 0 .35rem;color:var(--muted);font-weight:600}
h1,h2,h3,h4,td,summary,li,p{overflow-wrap:anywhere}
p,ul{max-width:46rem;margin:.6rem 0}
.lead{font-size:1.06rem}
.note{color:var(--muted);font-size:.9rem}
.warn{background:var(--alert);border-left:3px solid var(--s4);padding:.5rem .8rem}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
.caption{color:var(--muted);font-size:.9rem;margin:1.4rem 0 -.6rem}
th{font-weight:600;color:var(--muted);border-bottom:1px solid var(--muted);vertical-align:bottom}
th,td{padding:.32rem .8rem .32rem 0;text-align:left;vertical-align:top}
td{border-bottom:1px solid var(--rule);white-space:nowrap;overflow-wrap:normal}
.n{text-align:right}
.w{white-space:normal;overflow-wrap:anywhere;min-width:14rem}
td:first-child,th:first-child{position:sticky;left:0;background:var(--paper)}
details td,details th{background:none}
.swatch{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.45em}
.figures{display:grid;gap:1.25rem 1.75rem;margin:1rem 0}
.figures{grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}
.wide{grid-column:1/-1}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;overflow:visible}
figcaption{color:var(--muted);font-size:.86rem;line-height:1.4;margin-top:.15rem}
.small{display:none}
@media (max-width:640px){.large{display:none}.small{display:block}}
@media (max-width:640px){h1{font-size:1.4rem}main{padding-top:.75rem}}
details{border:1px solid var(--rule);border-radius:6px;margin:.75rem 0;padding:.45rem .8rem}
summary{cursor:pointer;font-weight:600}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media print{main{max-width:none}details{border:0}}
"""
