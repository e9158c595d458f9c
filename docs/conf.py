"""The site that ``make docs`` builds by Sphinx: these pages and the docstrings, without any network."""

import dataclasses
import inspect
import os
import re
import typing
from typing import Any

import jinja2
from sphinx.application import Sphinx

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # importing is all that is done
typing.GENERATING_DOCUMENTATION = "fewstep"  # jaxtyping shows shapes as they are written

import fewstep
from fewstep.algos import registry
from fewstep.config.settings import Section

project = "fewstep"
author = "The fewstep authors"
release = version = fewstep.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["package.md"]  # the README of package indexes
default_role = "code"
smartquotes = False  # `--set` is two hyphens
highlight_language = "none"  # of fences that name none: commands and formulas

myst_heading_anchors = 6  # links name headings as code hosts do

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_custom_sections = [("Attributes", "params_style")]  # a list; the types are in the signature
napoleon_use_rtype = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"fewstep {release}"
html_copy_source = html_show_sourcelink = html_domain_indices = False

ANNOTATIONS = (
    (r"~?[\w.]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]", "ArrayLike"),
    (
        r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[(.+?)\]\]",
        r"NDArray[\1]",
    ),
    (r"Annotated\[(.+?), ~?(?:fewstep\.config\.settings\.)?Range\([^()]*\)\]", r"\1"),
    (r"<factory>", "..."),
    (r"<function (\w+)>", r"\1"),
)
"""What autodoc makes of annotations and defaults, and how the source writes them."""


def sections(config: type[Section]) -> list[type[Section]]:
    """The class of an algorithm's settings, those of its sections, and what they inherit from."""
    found = [cls for cls in inspect.getmro(config) if issubclass(cls, Section) and cls is not Section]
    for field in dataclasses.fields(config):
        part = type(getattr(config(), field.name))
        if issubclass(part, Section):
            found += sections(part)
    return list(dict.fromkeys(found))


def path(cls: type) -> str:
    """As autodoc wants it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def list_algorithms(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill in the pages that list every algorithm, from the registry."""
    if page != "api/algorithms":
        return
    configs = {name: sections(registry.get(name).config) for name in registry.BUILT_IN}
    own = {
        name: [path(cls) for cls in found if name in cls.__module__.split(".")]
        for name, found in configs.items()
    }
    listed = {cls for found in own.values() for cls in found}
    every = dict.fromkeys(path(cls) for found in configs.values() for cls in found)
    source[0] = jinja2.Template(source[0]).render(
        entries=registry.entries(), own=own, shared=sorted(set(every) - listed)
    )


def as_written(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A signature with its shapes as the source has them."""

    def plain(text: str | None) -> str | None:
        for pattern, short in ANNOTATIONS if text else ():
            text = re.sub(pattern, short, text)
        return text

    return plain(signature), plain(returns)


def plain_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are text, not markup, but for ``code``: an indented paragraph is an equation, `|` a bar."""
    found: list[str] = []
    equation = False
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("    ") and not before and not equation:
            found += ["::", ""]
            equation = True
        elif line and not line.startswith("    "):
            equation = False
        found.append(line if equation else re.sub(r"(``.*?``)|\|", lambda bar: bar[1] or r"\|", line))
    lines[:] = found


def fields_of_tuples(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what ``NamedTuple`` says of each field; the class has its own words."""
    return type(obj).__name__ == "_tuplegetter" or None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", fields_of_tuples)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before napoleon
    app.connect("source-read", list_algorithms)
