"""The pages of the documentation, and what stands in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "index.md"
"""The first page of the site: the README's, and the order of the others."""
DOCS = sorted({*(ROOT / "docs").rglob("*.md")} - {SITE})
EXAMPLES = sorted((ROOT / "examples").rglob("README.md"))
OTHERS = [ROOT / "benchmarks" / "README.md", ROOT / "benchmarks" / "published" / "README.md"]
PAGES = [ROOT / "README.md", *DOCS, *OTHERS, *EXAMPLES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """The fenced blocks of these languages ("": none is said)."""
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def prose(page):
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def commands(page):
    """The words of each line of the blocks; ``[RUN ...]`` without its brackets."""
    found = []
    for text in blocks(page, "", "bash", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(re.sub(r"\[(RUN) \.\.\.\]", r"\1", line), comments=True)
            except ValueError:  # not a command line: a formula, a message
                continue
            if words:
                found.append(words)
    return found
